/** Service tiers carry OpenAI's own field and values; see DESIGN of tiers in docs/. `auto` is a wish, never what served. */
export const REQUESTED_TIERS = ["auto", "default", "flex", "priority"] as const;
export type RequestedTier = (typeof REQUESTED_TIERS)[number];
export const SERVICE_TIERS = ["priority", "default", "flex"] as const;
export type ServiceTier = (typeof SERVICE_TIERS)[number];

export function tierFor(requested: RequestedTier): ServiceTier {
  return requested === "auto" ? "default" : requested;
}
