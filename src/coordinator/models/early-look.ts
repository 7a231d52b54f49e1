/**
 * Reads a model's head while the rest still comes: an engine that cannot run it is told after some megabytes instead of 40 GB. What needs more bytes than
 * are there is left for later, and the whole model is read again when it is complete; so a look can only refuse what would be refused anyway.
 */
import { FallowError } from "../../domain/fault.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { ModelFile, ModelFiles } from "../../ports/model-files.ts";
import { readManifest } from "../../weights/model-reader.ts";

/** A head is its vocabulary and the list of tensors: mostly 1 to 16 MB. */
const LOOKS_AT_BYTES = [2, 8, 24, 64].map((mib) => mib * 1024 * 1024);

class NotThereYet extends Error {}

/** For a model of one file; sets are read when they are whole. Throws `model-source-refused` with the reader's reason. */
export function earlyLook(
  model: { readonly fileBytes: number; readonly name: string },
  ports: { readonly modelFiles: Pick<ModelFiles, "open">; readonly crypto: Crypto },
): (file: { path: string; doneBytes: number }) => Promise<void> {
  const left = [...LOOKS_AT_BYTES];
  return async ({ path, doneBytes }) => {
    const [next] = left;
    if (next === undefined || doneBytes < next) return;
    while ((left[0] ?? Number.POSITIVE_INFINITY) <= doneBytes) left.shift();
    const file = await ports.modelFiles.open(path);
    try {
      const read = await readManifest(headOf(file, model.fileBytes), (data) => ports.crypto.sha256(data));
      left.length = 0;
      if (!read.ok) {
        const { code, message } = read.reason;
        throw new FallowError("model-source-refused", `${model.name}: ${code}: ${message}`, { data: { code } });
      }
    } catch (thrown) {
      if (!(thrown instanceof NotThereYet)) throw thrown;
    } finally {
      await file.close();
    }
  };
}

/** The file as long as it will be; reading what is not there yet rejects. */
function headOf(file: ModelFile, sizeBytes: number) {
  return {
    sizeBytes,
    read: (offset: number, length: number): Promise<Uint8Array> => {
      const wanted = Math.max(0, Math.min(length, sizeBytes - offset));
      if (offset + wanted > file.fileBytes) return Promise.reject(new NotThereYet());
      return wanted === 0 ? Promise.resolve(new Uint8Array(0)) : file.read(offset, wanted);
    },
  };
}
