/** How requests ended, and what a run's figures are made of. */
import { createHash } from "node:crypto";
import { assert } from "../../../domain/assert.ts";
import type { ChurnPoint } from "../churn-report.ts";
import type { Running } from "../grid/grid-parts.ts";
import { TIER_BOUNDS } from "./tier-bounds.ts";

export type Fate = "answered" | "failed" | "refused";

const WINDOW_MS = 600_000;

export class Fates {
  readonly #hash = createHash("sha256");
  readonly #counts: Record<Fate, number> = { answered: 0, failed: 0, refused: 0 };
  readonly #windowTokens: number[] = [];
  readonly #points: ChurnPoint[] = [];
  #goodTokens = 0;
  #withinBounds = 0;
  #hops = 0;
  #cold = 0;
  #lostTokens = 0;

  /** Every request ends here, once. */
  end(running: Running, fate: Fate, nowMs: number): void {
    assert(running.state !== "ended", `request ${running.number} ends once`);
    running.state = "ended";
    running.endedAtMs = nowMs;
    this.#counts[fate] += 1;
    if (running.wasCold) this.#cold += 1;
    this.#hash.update(`${running.number} ${fate} ${nowMs.toFixed(3)} ${running.troubles}\n`);
    if (fate !== "answered") return;
    this.#hops += running.path.length;
    if (!isWithinBounds(running, nowMs)) return;
    this.#withinBounds += 1;
    this.#goodTokens += running.draw.outputTokens;
    const window = Math.max(0, Math.floor(nowMs / WINDOW_MS));
    this.#windowTokens[window] = (this.#windowTokens[window] ?? 0) + running.draw.outputTokens;
  }

  lost(tokens: number): void {
    this.#lostTokens += tokens;
  }

  window(atMs: number, of: { nodesUp: number; waiting: number }): void {
    const index = Math.round(atMs / WINDOW_MS);
    const tokens = this.#windowTokens[index - 1] ?? 0;
    this.#points.push({ atMinutes: atMs / 60_000, goodputTokPerSecond: (1_000 * tokens) / WINDOW_MS, ...of });
  }

  static readonly windowMs = WINDOW_MS;

  figures(requests: number, durationMs: number) {
    const { answered, failed, refused } = this.#counts;
    assert(
      answered + failed + refused === requests,
      `each of ${requests} requests ended: ${JSON.stringify(this.#counts)}`,
    );
    return {
      goodputTokPerSecond: (1_000 * this.#goodTokens) / durationMs,
      sloAttainment: requests === 0 ? 1 : this.#withinBounds / requests,
      completed: answered,
      failed,
      refused,
      coldStarts: this.#cold,
      lostTokens: Math.round(this.#lostTokens),
      hopsMean: answered === 0 ? 0 : this.#hops / answered,
    };
  }

  points(): readonly ChurnPoint[] {
    return this.#points;
  }

  digest(more: string): string {
    return this.#hash.copy().update(more).digest("hex");
  }
}

function isWithinBounds(running: Running, nowMs: number): boolean {
  const { draw, firstTokenAtMs } = running;
  const bounds = TIER_BOUNDS[draw.tier];
  if (firstTokenAtMs === null || firstTokenAtMs - draw.atMs > bounds.firstTokenMs) return false;
  const rest = draw.outputTokens - 1;
  return rest === 0 || (nowMs - firstTokenAtMs) / rest <= bounds.perTokenMs;
}
