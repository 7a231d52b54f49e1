/**
 * One process at a time works in a home. The lock is SQLite's own exclusive lock on a file: the kernel drops it when the
 * process ends, however it ends, so there is no stale lock and nothing to guess from process ids, which are used again.
 * Who holds it stands in run.json, which is only ever a hint for people and for finding the grid.
 */
import { DatabaseSync } from "node:sqlite";

export interface HomeLock {
  /** May be called twice. */
  release(): void;
}

/** Null when another process holds it. */
export function takeLock(path: string): HomeLock | null {
  const database = new DatabaseSync(path);
  try {
    database.exec("PRAGMA busy_timeout = 0");
    database.exec("BEGIN EXCLUSIVE");
  } catch (thrown) {
    database.close();
    if (thrown instanceof Error && /locked|busy/i.test(thrown.message)) return null;
    throw thrown;
  }
  let isHeld = true;
  return {
    release() {
      if (!isHeld) return;
      isHeld = false;
      database.close();
    },
  };
}

/** True when some process holds the lock. Takes and drops it at once to find out. */
export function isLocked(path: string): boolean {
  const lock = takeLock(path);
  lock?.release();
  return lock === null;
}
