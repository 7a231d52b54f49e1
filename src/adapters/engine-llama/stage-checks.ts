/** What a pass and a way of sampling must be before they reach native code, and the pass as its process takes it. */
import type { GenerateTask } from "../../ports/engine.ts";
import type { StageEngineInfo, StageFailure, StagePass } from "../../ports/stage-engine.ts";
import { WIRE_BYTES } from "./hidden-states.ts";
import type { PassCommand } from "./stage-protocol.ts";

export interface StageRefusal {
  readonly code: StageFailure;
  readonly message: string;
}

/** Why a pass is not carried out, or null. */
export function passRefusal(
  pass: StagePass,
  { info, held }: { readonly info: StageEngineInfo; readonly held: number },
): StageRefusal | null {
  const { start, count, draw } = pass;
  const last = start + count - 1;
  if (!Number.isInteger(start) || !Number.isInteger(count) || start < 0 || count < 1 || last >= info.contextTokens) {
    const message = `positions ${start} to ${last} are not among the context's ${info.contextTokens}`;
    return { code: "position-wrong", message };
  }
  if (start > held) return { code: "position-wrong", message: `a pass begins at position ${start}, ${held} are held` };
  const drafts = draw?.draftIds ?? [];
  if (drafts.length >= count) {
    const message = `${drafts.length} drafts in a pass of ${count} positions: one position stands before them`;
    return { code: "position-wrong", message };
  }
  return inputRefusal(pass, info) ?? (info.share.hasOutput ? tokensRefusal(drafts, info.vocabSize) : null);
}

function inputRefusal({ input, count }: StagePass, info: StageEngineInfo): StageRefusal | null {
  const { hasEmbedding } = info.share;
  if (input.kind === "tokens") {
    if (!hasEmbedding || input.tokenIds.length !== count) {
      const message = `${input.tokenIds.length} token ids for ${count} positions of a stage that takes ${wants(info)}`;
      return { code: "position-wrong", message };
    }
    return tokensRefusal(input.tokenIds, info.vocabSize);
  }
  const bytes = count * info.embeddingLength * WIRE_BYTES[input.format];
  if (!hasEmbedding && input.data.length === bytes) return null;
  const message = `${input.data.length} bytes of hidden states for ${count} positions of a stage that takes ${wants(info)}, ${bytes} bytes`;
  return { code: "activations-broken", message };
}

function wants({ share, embeddingLength }: StageEngineInfo): string {
  return share.hasEmbedding ? "token ids" : `hidden states of ${embeddingLength} elements`;
}

/** Why a sequence cannot sample so, or null. */
export function samplingRefusal(task: GenerateTask, { share, vocabSize }: StageEngineInfo): StageRefusal | null {
  if (!share.hasOutput)
    return { code: "position-wrong", message: "this stage does not sample: it is not the last one" };
  const biased = task.sampling.logitBias.map(([tokenId]) => tokenId);
  return tokensRefusal(task.tokenIds, vocabSize) ?? tokensRefusal(biased, vocabSize);
}

function tokensRefusal(tokenIds: readonly number[], vocabSize: number): StageRefusal | null {
  const outside = tokenIds.find((tokenId) => !Number.isInteger(tokenId) || tokenId < 0 || tokenId >= vocabSize);
  if (outside === undefined) return null;
  return { code: "token-out-of-vocabulary", message: `token ${outside} is not below ${vocabSize}` };
}

export function passCommand(pass: StagePass, to: { readonly slot: number; readonly key: number }): PassCommand {
  const { input, draw, how, tag, start, count } = pass;
  return {
    kind: "pass",
    slot: to.slot,
    key: to.key,
    tag,
    start,
    count,
    isTogether: how === "together",
    tokenIds: input.kind === "tokens" ? Int32Array.from(input.tokenIds) : null,
    hidden: input.kind === "hidden" ? input.data : null,
    format: input.kind === "hidden" ? input.format : "f32",
    draftIds: draw === null ? null : Int32Array.from(draw.draftIds),
    wantsLogits: pass.wantsLogits === true,
  };
}
