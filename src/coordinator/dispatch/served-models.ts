import type { ModelId, Sha256Hex } from "../../domain/ids.ts";
import type { ModelManifest } from "../../domain/model.ts";

/** What dispatch needs of the model catalogue. */
export interface ServedModel {
  readonly manifest: ModelManifest;
  /** False while nodes cannot be given it: an older version registered it, and its manifest of weights is being made. */
  readonly isDescribed?: boolean;
  readonly tokenizer: { readonly vocabSize: number; readonly stopTokenIds: readonly number[] };
}

export interface ServedModels {
  get(modelId: ModelId): ServedModel | null;
  byWeights(weightsSha256: Sha256Hex): ServedModel | null;
  /** Sorted by model id. */
  list(): readonly ServedModel[];
}
