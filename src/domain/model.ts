import type { ModelId, Sha256Hex } from "./ids.ts";
import type { TokenPrice } from "./money.ts";

/** Everything the grid knows of a model, read from its file; never typed in by hand except id, price and warm copies. */
export interface ModelManifest {
  readonly modelId: ModelId;
  readonly weightsSha256: Sha256Hex;
  readonly fileBytes: number;
  readonly name: string;
  /** `general.architecture` of the GGUF, e.g. `llama`. */
  readonly architecture: string;
  /** Field's name of the main tensor type, e.g. `Q8_0`, `Q4_K_M`. */
  readonly quantisation: string;
  readonly parameterCount: number;
  readonly layerCount: number;
  readonly embeddingLength: number;
  readonly headCount: number;
  readonly headCountKv: number;
  readonly vocabSize: number;
  readonly contextTokensMax: number;
  /** Bytes of f16 KV cache for one token over all layers. */
  readonly kvBytesPerToken: number;
  readonly chatTemplate: string | null;
  readonly chatTemplateSha256: Sha256Hex | null;
  readonly tokenizerSha256: Sha256Hex;
  readonly licence: string | null;
  readonly price: TokenPrice;
  /** Replicas that the grid keeps ready without demand. */
  readonly warmReplicas: number;
  readonly addedAtMs: number;
  /** Reference from which its files can be fetched again (docs/models.md); absent when the operator gave them. */
  readonly source?: string;
  /** A small model with the same tokens that drafts for it in a chain; absent where it has none. */
  readonly draftModelId?: ModelId;
}
