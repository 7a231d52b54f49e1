/**
 * Who may do what with a model among all processes of a machine. The locks are SQLite's on a small file beside the model: the kernel drops
 * them when their holder ends, however it ends, so no lock is ever stale.
 *
 * | lock   | SQLite's  | held by                          | beside it may be |
 * | ------ | --------- | -------------------------------- | ---------------- |
 * | use    | SHARED    | everyone who has the model open  | use, write       |
 * | write  | RESERVED  | the one that fetches it          | use              |
 * | remove | EXCLUSIVE | the one that deletes it          | nothing          |
 *
 * The file stays when the model goes: were it deleted, two processes could hold locks on two files of one name. It is empty. Nothing in
 * this process may open it otherwise: closing any handle of it would drop the locks of all (POSIX).
 */
import { closeSync, lstatSync, openSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { FallowError } from "../../domain/fault.ts";

export type WeightsLockKind = "use" | "write" | "remove";

export interface WeightsLock {
  /** May be called twice. */
  release(): void;
}

const BEGIN = {
  // Without a read the transaction takes no lock.
  use: "BEGIN; SELECT count(*) FROM sqlite_master",
  write: "BEGIN IMMEDIATE",
  remove: "BEGIN EXCLUSIVE",
} as const;

/** Null when somebody holds what forbids it, also somebody in this process. */
export function takeWeightsLock(path: string, kind: WeightsLockKind): WeightsLock | null {
  makeFile(path);
  const database = new DatabaseSync(path);
  try {
    // Nothing is ever written: without this a journal file would lie beside it, and be taken for one to roll back.
    database.exec(`PRAGMA busy_timeout = 0; PRAGMA journal_mode = MEMORY; ${BEGIN[kind]}`);
  } catch (thrown) {
    database.close();
    if (thrown instanceof Error && /locked|busy/i.test(thrown.message)) return null;
    throw new FallowError("weights-lock-broken", `${path} cannot be locked: delete it while no agent runs`, {
      data: { path },
      cause: thrown,
    });
  }
  let isHeld = true;
  return {
    release: () => {
      if (isHeld) database.close();
      isHeld = false;
    },
  };
}

/** For its owner only, and never through a link; SQLite itself would follow one. */
function makeFile(path: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) {
    try {
      closeSync(openSync(path, "wx", 0o600));
    } catch (cause) {
      // Another process made it at the same time.
      if (!(cause instanceof Error && "code" in cause && cause.code === "EEXIST")) throw cause;
    }
  } else if (!found.isFile()) {
    throw new FallowError("weights-foreign-file", `${path} is no plain file: remove it`, { data: { path } });
  }
}
