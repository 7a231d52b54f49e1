/**
 * What the grid must know of a model, read from its GGUF: sizes for placement, the template, the tokeniser's digest. A file
 * that the engine could not run is refused here, with the reason, before anything is stored or sent.
 */
import { toHex } from "../domain/hex.ts";
import { type Sha256Hex, sha256Hex } from "../domain/ids.ts";
import type { ModelManifest } from "../domain/model.ts";
import { no, type Outcome, ok } from "../domain/refusal.ts";
import { ARCHITECTURES } from "./architectures.ts";
import type { ByteSource } from "./byte-source.ts";
import type { GgufHeader, GgufTensor } from "./gguf-header.ts";
import { readGgufHeader } from "./gguf-reader.ts";
import { GgufProblem, type GgufRefusal } from "./gguf-refusal.ts";
import { tokenizerOnlyGguf } from "./gguf-writer.ts";
import { Metadata } from "./metadata.ts";
import { checkTensors, readShape } from "./model-shape.ts";
import { quantisationOf } from "./quantisation.ts";
import { joinSplit } from "./split-gguf.ts";
import { checkVocabulary } from "./vocabulary-check.ts";

/** The fields of a manifest that come from the file. */
export type FileManifest = Omit<
  ModelManifest,
  "modelId" | "weightsSha256" | "price" | "warmReplicas" | "addedAtMs" | "source"
>;

export interface ReadModel {
  readonly manifest: FileManifest;
  /** Metadata of the first file, tensors of all; a tensor's offset counts from the start of its own file. */
  readonly header: GgufHeader;
  /** Of each file, in order. */
  readonly headers: readonly GgufHeader[];
  /** A GGUF of the vocabulary alone; its digest is the manifest's `tokenizerSha256`. */
  readonly tokenizer: Uint8Array;
}

const TEMPLATE_BYTES_MAX = 1024 * 1024;
const NAME_CHARACTERS_MAX = 200;

/**
 * Reads a model of one file, or of all files of a split one in their order; `names` are theirs, and checked when given.
 * `sha256` comes from the Crypto port. Rejects only when a source's `read` does.
 */
export async function readManifest(
  files: ByteSource | readonly ByteSource[],
  sha256: (data: Uint8Array) => Uint8Array,
  names: readonly string[] | null = null,
): Promise<Outcome<ReadModel, GgufRefusal>> {
  const headers: GgufHeader[] = [];
  for (const [index, source] of ("read" in files ? [files] : files).entries()) {
    const header = await readGgufHeader(source);
    if (!header.ok)
      return no(names === null ? header.reason : inFile(header.reason, names[index] ?? `file ${index + 1}`));
    headers.push(header.value);
  }
  try {
    const header = joinSplit(headers, names);
    return ok({ ...manifestOf(header, sha256), headers });
  } catch (problem) {
    if (problem instanceof GgufProblem) return no(problem.refusal);
    throw problem;
  }
}

function manifestOf(header: GgufHeader, sha256: (data: Uint8Array) => Uint8Array): Omit<ReadModel, "headers"> {
  const metadata = new Metadata(header);
  const architecture = metadata.text("general.architecture");
  if (!ARCHITECTURES.has(architecture)) {
    const known = [...ARCHITECTURES].sort().join(", ");
    const shown = JSON.stringify(architecture.slice(0, 80));
    throw new GgufProblem("unknown-architecture", `general.architecture is ${shown}; this engine runs ${known}`);
  }
  const vocabSize = checkVocabulary(header, metadata);
  const { heads, headsKv, keyLength, valueLength, ...shape } = readShape(metadata, architecture);
  checkTensors(header, shape);
  const tokenizer = tokenizerOnlyGguf(header);
  const chatTemplate = templateOf(metadata);
  const digest = (data: Uint8Array): Sha256Hex => sha256Hex(toHex(sha256(data)));
  const name = metadata.textOrNull("general.name") ?? metadata.textOrNull("general.basename") ?? architecture;
  const manifest: FileManifest = {
    fileBytes: header.fileBytes,
    name: name.slice(0, NAME_CHARACTERS_MAX),
    architecture,
    quantisation: quantisationOf(header, metadata.integerOrNull("general.file_type", { least: 0, most: 0x7fffffff })),
    parameterCount: header.tensors.reduce((sum, tensor) => sum + valuesOf(tensor), 0),
    ...shape,
    vocabSize,
    chatTemplate,
    chatTemplateSha256: chatTemplate === null ? null : digest(new TextEncoder().encode(chatTemplate)),
    tokenizerSha256: digest(tokenizer),
    licence: metadata.textOrNull("general.license")?.slice(0, NAME_CHARACTERS_MAX) ?? null,
  };
  return { manifest, header, tokenizer };
}

function templateOf(metadata: Metadata): string | null {
  const template = metadata.textOrNull("tokenizer.chat_template");
  if (template === null || template.trim() === "") return null;
  if (template.length > TEMPLATE_BYTES_MAX) {
    const message = `tokenizer.chat_template has ${template.length} characters; at most ${TEMPLATE_BYTES_MAX} are taken`;
    throw new GgufProblem("too-large", message);
  }
  return template;
}

function valuesOf(tensor: GgufTensor): number {
  return tensor.dimensions.reduce((product, dimension) => product * dimension, 1);
}

function inFile({ code, message }: GgufRefusal, name: string): GgufRefusal {
  return { code, message: `${JSON.stringify(name)}: ${message}` };
}
