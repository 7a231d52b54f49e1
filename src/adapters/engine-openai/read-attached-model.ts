/** What the catalogue's file says of its model; its head is enough. */
import { createHash } from "node:crypto";
import { FallowError } from "../../domain/fault.ts";
import type { ModelManifest } from "../../domain/model.ts";
import { readManifest } from "../../weights/model-reader.ts";
import { type FileByteSource, openFileByteSource } from "../tokenizer-llama/file-byte-source.ts";
import { filesOfModel } from "../tokenizer-llama/tokenizer-host.ts";

export type AttachedModelFacts = Pick<ModelManifest, "vocabSize" | "embeddingLength" | "parameterCount">;

/** Of a split model all files are looked at. Throws `tokenizer-unusable`. */
export async function readAttachedModel(weightsPath: string): Promise<AttachedModelFacts> {
  const sources: FileByteSource[] = [];
  try {
    for (const path of filesOfModel(weightsPath)) sources.push(await openFileByteSource(path));
    const model = await readManifest(sources, (data) => createHash("sha256").update(data).digest());
    if (model.ok) return model.value.manifest;
    throw new FallowError("tokenizer-unusable", `${weightsPath}: ${model.reason.message}`);
  } finally {
    for (const source of sources) await source.close();
  }
}
