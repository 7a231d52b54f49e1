/**
 * What a token's way around the chain takes without drafts, learnt from passes that had some or none. Prompts are not counted. A loop that took several
 * times the usual (a packet lost, a stage that did something else) counts as no more than thrice it.
 */

/** Share of a measurement in the running mean. */
const SMOOTHING = 0.2;
const OUTLIER_FACTOR = 3;
/** Stages report their times once a second; until then a draft is taken to cost this share of a loop. */
const DRAFT_SHARE_UNKNOWN = 0.25;

export class LoopMeter {
  #loopMs: number | null = null;

  /** Null before the first. */
  get loopMs(): number | null {
    return this.#loopMs;
  }

  note(loop: { readonly tookMs: number; readonly drafts: number; readonly draftMs: number | null }): void {
    const { tookMs, drafts } = loop;
    const draftMs = loop.draftMs ?? (tookMs * DRAFT_SHARE_UNKNOWN) / (1 + drafts * DRAFT_SHARE_UNKNOWN);
    // A loop is no shorter than what its single decodes take.
    const plainMs = Math.max(tookMs - drafts * draftMs, tookMs / (1 + drafts));
    if (this.#loopMs === null) {
      this.#loopMs = plainMs;
      return;
    }
    this.#loopMs += SMOOTHING * (Math.min(plainMs, OUTLIER_FACTOR * this.#loopMs) - this.#loopMs);
  }

  /** Null before a loop was measured. `generating` sequences are in as many groups as there are stages, at most. */
  times(chain: {
    readonly stageMs: { readonly slowestMs: number; readonly sumMs: number } | null;
    readonly generating: number;
    readonly stages: number;
  }): { readonly loopMs: number; readonly draftMs: number; readonly slowestMs: number } | null {
    if (this.#loopMs === null) return null;
    const groups = Math.max(1, Math.min(chain.generating, chain.stages));
    const { stageMs } = chain;
    if (stageMs === null) {
      const draftMs = this.#loopMs * DRAFT_SHARE_UNKNOWN;
      return { loopMs: this.#loopMs, draftMs, slowestMs: (draftMs * groups) / chain.stages };
    }
    return { loopMs: this.#loopMs, draftMs: stageMs.sumMs, slowestMs: stageMs.slowestMs * groups };
  }
}
