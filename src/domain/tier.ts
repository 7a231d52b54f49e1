/** Service tiers carry OpenAI's own field and values; see DESIGN of tiers in docs/. `auto` is a wish, never what served. */
export const REQUESTED_TIERS = ["auto", "default", "flex", "priority"] as const;
export type RequestedTier = (typeof REQUESTED_TIERS)[number];
export const SERVICE_TIERS = ["priority", "default", "flex"] as const;
export type ServiceTier = (typeof SERVICE_TIERS)[number];

/** What each tier promises, for `/v1/models`, quotes and docs/tiers.md. */
export const TIER_PROMISES: Readonly<Record<ServiceTier, string>> = {
  priority:
    "served first, hedged on a second node when its first token is late, never preempted; may overflow to the cloud",
  default: "served before flex; on the grid unless the request allows the cloud",
  flex: "served when nobody else wants the slot: may wait long, gives way and resumes; refused uncharged when it cannot start",
};

export function tierFor(requested: RequestedTier): ServiceTier {
  return requested === "auto" ? "default" : requested;
}
