/**
 * This process's part in the use of a model's folder. While anything here needs it the shared lock is held and nobody can remove the model;
 * when nothing does, the lock is given back after a moment, so that another agent on the machine can make room. Whoever needs it next
 * takes the lock again, and is told when the folder is another by then.
 *
 * | event                        | lock                                   |
 * | ---------------------------- | -------------------------------------- |
 * | first need                   | taken, and the folder looked at        |
 * | last need over               | kept for `LINGER_MS`, then given back  |
 * | another agent removes it now | waited for                             |
 */
import { stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { FallowError } from "../../domain/fault.ts";
import type { ModelFolder } from "./model-folder.ts";
import { takeWeightsLock, type WeightsLock } from "./weights-lock.ts";

/** Taking the lock costs 0.04 ms: uploads that follow one another take it once. */
const LINGER_MS = 1_000;
/** How often a lock that another process holds for a moment is tried again. */
const LOCK_LOOK_MS = 50;
/** A removal renames first and deletes under the lock; hundreds of gigabytes take a slow disk seconds. */
const LOCK_LOOKS_MAX = 1_200;

export class SharedUse {
  readonly #folder: ModelFolder;
  /** The folder is there again, empty or filled by another agent: what was known of it is void. Runs before any need is met. */
  readonly #onReplaced: () => Promise<void>;
  #lock: WeightsLock | null = null;
  #needs = 0;
  #taking: Promise<void> | null = null;
  #linger: NodeJS.Timeout | null = null;
  /** Which folder it was when the lock was held last. */
  #identity: string | null = null;

  constructor(folder: ModelFolder, onReplaced: () => Promise<void>) {
    this.#folder = folder;
    this.#onReplaced = onReplaced;
  }

  /** The lock is held until `act` is done. Rejects `weights-in-use` when somebody does not end removing it. */
  async during<T>(act: () => Promise<T>): Promise<T> {
    const over = await this.begin();
    try {
      return await act();
    } finally {
      over();
    }
  }

  /** The lock is held until what it resolves with is called, once. */
  async begin(): Promise<() => void> {
    this.#needs += 1;
    try {
      if (this.#lock === null) await this.#take();
    } catch (thrown) {
      this.#end();
      throw thrown;
    }
    let isOver = false;
    return () => {
      if (!isOver) this.#end();
      isOver = true;
    };
  }

  /** Nothing needs it any more. May be called twice. */
  close(): void {
    if (this.#linger !== null) clearTimeout(this.#linger);
    this.#linger = null;
    this.#lock?.release();
    this.#lock = null;
  }

  #end(): void {
    this.#needs -= 1;
    if (this.#needs > 0 || this.#lock === null) return;
    if (this.#linger !== null) clearTimeout(this.#linger);
    this.#linger = setTimeout(() => {
      if (this.#needs === 0) this.close();
    }, LINGER_MS);
    this.#linger.unref();
  }

  #take(): Promise<void> {
    this.#taking ??= this.#takeOnce().finally(() => {
      this.#taking = null;
    });
    return this.#taking;
  }

  async #takeOnce(): Promise<void> {
    await this.#folder.make();
    const lock = await this.#wait();
    try {
      // Whoever held it may have removed the folder.
      await this.#folder.make();
      const identity = await identityOf(this.#folder.path);
      const isReplaced = this.#identity !== null && this.#identity !== identity;
      this.#identity = identity;
      if (isReplaced) await this.#onReplaced();
    } catch (thrown) {
      lock.release();
      throw thrown;
    }
    this.#lock = lock;
  }

  async #wait(): Promise<WeightsLock> {
    for (let looks = 0; looks < LOCK_LOOKS_MAX; looks++) {
      const lock = takeWeightsLock(this.#folder.lockPath, "use");
      if (lock !== null) return lock;
      await sleep(LOCK_LOOK_MS);
    }
    const { path } = this.#folder;
    throw new FallowError("weights-in-use", `${path} is being removed by another agent on this machine`, {
      data: { path },
    });
  }
}

async function identityOf(path: string): Promise<string> {
  const { ino, birthtimeNs } = await stat(path, { bigint: true });
  return `${ino} ${birthtimeNs}`;
}
