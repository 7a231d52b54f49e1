/**
 * A model's draft: a small model that guesses what the large one will say, on the first stage of a chain (docs/speculation.md). It must speak in the same
 * tokens, and be so much smaller that guessing costs little beside what it saves.
 */
import type { ModelId } from "../../domain/ids.ts";
import type { ModelManifest } from "../../domain/model.ts";
import { type Refusal, refuse } from "../../domain/refusal.ts";

/** Of the model's parameters, at most: a larger draft takes the time that it saves. */
export const DRAFT_PARAMETERS_SHARE_MAX = 0.5;

/** What a stage order names of a draft (`StageOrder.draft`). */
export interface DraftChoice {
  readonly modelId: ModelId;
  readonly weightsSha256: ModelManifest["weightsSha256"];
  readonly fileBytes: number;
}

type Drafting = Pick<ModelManifest, "modelId" | "tokenizerSha256" | "vocabSize" | "parameterCount">;

/** Says why a model cannot draft for another; null when it can. */
export function draftRefusal(model: Drafting, draft: Drafting | null, named: string): Refusal | null {
  if (draft === null) return because(`no model is called ${JSON.stringify(named)}: add the draft model first`);
  const who = `${draft.modelId} cannot draft for ${model.modelId}`;
  if (draft.modelId === model.modelId) return because(`${who}: it is the model itself`);
  if (draft.vocabSize !== model.vocabSize) {
    return because(`${who}: it has ${draft.vocabSize} tokens, the model has ${model.vocabSize}`);
  }
  if (draft.tokenizerSha256 !== model.tokenizerSha256) {
    return because(`${who}: its tokens are others, although there are as many`);
  }
  if (draft.parameterCount > DRAFT_PARAMETERS_SHARE_MAX * model.parameterCount) {
    const most = Math.floor(DRAFT_PARAMETERS_SHARE_MAX * model.parameterCount);
    return because(`${who}: it has ${draft.parameterCount} parameters, at most ${most} would be of use`);
  }
  return null;
}

/** The draft that the first stage of a chain is told of; null when the model has none, or it is not there any more. */
export function draftOf(
  modelId: ModelId,
  catalogue: { get(modelId: ModelId): { readonly manifest: ModelManifest; readonly isDescribed?: boolean } | null },
): DraftChoice | null {
  const model = catalogue.get(modelId)?.manifest;
  const draft = model?.draftModelId === undefined ? null : catalogue.get(model.draftModelId);
  if (model === undefined || draft == null || draft.isDescribed === false) return null;
  // It may have been removed and another added under its name.
  if (draftRefusal(model, draft.manifest, draft.manifest.modelId) !== null) return null;
  const { weightsSha256, fileBytes } = draft.manifest;
  return { modelId: draft.manifest.modelId, weightsSha256, fileBytes };
}

function because(message: string): Refusal {
  return refuse("invalid-request", message, { param: "draftModelId" }).reason;
}
