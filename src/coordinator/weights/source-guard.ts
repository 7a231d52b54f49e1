/** Bounds of the source: how much of it runs at once, for all nodes and for one, and how often small things are asked for. */
import type { NodeId } from "../../domain/ids.ts";

/** Downloads at once, all nodes together; each holds a file handle and a buffer. */
export const DOWNLOADS_MAX = 64;
/** Of these, by one node. */
export const DOWNLOADS_PER_NODE_MAX = 4;
/** Of all, those for weights that nobody waits for yet. */
export const IDLE_DOWNLOADS_MAX = 8;
/** Manifests and digests: a node asks for each once for a model, and again when it starts again. */
export const DESCRIPTIONS_PER_MINUTE_MAX = 60;

const MINUTE_MS = 60_000;

export class SourceGuard {
  readonly #running = new Map<NodeId, number>();
  readonly #descriptions = new Map<NodeId, { sinceMs: number; count: number }>();
  #count = 0;
  #idle = 0;

  get running(): number {
    return this.#count;
  }

  /** Null when there is no place; else what gives it back, which may be called twice. */
  enter(nodeId: NodeId, isIdle: boolean): (() => void) | null {
    const own = this.#running.get(nodeId) ?? 0;
    if (this.#count >= DOWNLOADS_MAX || own >= DOWNLOADS_PER_NODE_MAX) return null;
    if (isIdle && this.#idle >= IDLE_DOWNLOADS_MAX) return null;
    this.#change(nodeId, isIdle, 1);
    let isIn = true;
    return () => {
      if (isIn) this.#change(nodeId, isIdle, -1);
      isIn = false;
    };
  }

  /** False when the node asks for more manifests and digests than it can need. */
  mayDescribe(nodeId: NodeId, nowMs: number): boolean {
    const known = this.#descriptions.get(nodeId);
    const window = known === undefined || nowMs - known.sinceMs >= MINUTE_MS ? { sinceMs: nowMs, count: 0 } : known;
    window.count += 1;
    this.#descriptions.delete(nodeId);
    this.#descriptions.set(nodeId, window);
    // The one at the head asked longest ago.
    for (const [other, { sinceMs }] of this.#descriptions) {
      if (nowMs - sinceMs < MINUTE_MS) break;
      this.#descriptions.delete(other);
    }
    return window.count <= DESCRIPTIONS_PER_MINUTE_MAX;
  }

  #change(nodeId: NodeId, isIdle: boolean, by: 1 | -1): void {
    const own = (this.#running.get(nodeId) ?? 0) + by;
    if (own === 0) this.#running.delete(nodeId);
    else this.#running.set(nodeId, own);
    this.#count += by;
    if (isIdle) this.#idle += by;
  }
}
