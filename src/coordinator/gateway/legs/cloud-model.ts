/**
 * A model that only cloud providers have: no file, so neither vocabulary nor template nor manifest. Its receipts name it by a digest of its
 * name, as there are no weights here to name.
 */
import { type ModelId, type Sha256Hex, sha256Hex } from "../../../domain/ids.ts";
import { toHex } from "../../../market/hex.ts";
import type { CloudOffer } from "../../../ports/cloud.ts";
import type { Crypto } from "../../../ports/crypto.ts";

export interface CloudModel {
  readonly manifest: { readonly modelId: ModelId; readonly weightsSha256: Sha256Hex };
  readonly tokenizer: null;
  readonly vocabulary: null;
  /** At least one. */
  readonly offers: readonly CloudOffer[];
}

export function cloudModel(modelId: ModelId, by: { offers: readonly CloudOffer[]; crypto: Crypto }): CloudModel {
  const digest = by.crypto.sha256(new TextEncoder().encode(`fallow-cloud-model-v1|${modelId}`));
  return {
    manifest: { modelId, weightsSha256: sha256Hex(toHex(digest)) },
    tokenizer: null,
    vocabulary: null,
    offers: by.offers,
  };
}

/** The largest of any provider; which of them may take a request is decided later. */
export function cloudContextTokensMax({ offers }: CloudModel): number {
  return Math.max(...offers.map(({ model }) => model.contextTokensMax));
}
