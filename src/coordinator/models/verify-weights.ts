/** Holds kept files against their manifest, chunk by chunk, and mends what is damaged from where it came: only those chunks are fetched. */

import type { ChunkRun } from "../../domain/chunk-set.ts";
import { FallowError } from "../../domain/fault.ts";
import { toHex } from "../../domain/hex.ts";
import type { Sha256Hex } from "../../domain/ids.ts";
import { type Outcome, ok, refuse } from "../../domain/refusal.ts";
import { chunksOfFile, DIGEST_BYTES, totalBytesOf, type WeightsManifest } from "../../domain/weights.ts";
import type { Crypto, KeyPair } from "../../ports/crypto.ts";
import type { ModelFiles } from "../../ports/model-files.ts";
import type { ModelSources } from "../../ports/model-source.ts";
import { checkDigests } from "../../weights/chunk-digests.ts";
import { parseSignedManifest } from "../../wire/weights-manifest.ts";

export interface VerifyPorts {
  readonly modelFiles: ModelFiles;
  readonly crypto: Crypto;
  readonly gridKey: KeyPair;
}

export interface KeptManifest {
  readonly manifest: WeightsManifest;
  readonly digests: Uint8Array;
  readonly paths: readonly string[];
}

export interface CheckedFile {
  readonly name: string;
  readonly fileBytes: number;
  readonly chunks: number;
  /** Chunks of this file whose bytes are not those of the manifest, counted from its own first. */
  readonly damaged: readonly ChunkRun[];
  /** Why it could not be read to its end; null when it could. */
  readonly problem: string | null;
}

export interface VerifyWatch {
  readonly signal: AbortSignal;
  readonly onBytes: (doneBytes: number, totalBytes: number) => void;
}

/** Refuses weights without a manifest, and a manifest that was damaged. */
export async function readKept(weightsSha256: Sha256Hex, ports: VerifyPorts): Promise<Outcome<KeptManifest>> {
  const content = await ports.modelFiles.content(weightsSha256);
  if (content === null) return refuse("not-found", "the files or their manifest are not there");
  const sha256 = (data: Uint8Array) => ports.crypto.sha256(data);
  const manifest = parseSignedManifest(content.signedManifest, {
    gridPublicKeyHex: toHex(ports.gridKey.publicKey),
    verify: (claim) => ports.crypto.verify(claim),
    sha256,
    weightsSha256,
  });
  if (!manifest.ok) return refuse("not-found", `the manifest is damaged: ${manifest.reason.message}`);
  const digests = checkDigests(manifest.value, content.digests, sha256);
  if (!digests.ok) return refuse("not-found", `the digests are damaged: ${digests.reason.message}`);
  return ok({ manifest: manifest.value, digests: content.digests, paths: content.files });
}

export async function verifyFiles(
  kept: KeptManifest,
  ports: VerifyPorts,
  watch: VerifyWatch,
): Promise<readonly CheckedFile[]> {
  const { manifest, digests, paths } = kept;
  const totalBytes = totalBytesOf(manifest);
  const checked: CheckedFile[] = [];
  let before = 0;
  let firstDigest = 0;
  for (const [at, { name, fileBytes }] of manifest.files.entries()) {
    const chunks = chunksOfFile(fileBytes, manifest.chunkBytes);
    const expected = digests.subarray(firstDigest * DIGEST_BYTES, (firstDigest + chunks) * DIGEST_BYTES);
    const began = before;
    const found = await digestsOf(paths[at] ?? name, {
      modelFiles: ports.modelFiles,
      chunkBytes: manifest.chunkBytes,
      signal: watch.signal,
      onBytes: (doneBytes) => watch.onBytes(began + Math.min(doneBytes, fileBytes), totalBytes),
    });
    const longer = found.fileBytes > fileBytes ? `it has ${found.fileBytes} bytes instead of ${fileBytes}` : null;
    const damaged = differing(expected, found.digests, chunks);
    checked.push({ name, fileBytes, chunks, damaged, problem: found.problem ?? longer });
    before += fileBytes;
    firstDigest += chunks;
  }
  watch.onBytes(totalBytes, totalBytes);
  return checked;
}

export interface Mended {
  readonly fetchedBytes: number;
  readonly chunks: number;
}

