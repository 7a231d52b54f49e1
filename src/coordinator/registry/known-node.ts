/** A node that has joined: what the store keeps of it, its open session if there is one, and the view that others get. */
import type { NodeState } from "../../domain/node.ts";
import type { NodeRecord } from "../../ports/store.ts";
import type { NodeView } from "../roster.ts";
import { CLOCK_SKEW_MS_MAX, type NodeSession } from "./node-session.ts";

export class KnownNode {
  record: NodeRecord;
  session: NodeSession | null = null;
  /** Monotonic time of the last message, kept over sessions. */
  lastMessageMonoMs: number;
  #view: NodeView | null = null;

  constructor(record: NodeRecord, nowMs: number) {
    this.record = record;
    this.lastMessageMonoMs = nowMs;
  }

  /** See the table in domain/node.ts. */
  get state(): NodeState {
    if (this.session === null) return "offline";
    if (this.session.verdict !== "alive") return "suspect";
    return this.record.isDraining || this.session.isLeaving ? "draining" : "online";
  }

  /** New work may go there. */
  get isPlannable(): boolean {
    return this.state === "online" && this.session?.isYielding === false;
  }

  /** What `view` showed no longer holds. */
  touch(): void {
    this.#view = null;
  }

  view(): NodeView {
    this.#view ??= this.#makeView();
    return this.#view;
  }

  #makeView(): NodeView {
    const { record, session } = this;
    return {
      nodeId: record.nodeId,
      publicKeyHex: record.publicKeyHex,
      name: record.name,
      state: this.state,
      isYielding: session?.isYielding ?? false,
      capabilities: record.capabilities,
      replicas: session?.replicas ?? [],
      rttMs: session?.rttMs ?? null,
      region: session?.region ?? null,
      priceMicroUsdPerHour: session?.priceMicroUsdPerHour ?? null,
      network: session?.network ?? null,
      owner: session?.owner ?? null,
      lastMessageMonoMs: session?.lastHeardMs ?? this.lastMessageMonoMs,
      joinedAtMs: record.joinedAtMs,
      warnings: session === null ? [] : warningsOf(session),
    };
  }
}

function warningsOf({ clockSkewMs }: NodeSession): readonly string[] {
  if (Math.abs(clockSkewMs) <= CLOCK_SKEW_MS_MAX) return [];
  const seconds = Math.round(Math.abs(clockSkewMs) / 1_000);
  return [`its clock is ${seconds} s ${clockSkewMs > 0 ? "ahead" : "behind"}: set the time on that machine (NTP)`];
}
