/**
 * From files on this machine to what the grid knows and signs: their GGUF headers, their digests, and the manifest with the chunks' digests
 * that nodes are given.
 */

import { toHex } from "../../domain/hex.ts";
import type { Sha256Hex } from "../../domain/ids.ts";
import { no, type Outcome, ok, refuse } from "../../domain/refusal.ts";
import { type WeightsOrigin, weightsSha256Of } from "../../domain/weights.ts";
import { fileNameProblem } from "../../domain/weights-file-name.ts";
import type { Crypto, KeyPair } from "../../ports/crypto.ts";
import type { FileDigests, KeptDescription, ModelFile, ModelFiles } from "../../ports/model-files.ts";
import { buildManifest, chunkBytesFor } from "../../weights/build-manifest.ts";
import { joinDigests } from "../../weights/chunk-digests.ts";
import { type ReadModel, readManifest } from "../../weights/model-reader.ts";
import { splitFileName } from "../../weights/split-gguf.ts";
import { manifestJson, manifestSigningText, parseManifest, signedManifestBytes } from "../../wire/weights-manifest.ts";

export interface FileOfWeights {
  readonly path: string;
  /** As its source calls it. */
  readonly name: string;
  /** Those that were made while it came; null to read the file for them. */
  readonly digests: FileDigests | null;
}

export interface WeightsFacts {
  readonly weightsSha256: Sha256Hex;
  readonly chunkBytes: number;
  readonly read: ReadModel;
  /** Names in the manifest, and in a kept set. */
  readonly names: readonly string[];
  readonly digests: readonly FileDigests[];
}

export interface ReadingWeights {
  readonly modelFiles: Pick<ModelFiles, "open">;
  readonly crypto: Crypto;
  readonly signal: AbortSignal;
  /** Bytes that were read for digests, of all files. */
  readonly onBytes?: (doneBytes: number) => void;
}

/** Refuses what the engine could not run. Rejects `model-file-unreadable`. */
export async function readWeights(
  files: readonly FileOfWeights[],
  reading: ReadingWeights,
): Promise<Outcome<WeightsFacts>> {
  const opened: ModelFile[] = [];
  try {
    for (const { path } of files) opened.push(await reading.modelFiles.open(path));
    const sha256 = (data: Uint8Array) => reading.crypto.sha256(data);
    const names = plainNames(files);
    const read = await readManifest(opened.map(sourceOf), sha256, opened.length === 1 ? null : names);
    if (!read.ok) {
      const { code, message } = read.reason;
      return refuse("invalid-request", `${files[0]?.path ?? ""}: ${code}: ${message}`, { param: "path" });
    }
    const chunkBytes = chunkBytesFor(opened.map(({ fileBytes }) => fileBytes));
    if (chunkBytes === null) return refuse("invalid-request", "the model is larger than 16 TiB", { param: "path" });
    const digests: FileDigests[] = [];
    let before = 0;
    for (const [at, file] of opened.entries()) {
      digests.push(files[at]?.digests ?? (await digestOf(file, { ...reading, chunkBytes, before })));
      before += file.fileBytes;
    }
    const weightsSha256 = weightsSha256Of(
      digests.map((one) => one.sha256),
      sha256,
    );
    return ok({ weightsSha256, chunkBytes, read: read.value, names, digests });
  } finally {
    for (const file of opened) await file.close();
  }
}

/** What nodes are given of weights: signed by the grid. Refuses a manifest that no node would take, with the reason. */
export function describeWeights(
  facts: WeightsFacts,
  told: { readonly origin: WeightsOrigin; readonly licence: string | null },
  keys: { readonly crypto: Crypto; readonly gridKey: KeyPair },
): Outcome<KeptDescription> {
  const { read, chunkBytes, names, digests } = facts;
  const sha256 = (data: Uint8Array) => keys.crypto.sha256(data);
  const files = read.headers.flatMap((header, at) => {
    const [name, own] = [names[at], digests[at]];
    return name === undefined || own === undefined
      ? []
      : [{ name, sha256: own.sha256, digests: own.chunkDigests, header }];
  });
  const { layerCount, tokenizerSha256 } = read.manifest;
  const manifest = buildManifest(
    {
      files,
      chunkBytes,
      layerCount,
      source: told.origin,
      licence: told.licence?.slice(0, 200) ?? null,
      tokenizerSha256,
    },
    sha256,
  );
  const json = manifestJson(manifest);
  const checked = parseManifest(json, { sha256, weightsSha256: facts.weightsSha256 });
  if (!checked.ok) {
    return no({
      code: "invalid-request",
      message: `its manifest would be refused by nodes: ${checked.reason.code}: ${checked.reason.message}`,
      param: "path",
      retryAfterMs: null,
    });
  }
  const signature = toHex(keys.gridKey.sign(new TextEncoder().encode(manifestSigningText(json))));
  const publicKey = toHex(keys.gridKey.publicKey);
  return ok({
    signedManifest: signedManifestBytes({ manifestJson: json, signature, publicKey }),
    digests: joinDigests(digests.map(({ chunkDigests }) => chunkDigests)),
  });
}

/** A name that no disk takes is replaced; an engine finds a set by its numbers, so these stay. */
export function plainNames(files: readonly { readonly name: string }[]): readonly string[] {
  const isGood = files.every(({ name }) => fileNameProblem(name) === null && /\.gguf$/.test(name));
  if (isGood) return files.map(({ name }) => name);
  if (files.length === 1) return ["model.gguf"];
  return files.map((_, at) => splitFileName({ prefix: "model", number: at + 1, count: files.length }));
}

function digestOf(
  file: ModelFile,
  { chunkBytes, signal, onBytes, before }: ReadingWeights & { chunkBytes: number; before: number },
): Promise<FileDigests> {
  return file.digest({ chunkBytes, signal, onBytes: (doneBytes) => onBytes?.(before + doneBytes) });
}

/** A byte source may be asked past its end; a file may not. */
function sourceOf(file: ModelFile): { sizeBytes: number; read(offset: number, length: number): Promise<Uint8Array> } {
  return {
    sizeBytes: file.fileBytes,
    read: (offset, length) => {
      const available = Math.max(0, Math.min(length, file.fileBytes - offset));
      return available === 0 ? Promise.resolve(new Uint8Array(0)) : file.read(offset, available);
    },
  };
}
