/**
 * What a manifest of the right form may still lie about: names that leave the folder, sizes and counts beyond bounds, ranges outside the
 * files or over each other, layers that are not there. Each law has a name; the first that is broken is told.
 */
import type { Sha256 } from "../domain/merkle-tree.ts";
import {
  CHUNK_BYTES_MAX,
  CHUNK_BYTES_MIN,
  CHUNKS_MAX,
  chunkCountOf,
  type FileRange,
  totalBytesOf,
  type WeightsManifest,
  type WeightsPart,
  weightsSha256Of,
} from "../domain/weights.ts";
import { fileNameKey, fileNameProblem } from "../domain/weights-file-name.ts";

export const MANIFEST_REFUSAL_CODES = [
  "manifest-too-large",
  "manifest-not-json",
  "manifest-too-deep",
  "manifest-malformed",
  "manifest-version-unknown",
  "manifest-not-canonical",
  "manifest-foreign-key",
  "manifest-bad-signature",
  "manifest-other-weights",
  "manifest-too-many-files",
  "manifest-file-name",
  "manifest-file-twice",
  "manifest-file-size",
  "manifest-chunk-size",
  "manifest-too-many-chunks",
  "manifest-weights-digest",
  "manifest-part-twice",
  "manifest-part-missing",
  "manifest-layer",
  "manifest-range-outside",
  "manifest-ranges-unordered",
  "manifest-ranges-overlap",
] as const;

export interface ManifestRefusal {
  readonly code: (typeof MANIFEST_REFUSAL_CODES)[number];
  readonly message: string;
}

/** Null when all hold. */
export function brokenLaw(manifest: WeightsManifest, sha256: Sha256): ManifestRefusal | null {
  return (
    chunkSizeProblem(manifest) ??
    namesProblem(manifest) ??
    sizesProblem(manifest) ??
    digestProblem(manifest, sha256) ??
    partsProblem(manifest) ??
    rangesProblem(manifest)
  );
}

function chunkSizeProblem({ chunkBytes }: WeightsManifest): ManifestRefusal | null {
  const isPowerOfTwo = Number.isInteger(Math.log2(chunkBytes));
  if (isPowerOfTwo && chunkBytes >= CHUNK_BYTES_MIN && chunkBytes <= CHUNK_BYTES_MAX) return null;
  const right = `a power of two from ${CHUNK_BYTES_MIN} to ${CHUNK_BYTES_MAX}`;
  return { code: "manifest-chunk-size", message: `chunkBytes is ${chunkBytes}, not ${right}` };
}

function namesProblem({ files }: WeightsManifest): ManifestRefusal | null {
  const seen = new Map<string, string>();
  for (const { name } of files) {
    const shown = JSON.stringify(name.slice(0, 120));
    const problem = fileNameProblem(name);
    if (problem !== null) return { code: "manifest-file-name", message: `the file name ${shown} ${problem}` };
    const earlier = seen.get(fileNameKey(name));
    if (earlier !== undefined) {
      const message = `the files ${JSON.stringify(earlier.slice(0, 120))} and ${shown} are one where case does not count`;
      return { code: "manifest-file-twice", message };
    }
    seen.set(fileNameKey(name), name);
  }
  return null;
}

function sizesProblem(manifest: WeightsManifest): ManifestRefusal | null {
  for (const { name, fileBytes } of manifest.files) {
    if (fileBytes >= 1) continue;
    return { code: "manifest-file-size", message: `the file ${JSON.stringify(name)} has ${fileBytes} bytes` };
  }
  const total = totalBytesOf(manifest);
  if (!Number.isSafeInteger(total)) {
    const message = `the files have ${total} bytes together; what can be counted exactly ends at ${Number.MAX_SAFE_INTEGER}`;
    return { code: "manifest-file-size", message };
  }
  const chunks = chunkCountOf(manifest);
  if (chunks <= CHUNKS_MAX) return null;
  const message = `${total} bytes are ${chunks} chunks of ${manifest.chunkBytes}; at most ${CHUNKS_MAX} are taken`;
  return { code: "manifest-too-many-chunks", message };
}

function digestProblem({ files, weightsSha256 }: WeightsManifest, sha256: Sha256): ManifestRefusal | null {
  const found = weightsSha256Of(
    files.map((file) => file.sha256),
    sha256,
  );
  if (found === weightsSha256) return null;
  return { code: "manifest-weights-digest", message: `weightsSha256 is ${weightsSha256}; of its files it is ${found}` };
}

function partsProblem({ parts, layerCount }: WeightsManifest): ManifestRefusal | null {
  const seen = new Set<string>();
  for (const part of parts) {
    const problem = layerProblem(part, layerCount);
    if (problem !== null) return { code: "manifest-layer", message: problem };
    const name = nameOf(part);
    if (seen.has(name)) return { code: "manifest-part-twice", message: `the part ${name} stands twice` };
    seen.add(name);
    if (part.isOutputToo === undefined || part.kind === "embedding") continue;
    return {
      code: "manifest-malformed",
      message: `isOutputToo stands at the part ${name}; it is of the embedding only`,
    };
  }
  if (!seen.has("header")) return { code: "manifest-part-missing", message: "there is no part header" };
  for (let layer = 0; layer < layerCount; layer++) {
    if (seen.has(`layer ${layer}`)) continue;
    return { code: "manifest-part-missing", message: `layerCount is ${layerCount}; there is no part layer ${layer}` };
  }
  return null;
}

function layerProblem({ kind, layer }: WeightsPart, layerCount: number): string | null {
  if (kind !== "layer")
    return layer === undefined ? null : `the part ${kind} has the layer ${layer}; only layers have one`;
  if (layer !== undefined && layer < layerCount) return null;
  return `layer ${layer ?? "without number"} is not one of 0 to ${layerCount - 1}`;
}

function rangesProblem({ files, parts }: WeightsManifest): ManifestRefusal | null {
  const all: { readonly range: FileRange; readonly part: string }[] = [];
  for (const part of parts) {
    let last: FileRange | null = null;
    for (const range of part.ranges) {
      const fileBytes = files[range.file]?.fileBytes;
      const place = `${range.bytes} bytes at ${range.offset} of file ${range.file} (${nameOf(part)})`;
      if (fileBytes === undefined) {
        return { code: "manifest-range-outside", message: `${place}: there are ${files.length} files, from 0` };
      }
      // Written so that no sum can leave what is counted exactly.
      if (range.offset >= fileBytes || range.bytes > fileBytes - range.offset) {
        return { code: "manifest-range-outside", message: `${place}: the file has ${fileBytes} bytes` };
      }
      if (last !== null && (range.file < last.file || (range.file === last.file && range.offset < last.offset))) {
        return { code: "manifest-ranges-unordered", message: `${place} stands after a later range` };
      }
      last = range;
      all.push({ range, part: nameOf(part) });
    }
  }
  all.sort((a, b) => a.range.file - b.range.file || a.range.offset - b.range.offset);
  for (const [index, { range, part }] of all.entries()) {
    const before = all[index - 1];
    if (before === undefined || before.range.file !== range.file) continue;
    if (before.range.offset + before.range.bytes <= range.offset) continue;
    const message = `${before.part} and ${part} overlap at byte ${range.offset} of file ${range.file}`;
    return { code: "manifest-ranges-overlap", message };
  }
  return null;
}

function nameOf({ kind, layer }: WeightsPart): string {
  return kind === "layer" ? `layer ${layer}` : kind;
}