/** Fetches the damaged chunks and writes those that are right. Rejects as the source does, `model-source-changed` for other bytes. */
export async function mendFiles(
  kept: KeptManifest,
  checked: readonly CheckedFile[],
  from: { readonly sources: ModelSources; readonly reference: string },
  ports: VerifyPorts,
  watch: VerifyWatch,
): Promise<Mended> {
  const { manifest, digests, paths } = kept;
  const source = await from.sources.resolve(from.reference, watch.signal);
  const neededBytes = checked.reduce((sum, file) => sum + damagedBytes(file, manifest.chunkBytes), 0);
  let fetchedBytes = 0;
  let chunks = 0;
  let firstDigest = 0;
  for (const [at, file] of checked.entries()) {
    const remote = source.files[at];
    const path = paths[at];
    if (
      file.damaged.length > 0 &&
      (remote === undefined || path === undefined || remote.fileBytes !== file.fileBytes)
    ) {
      throw new FallowError("model-source-changed", `${from.reference} does not have the file ${file.name} any more`);
    }
    for (const [first, count] of file.damaged) {
      if (remote === undefined || path === undefined) break;
      const end = Math.min((first + count) * manifest.chunkBytes, file.fileBytes);
      let chunk = first;
      for await (const bytes of inChunks(remote.read(first * manifest.chunkBytes, watch.signal), {
        ...manifest,
        from: first * manifest.chunkBytes,
        end,
      })) {
        const place = (firstDigest + chunk) * DIGEST_BYTES;
        if (!ports.crypto.isEqual(ports.crypto.sha256(bytes), digests.subarray(place, place + DIGEST_BYTES))) {
          const message = `chunk ${chunk} of ${file.name} at ${from.reference} has other bytes than were registered`;
          throw new FallowError("model-source-changed", message, { data: { name: file.name, chunk } });
        }
        await ports.modelFiles.mend(path, { offset: chunk * manifest.chunkBytes, bytes, fileBytes: file.fileBytes });
        fetchedBytes += bytes.length;
        chunks++;
        chunk++;
        watch.onBytes(fetchedBytes, neededBytes);
      }
    }
    firstDigest += file.chunks;
  }
  return { fetchedBytes, chunks };
}

export function damagedBytes({ damaged, fileBytes }: CheckedFile, chunkBytes: number): number {
  return damaged.reduce(
    (sum, [first, count]) => sum + Math.min((first + count) * chunkBytes, fileBytes) - first * chunkBytes,
    0,
  );
}

/** Whole chunks of [from, end); the last may be short. Ends the reading there. */
async function* inChunks(
  pieces: AsyncIterable<Uint8Array>,
  { chunkBytes, from, end }: { chunkBytes: number; from: number; end: number },
): AsyncIterable<Uint8Array> {
  let at = from;
  let chunk = new Uint8Array(Math.min(chunkBytes, end - at));
  let filled = 0;
  for await (const piece of pieces) {
    for (let taken = 0; taken < piece.length; ) {
      const part = piece.subarray(taken, taken + chunk.length - filled);
      chunk.set(part, filled);
      filled += part.length;
      taken += part.length;
      if (filled < chunk.length) continue;
      yield chunk;
      at += chunk.length;
      if (at >= end) return;
      chunk = new Uint8Array(Math.min(chunkBytes, end - at));
      filled = 0;
    }
  }
}

async function digestsOf(
  path: string,
  reading: {
    modelFiles: ModelFiles;
    chunkBytes: number;
    signal: AbortSignal;
    onBytes: (doneBytes: number) => void;
  },
): Promise<{ digests: Uint8Array; fileBytes: number; problem: string | null }> {
  const { modelFiles, chunkBytes, signal, onBytes } = reading;
  try {
    const file = await modelFiles.open(path);
    try {
      const { chunkDigests } = await file.digest({ chunkBytes, signal, onBytes });
      return { digests: chunkDigests, fileBytes: file.fileBytes, problem: null };
    } finally {
      await file.close();
    }
  } catch (thrown) {
    if (!(thrown instanceof FallowError) || signal.aborted) throw thrown;
    return { digests: new Uint8Array(0), fileBytes: 0, problem: thrown.message };
  }
}

function differing(expected: Uint8Array, found: Uint8Array, chunks: number): readonly ChunkRun[] {
  const runs: [number, number][] = [];
  for (let chunk = 0; chunk < chunks; chunk++) {
    const [from, to] = [chunk * DIGEST_BYTES, (chunk + 1) * DIGEST_BYTES];
    const isSame = to <= found.length && expected.subarray(from, to).every((byte, at) => byte === found[from + at]);
    if (isSame) continue;
    const last = runs.at(-1);
    if (last !== undefined && last[0] + last[1] === chunk) last[1]++;
    else runs.push([chunk, 1]);
  }
  return runs;
}
