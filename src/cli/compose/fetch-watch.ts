/** Tells an owner how far fetching is: how fast, and from whom. */
import type { FetchedView, TransferView } from "../../agent/cache/swarm/weights-swarm.ts";
import type { AgentEvent } from "./agent-events.ts";

/** As often as an eye reads a rate. */
const TELL_MS = 1_000;
/** Weight of the newest second. */
const NEWEST_WEIGHT = 0.4;

interface Known {
  toldMs: number;
  bytes: number;
  bytesPerSecond: number;
}

export class FetchWatch {
  readonly #onEvent: (event: AgentEvent) => void;
  readonly #known = new Map<string, Known>();

  constructor(onEvent: (event: AgentEvent) => void) {
    this.#onEvent = onEvent;
  }

  look(transfers: readonly TransferView[], nowMs: number): void {
    const running = new Set<string>(transfers.map(({ weightsSha256 }) => weightsSha256));
    for (const digest of this.#known.keys()) if (!running.has(digest)) this.#known.delete(digest);
    for (const transfer of transfers) this.#tell(transfer, nowMs);
  }

  #tell(transfer: TransferView, nowMs: number): void {
    const { weightsSha256, label, doneBytes, neededBytes, peerBytes, sourceBytes, peers } = transfer;
    const known = this.#known.get(weightsSha256);
    const bytes = peerBytes + sourceBytes;
    if (known === undefined) {
      this.#known.set(weightsSha256, { toldMs: nowMs, bytes, bytesPerSecond: 0 });
      return;
    }
    const spentMs = nowMs - known.toldMs;
    if (spentMs < TELL_MS) return;
    const rate = Math.max(0, ((bytes - known.bytes) / spentMs) * 1_000);
    const bytesPerSecond =
      known.bytesPerSecond === 0 ? rate : known.bytesPerSecond + NEWEST_WEIGHT * (rate - known.bytesPerSecond);
    Object.assign(known, { toldMs: nowMs, bytes, bytesPerSecond });
    const sourceShare = bytes === 0 ? 0 : sourceBytes / bytes;
    this.#onEvent({
      event: "fetching",
      weightsSha256,
      label,
      doneBytes,
      totalBytes: neededBytes,
      bytesPerSecond: Math.round(bytesPerSecond),
      peers,
      sourceShare: Math.round(sourceShare * 1_000) / 1_000,
    });
  }
}

/** Nothing when all lay here already. */
export function tellFetched(fetched: FetchedView, onEvent: (event: AgentEvent) => void): void {
  const { weightsSha256, label, peerBytes, sourceBytes, nodes, tookMs, uploadedBytes } = fetched;
  const bytes = peerBytes + sourceBytes;
  if (bytes === 0) return;
  const peerShare = Math.round((peerBytes / bytes) * 1_000) / 1_000;
  onEvent({ event: "fetched", weightsSha256, label, bytes, tookMs, peerShare, nodes, uploadedBytes });
}
