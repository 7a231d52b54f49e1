/**
 * The ActivationSpill port: a file for each sequence, in a folder that is emptied at the start and at the end. Nothing in it outlives the process: whoever
 * comes after holds no keys and values that it would go with.
 */
import { type FileHandle, mkdir, open, rm } from "node:fs/promises";
import { join } from "node:path";
import type { SequenceId } from "../../domain/chain.ts";
import { FallowError } from "../../domain/fault.ts";
import type { ActivationSpill } from "../../ports/activation-spill.ts";

interface Spilled {
  readonly file: Promise<FileHandle>;
  bytes: number;
}

/** What an agent that was killed left of all its stages; their replica ids never come again. Call before any stage writes below the folder. */
export async function emptySpillFolder(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true });
}

export class DiskSpill implements ActivationSpill {
  readonly #folder: string;
  readonly #files = new Map<SequenceId, Spilled>();
  #made: Promise<unknown> | null = null;
  #isClosed = false;

  /** Nobody else writes in the folder. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  async append(sequence: SequenceId, bytes: Uint8Array): Promise<number> {
    if (this.#isClosed) throw new FallowError("spill-closed", "the stage has ended");
    this.#made ??= this.#makeFolder();
    await this.#made;
    const spilled = this.#files.get(sequence) ?? { file: open(this.#pathOf(sequence), "w+", 0o600), bytes: 0 };
    this.#files.set(sequence, spilled);
    const offset = spilled.bytes;
    spilled.bytes += bytes.length;
    const { bytesWritten } = await (await spilled.file).write(bytes, 0, bytes.length, offset);
    if (bytesWritten === bytes.length) return offset;
    throw new FallowError("disk-full", `the disk took ${bytesWritten} of ${bytes.length} bytes of ${sequence}`);
  }

  async read(
    sequence: SequenceId,
    { offset, length }: { readonly offset: number; readonly length: number },
  ): Promise<Uint8Array> {
    const spilled = this.#files.get(sequence);
    const bytes = new Uint8Array(length);
    const read = spilled === undefined ? 0 : (await (await spilled.file).read(bytes, 0, length, offset)).bytesRead;
    if (read === length) return bytes;
    throw new FallowError("spill-short", `${read} of ${length} bytes of ${sequence} are at ${offset}`);
  }

  async drop(sequence: SequenceId): Promise<void> {
    const spilled = this.#files.get(sequence);
    if (spilled === undefined) return;
    this.#files.delete(sequence);
    try {
      await (await spilled.file).close();
      await rm(this.#pathOf(sequence), { force: true });
    } catch {
      // The folder goes with the stage, and this with it.
    }
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const sequence of [...this.#files.keys()]) await this.drop(sequence);
    if (this.#made !== null) await rm(this.#folder, { recursive: true, force: true });
  }

  async #makeFolder(): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
  }

  #pathOf(sequence: SequenceId): string {
    return join(this.#folder, `${sequence}.activations`);
  }
}
