/** Brings the files of a source onto this machine, each from where it was cut, and holds them against the digests that the source claims. */
import { FallowError } from "../../domain/fault.ts";
import type { IncomingFile, IncomingModels } from "../../ports/incoming-models.ts";
import type { FileDigests } from "../../ports/model-files.ts";
import type { SourceFile } from "../../ports/model-source.ts";

export interface FetchedFile {
  readonly path: string;
  readonly name: string;
  readonly digests: FileDigests;
}

export interface Fetching {
  readonly incoming: IncomingModels;
  readonly jobId: string;
  readonly chunkBytes: number;
  readonly signal: AbortSignal;
  /** Versions of an earlier run whose partial files may be there; by place. */
  readonly knownVersions: readonly (string | null)[];
  /** All files together. */
  readonly onProgress: (progress: { doneBytes: number; cameBytes: number }) => void;
  readonly onWait: (why: string) => void;
  /** After so many bytes of a file; what it throws ends the download. */
  readonly look: (file: { index: number; path: string; doneBytes: number }) => Promise<void>;
}

/** Rejects as the source does, `disk-full`, `model-source-changed` when the digest is another than claimed. */
export async function fetchFiles(files: readonly SourceFile[], fetching: Fetching): Promise<readonly FetchedFile[]> {
  const fetched: FetchedFile[] = [];
  const opened: IncomingFile[] = [];
  try {
    for (const [index, { fileBytes }] of files.entries()) {
      const { jobId, chunkBytes, signal } = fetching;
      const bytes = lengthOf(fileBytes);
      const file = await fetching.incoming.open(jobId, { index, fileBytes: bytes, chunkBytes, signal });
      opened.push(file);
      const known = fetching.knownVersions[index] ?? null;
      const isSame = known === null || files[index]?.version === null || files[index]?.version === known;
      if (!isSame) await file.restart();
    }
    const doneBytes = () => opened.reduce((sum, file) => sum + file.doneBytes, 0);
    const neededBytes = files.reduce((sum, { fileBytes }) => sum + lengthOf(fileBytes), 0) - doneBytes();
    await fetching.incoming.room(neededBytes);
    fetching.onProgress({ doneBytes: doneBytes(), cameBytes: 0 });
    for (const [index, source] of files.entries()) {
      const file = opened[index];
      if (file === undefined) continue;
      const digests = await fetchOne({ source, file, index }, fetching, doneBytes);
      fetched.push({ path: file.path, name: source.name, digests });
    }
    return fetched;
  } finally {
    for (const file of opened) await file.close();
  }
}

async function fetchOne(
  { source, file, index }: { source: SourceFile; file: IncomingFile; index: number },
  { signal, onProgress, onWait, look }: Fetching,
  doneBytes: () => number,
): Promise<FileDigests> {
  const fileBytes = lengthOf(source.fileBytes);
  const hadBytes = file.doneBytes;
  if (hadBytes < fileBytes) {
    for await (const bytes of source.read(hadBytes, signal, onWait)) {
      signal.throwIfAborted();
      await file.append(bytes);
      onProgress({ doneBytes: doneBytes(), cameBytes: bytes.length });
      await look({ index, path: file.path, doneBytes: file.doneBytes });
    }
  }
  const digests = await file.finish();
  if (source.sha256 === null || source.sha256 === digests.sha256) return digests;
  await file.restart();
  const whose = hadBytes > 0 ? "; the part that was there before is thrown away too, so try again" : "";
  const message = `${source.name} has the digest ${digests.sha256}, its source says ${source.sha256}${whose}`;
  throw new FallowError("model-source-changed", message, { data: { name: source.name } });
}

function lengthOf(fileBytes: number | null): number {
  if (fileBytes !== null && fileBytes > 0) return fileBytes;
  throw new FallowError("model-source-refused", "the source does not tell how long the file is, or it is empty");
}
