/**
 * One model's folder in the store, `<folder>/<digest of the weights>/`:
 *
 * | name                                    | what                                                          |
 * | --------------------------------------- | ------------------------------------------------------------- |
 * | `manifest.json`                         | the grid's signed text; its time of change is the last use    |
 * | `digests`                               | 32 bytes for each chunk                                       |
 * | `journal`                               | which chunks are here (`chunk-journal.ts`)                    |
 * | `parts`                                 | how far others came (`parts-file.ts`)                         |
 * | `<digest>.gguf`, `<digest>-00001-of-…`  | the weights, sparse until they are whole                      |
 *
 * Beside it lies `<digest>.lock`, and what agents before chunks left: `<digest>.gguf` and `<digest>.partial`, which are moved into the folder
 * when their model is opened.
 */
import { mkdir, rename, utimes } from "node:fs/promises";
import { join } from "node:path";
import { FallowError } from "../../domain/fault.ts";
import { type Sha256Hex, sha256Hex } from "../../domain/ids.ts";
import { CHUNKS_MAX, DIGEST_BYTES } from "../../domain/weights.ts";
import type { StoredContent } from "../../ports/chunk-store.ts";
import { SIGNED_MANIFEST_BYTES_MAX } from "../../ports/weights-source.ts";
import { factsOf } from "./disk-room.ts";
import { checkPlain, makePrivate } from "./open-files.ts";
import { readSmallFile, replaceFile } from "./small-file.ts";

export class ModelFolder {
  readonly path: string;
  readonly lockPath: string;
  readonly journalPath: string;
  readonly partsPath: string;
  readonly #manifestPath: string;
  readonly #digestsPath: string;
  /** Of agents before chunks; the whole one counts more. */
  readonly oldPaths: readonly string[];

  constructor(storeFolder: string, weightsSha256: Sha256Hex) {
    const name = sha256Hex(weightsSha256);
    this.path = join(storeFolder, name);
    this.lockPath = join(storeFolder, `${name}.lock`);
    this.oldPaths = [join(storeFolder, `${name}.gguf`), join(storeFolder, `${name}.partial`)];
    this.journalPath = join(this.path, "journal");
    this.partsPath = join(this.path, "parts");
    this.#manifestPath = join(this.path, "manifest.json");
    this.#digestsPath = join(this.path, "digests");
  }

  async make(): Promise<void> {
    await mkdir(this.path, { recursive: true, mode: 0o700 });
    const facts = await factsOf(this.path);
    if (facts?.isDirectory()) return;
    const message = `${this.path} is no folder, and the store of weights follows no links: remove it`;
    throw new FallowError("weights-foreign-file", message, { data: { path: this.path } });
  }

  async save({ signedManifest, digests }: Pick<StoredContent, "signedManifest" | "digests">): Promise<void> {
    await saveIfOther(this.#digestsPath, digests, CHUNKS_MAX * DIGEST_BYTES);
    await saveIfOther(this.#manifestPath, signedManifest, SIGNED_MANIFEST_BYTES_MAX);
  }

  /** What was saved, unchecked; null when it is not whole. */
  async saved(): Promise<Pick<StoredContent, "signedManifest" | "digests"> | null> {
    const signedManifest = await readSmallFile(this.#manifestPath, SIGNED_MANIFEST_BYTES_MAX);
    const digests = await readSmallFile(this.#digestsPath, CHUNKS_MAX * DIGEST_BYTES);
    return signedManifest === null || digests === null ? null : { signedManifest, digests };
  }

  /** The order of last use survives restarts; a file system that keeps no times only loses that order. */
  async touch(): Promise<void> {
    const now = new Date();
    await utimes(this.#manifestPath, now, now).catch(() => undefined);
  }

  async usedMs(): Promise<number> {
    return (await factsOf(this.#manifestPath))?.mtimeMs ?? 0;
  }

  /** Moves what an agent before chunks left to where the model's only file lies. True when something was moved; needs the write lock. */
  async adoptOld(fileName: string): Promise<boolean> {
    const to = join(this.path, fileName);
    if ((await factsOf(to)) !== null) return false;
    for (const from of this.oldPaths) {
      const facts = await factsOf(from);
      // A link, or a file that has another name elsewhere, is somebody else's: chunks would be written into it.
      if (facts === null || !facts.isFile() || facts.nlink > 1) continue;
      checkPlain(from, facts, "write");
      await makePrivate(from);
      await rename(from, to);
      return true;
    }
    return false;
  }
}

async function saveIfOther(path: string, bytes: Uint8Array, bytesMax: number): Promise<void> {
  const saved = await readSmallFile(path, bytesMax);
  if (saved === null || !saved.equals(bytes)) await replaceFile(path, bytes);
}
