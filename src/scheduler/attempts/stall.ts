/**
 * Tells a slow or hung attempt from one that merely works. Intuition: a replica that gave a token every 20 ms and then none
 * for three seconds is stuck, while one that needs a second for each token is just slow; so the bound follows what was learnt
 * of this attempt, above a floor that a loaded machine's scheduling noise does not reach.
 *
 * A stall is a reason to move only when another replica could take the stream: the caller checks that, so a busy lone node is
 * never punished. A hung engine is also caught by its own watchdog on the node, and a dead node by its silence; this catches
 * what both miss. A lease's time to live is the bound that holds without any alternative.
 */
export interface StallBounds {
  /** Silence before the first token of a short prompt. */
  readonly firstTokenFloorMs: number;
  /** On top, for each token of the prompt that the node had to decode. */
  readonly firstTokenPerPromptTokenMs: number;
  /** Silence between tokens. */
  readonly gapFloorMs: number;
  /** A gap this many times longer than the usual one is a stall. */
  readonly gapFactor: number;
}

/**
 * Floors: past the time in which a silent node is suspected (domain/node.ts), so that its silence goes by its own name. A
 * prompt token takes under 1.5 ms on one CPU core (engines reference), doubled for luck.
 */
export const STALL_BOUNDS: StallBounds = {
  firstTokenFloorMs: 3_000,
  firstTokenPerPromptTokenMs: 3,
  gapFloorMs: 3_000,
  gapFactor: 12,
};

/** Weight of the newest gap in the usual one. */
const GAP_WEIGHT = 0.1;

export interface TokenPace {
  readonly startedAtMs: number;
  readonly lastTokenAtMs: number | null;
  /** Usual time between chunks; null before the second. */
  readonly usualGapMs: number | null;
}

export function startPace(nowMs: number): TokenPace {
  return { startedAtMs: nowMs, lastTokenAtMs: null, usualGapMs: null };
}

export function afterToken(pace: TokenPace, nowMs: number): TokenPace {
  if (pace.lastTokenAtMs === null) return { ...pace, lastTokenAtMs: nowMs };
  const gapMs = nowMs - pace.lastTokenAtMs;
  const usualGapMs = pace.usualGapMs === null ? gapMs : pace.usualGapMs + GAP_WEIGHT * (gapMs - pace.usualGapMs);
  return { ...pace, lastTokenAtMs: nowMs, usualGapMs };
}

/** When this attempt counts as stalled if no token comes before. */
export function stalledAtMs(pace: TokenPace, prompt: { tokens: number }, bounds: StallBounds): number {
  if (pace.lastTokenAtMs === null) {
    return pace.startedAtMs + bounds.firstTokenFloorMs + prompt.tokens * bounds.firstTokenPerPromptTokenMs;
  }
  return pace.lastTokenAtMs + Math.max(bounds.gapFloorMs, bounds.gapFactor * (pace.usualGapMs ?? 0));
}
