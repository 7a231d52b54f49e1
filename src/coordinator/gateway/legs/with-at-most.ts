import type { AttemptRecord } from "../../../domain/attempt.ts";

/** The first `tokensMax` tokens belong to the first attempts; what later ones sent beyond is not acknowledged. */
export function withAtMost(attempts: readonly AttemptRecord[], tokensMax: number): readonly AttemptRecord[] {
  let left = tokensMax;
  return attempts.map((attempt) => {
    const acknowledgedTokens = Math.min(attempt.acknowledgedTokens, left);
    left -= acknowledgedTokens;
    return acknowledgedTokens === attempt.acknowledgedTokens ? attempt : { ...attempt, acknowledgedTokens };
  });
}
