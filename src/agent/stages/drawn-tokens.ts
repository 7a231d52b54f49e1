/** What a last stage says that it drew, before the first stage feeds it: one that cannot be would make the first stage's own engine fail. */
import type { StageEngineInfo } from "../../ports/stage-engine.ts";
import type { WireProblem } from "./stage-wire.ts";
import type { TokensEntry } from "./tail-desk.ts";

/** Null when all of it can be fed. */
export function drawnProblem(
  entries: readonly TokensEntry[],
  { vocabSize, contextTokens }: Pick<StageEngineInfo, "vocabSize" | "contextTokens">,
): WireProblem | null {
  for (const { sequence, position, tokenIds, end } of entries) {
    const outside = tokenIds.find((tokenId) => tokenId >= vocabSize);
    if (outside !== undefined) {
      const message = `token ${outside} of ${sequence}, the vocabulary has ${vocabSize}`;
      return { code: "token-out-of-vocabulary", message };
    }
    const after = position + tokenIds.length;
    // With an end the last of them is never fed.
    if (end === null && after > contextTokens) {
      const message = `${sequence} goes on at position ${after} in a context of ${contextTokens}`;
      return { code: "position-wrong", message };
    }
  }
  return null;
}
