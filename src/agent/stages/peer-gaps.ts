/**
 * How long other nodes were silent at the longest, of late. Kept over a chain's epochs: a machine that is slow now and then is not given up for it
 * again and again, and one that was always heard quickly is given up soon.
 */
import { GAP_HALF_LIFE_MS, GAP_MS_START, SILENT_MS, SILENT_MS_MIN, SILENT_TIMES } from "./stage-bounds.ts";

/** Nodes that are remembered: a chain has tens of stages, and a stage two neighbours. */
const PEERS_MAX = 64;

export class PeerGaps {
  readonly #byKey = new Map<string, { readonly gapMs: number; readonly atMs: number }>();

  /** It was heard after so long. A silence beyond the bound ends a neighbour's place, or was nobody's fault: it is no measure. */
  note(key: string, { gapMs, nowMs }: { readonly gapMs: number; readonly nowMs: number }): void {
    const faded = this.#faded(key, nowMs);
    this.#keep(key, { gapMs: gapMs <= SILENT_MS ? Math.max(faded, gapMs) : faded, atMs: nowMs });
  }

  /** It was given up. When it was only slow, it is not the next time. */
  forgive(key: string, nowMs: number): void {
    this.#keep(key, { gapMs: SILENT_MS / SILENT_TIMES, atMs: nowMs });
  }

  /** Silent for longer it is given up. */
  boundMs(key: string, nowMs: number): number {
    return Math.min(SILENT_MS, Math.max(SILENT_MS_MIN, SILENT_TIMES * this.#faded(key, nowMs)));
  }

  #faded(key: string, nowMs: number): number {
    const known = this.#byKey.get(key);
    return known === undefined ? GAP_MS_START : known.gapMs * 2 ** ((known.atMs - nowMs) / GAP_HALF_LIFE_MS);
  }

  #keep(key: string, gap: { readonly gapMs: number; readonly atMs: number }): void {
    this.#byKey.delete(key);
    this.#byKey.set(key, gap);
    const [oldest] = this.#byKey.keys();
    if (this.#byKey.size > PEERS_MAX && oldest !== undefined) this.#byKey.delete(oldest);
  }
}
