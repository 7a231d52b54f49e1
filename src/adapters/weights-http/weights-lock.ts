/**
 * One writer for one file among all processes of a machine. The lock is SQLite's on a small file beside it: the kernel drops it
 * when its holder ends, however it ends, so no lock is ever stale.
 */
import { DatabaseSync } from "node:sqlite";

export interface WeightsLock {
  release(): void;
}

/** Null when somebody holds it, also somebody in this process. */
export function takeWeightsLock(path: string): WeightsLock | null {
  const database = new DatabaseSync(path);
  try {
    database.exec("PRAGMA busy_timeout = 0; BEGIN EXCLUSIVE");
  } catch (thrown) {
    database.close();
    if (thrown instanceof Error && /locked|busy/i.test(thrown.message)) return null;
    throw thrown;
  }
  return { release: () => database.close() };
}
