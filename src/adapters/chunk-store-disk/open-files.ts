/**
 * Handles of the store's files, a bounded number open at a time: the one used longest ago is closed for the next. Only plain files of the
 * store are opened: a link, a pipe or a file that has a second name elsewhere is not the store's, and would let others write through it.
 */
import { constants, type Stats } from "node:fs";
import { chmod, type FileHandle, open } from "node:fs/promises";
import { FallowError } from "../../domain/fault.ts";
import { factsOf, hasCode } from "./disk-room.ts";

/** A process may have 1,024 on many systems, and links, engines and logs need theirs. */
const HANDLES_MAX = 64;
/** Absent on Windows, where the check before the opening has to do. */
const NO_FOLLOW = constants.O_NOFOLLOW ?? 0;
const NO_WAIT = constants.O_NONBLOCK ?? 0;

export type OpenMode = "read" | "write";

interface Held {
  readonly handle: Promise<FileHandle>;
  users: number;
}

export class OpenFiles {
  /** By mode and path; the one used last is last. */
  readonly #held = new Map<string, Held>();
  readonly #handlesMax: number;

  constructor(handlesMax = HANDLES_MAX) {
    this.#handlesMax = handlesMax;
  }

  get size(): number {
    return this.#held.size;
  }

  /** Calls `act` with an open handle, which stays open at least until it is done. A file is made only to write. */
  async use<T>(path: string, mode: OpenMode, act: (file: FileHandle) => Promise<T>): Promise<T> {
    const key = `${mode}:${path}`;
    let held = this.#held.get(key);
    if (held === undefined) held = { handle: openPlain(path, mode), users: 0 };
    this.#held.delete(key);
    this.#held.set(key, held);
    held.users++;
    try {
      return await act(await held.handle);
    } catch (thrown) {
      if (await isBroken(held)) this.#held.delete(key);
      throw thrown;
    } finally {
      held.users--;
      await this.#closeSurplus();
    }
  }

  /** Of one file, or of all in a folder; whoever uses one waits no more for it. */
  async close(startsWith: string): Promise<void> {
    const closing: Promise<unknown>[] = [];
    for (const [key, held] of [...this.#held]) {
      if (!key.slice(key.indexOf(":") + 1).startsWith(startsWith)) continue;
      this.#held.delete(key);
      closing.push(closeHandle(held));
    }
    await Promise.all(closing);
  }

  async #closeSurplus(): Promise<void> {
    for (const [key, held] of [...this.#held]) {
      if (this.#held.size <= this.#handlesMax) return;
      if (held.users > 0) continue;
      this.#held.delete(key);
      await closeHandle(held);
    }
  }
}

async function isBroken({ handle }: Held): Promise<boolean> {
  return handle.then(
    () => false,
    () => true,
  );
}

/** A handle that never opened, or that the system closed, needs no closing. */
async function closeHandle({ handle }: Held): Promise<void> {
  await handle.then((file) => file.close()).catch(() => undefined);
}

/** Rejects `weights-foreign-file`; with the system's own fault when it cannot be opened. */
export async function openPlain(path: string, mode: OpenMode): Promise<FileHandle> {
  const before = await factsOf(path);
  if (before !== null) checkPlain(path, before, mode);
  const flags = mode === "read" ? constants.O_RDONLY : constants.O_RDWR | constants.O_CREAT;
  let file: FileHandle;
  try {
    file = await open(path, flags | NO_FOLLOW | NO_WAIT, 0o600);
  } catch (cause) {
    if (hasCode(cause, "ELOOP")) throw foreign(path, "a symbolic link");
    throw cause;
  }
  try {
    checkPlain(path, await file.stat(), mode);
    return file;
  } catch (thrown) {
    await file.close();
    throw thrown;
  }
}

export function checkPlain(path: string, facts: Stats, mode: OpenMode): void {
  if (facts.isSymbolicLink()) throw foreign(path, "a symbolic link");
  if (!facts.isFile()) throw foreign(path, "no plain file");
  if (mode === "write" && facts.nlink > 1) throw foreign(path, "a file with a second name elsewhere");
}

/** What came with other rights from elsewhere is for its owner only from here on. */
export async function makePrivate(path: string): Promise<void> {
  await chmod(path, 0o600);
}

function foreign(path: string, what: string): FallowError {
  const message = `${path} is ${what}, and the store of weights holds plain files of its own only: remove it`;
  return new FallowError("weights-foreign-file", message, { data: { path } });
}

/** All the bytes, or fewer when the file ends before. */
export async function readAt(file: FileHandle, into: Uint8Array, offset: number): Promise<number> {
  let done = 0;
  while (done < into.length) {
    const { bytesRead } = await file.read(into, done, into.length - done, offset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

export async function writeAt(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, offset + done);
    done += bytesWritten;
  }
}
