/**
 * Digests of large files in a thread of their own: two SHA-256 over a model take seconds for each gigabyte, and streams must not wait for
 * them. The thread reads by the caller's descriptor, so not a byte is copied between threads, and what is hashed is what lies on the disk. It
 * starts with the first session and stays, without keeping the process alive; sessions share it turn by turn. It does not end with the last
 * one: V8 of Node 24 was seen to abort the whole process in a test that starts and ends threads again and again (`jit_page.has_value()`).
 *
 * Not handled: more than one processor for one file. A digest of a whole file is one chain, and that of its chunks costs as much again.
 */
import { Worker } from "node:worker_threads";
import { assert } from "../../domain/assert.ts";
import { FallowError } from "../../domain/fault.ts";
import { sha256Hex } from "../../domain/ids.ts";
import type { FileDigests } from "../../ports/model-files.ts";
import type { HashAnswer, HashCall } from "./hash-messages.ts";

/** Bytes of one call: some tens of milliseconds, after which another session has its turn and an abort is seen. */
export const HASH_STEP_BYTES = 8 * 1024 * 1024;
/** Of the thread's heap: it holds digests, 32 bytes for each chunk. One that needs more has a bug, and only the thread dies of it. */
const HEAP_MB_MAX = 256;

type Question = HashCall extends infer Call ? (Call extends HashCall ? Omit<Call, "call"> : never) : never;

export interface HashSession {
  /** Bytes that were hashed or asked for. */
  readonly asked: number;
  /** The file's next bytes, up to `to`; it stays open until this settles. Fewer than asked when it ends before. Rejects as reading does. */
  read(descriptor: number, to: number): Promise<{ readonly bytes: number; readonly chunkDigests: Uint8Array }>;
  /** After the last byte. Called once. */
  finish(): Promise<FileDigests>;
  /** May be called twice. */
  close(): Promise<void>;
}

export class HashThread {
  #running: RunningThread | null = null;

  open(chunkBytes: number): HashSession {
    assert(Number.isSafeInteger(chunkBytes) && chunkBytes > 0, `${chunkBytes} is a chunk's size`);
    if (this.#running === null || this.#running.isEnded) this.#running = new RunningThread();
    return new ThreadSession(this.#running, chunkBytes);
  }
}

class ThreadSession implements HashSession {
  readonly #thread: RunningThread;
  readonly #session: number;
  #asked = 0;
  #closing: Promise<void> | null = null;

  constructor(thread: RunningThread, chunkBytes: number) {
    this.#thread = thread;
    this.#session = thread.nextSession();
    const began = thread.ask({ kind: "begin", session: this.#session, chunkBytes });
    began.catch(() => undefined); // a thread that is gone says so to the next call too
  }

  get asked(): number {
    return this.#asked;
  }

  async read(descriptor: number, to: number): Promise<{ bytes: number; chunkDigests: Uint8Array }> {
    const from = this.#asked;
    this.#asked = to;
    return await this.#thread.ask({ kind: "read", session: this.#session, descriptor, from, to });
  }

  async finish(): Promise<FileDigests> {
    const { sha256, chunkDigests } = await this.#thread.ask({ kind: "finish", session: this.#session });
    assert(sha256 !== null, "a finished file has a digest");
    return { sha256: sha256Hex(sha256), chunkDigests };
  }

  close(): Promise<void> {
    this.#closing ??= this.#thread
      .ask({ kind: "end", session: this.#session })
      .then(() => undefined)
      .catch(() => undefined); // nothing is left of a thread that is gone
    return this.#closing;
  }
}

interface Pending {
  resolve(answer: HashAnswer): void;
  reject(cause: Error): void;
}

class RunningThread {
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  #calls = 0;
  #sessions = 0;
  #ended: FallowError | null = null;

  constructor() {
    const entry = new URL(`./hash-thread-entry${import.meta.url.slice(-3)}`, import.meta.url);
    this.#worker = new Worker(entry, { resourceLimits: { maxOldGenerationSizeMb: HEAP_MB_MAX } });
    this.#worker.unref();
    this.#worker.on("message", (answer: HashAnswer) => this.#settle(answer));
    this.#worker.on("error", (cause) => this.#fail("the hashing thread failed", cause));
    this.#worker.on("exit", (code) => this.#fail(`the hashing thread ended with code ${code}`, undefined));
  }

  get isEnded(): boolean {
    return this.#ended !== null;
  }

  nextSession(): number {
    return this.#sessions++;
  }

  ask(question: Question): Promise<HashAnswer> {
    if (this.#ended !== null) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => {
      const call = this.#calls++;
      this.#pending.set(call, { resolve, reject });
      this.#worker.ref();
      this.#worker.postMessage({ ...question, call });
    });
  }

  #settle(answer: HashAnswer): void {
    const pending = this.#pending.get(answer.call);
    this.#pending.delete(answer.call);
    if (this.#pending.size === 0) this.#worker.unref();
    const { fault } = answer;
    if (fault === null) pending?.resolve(answer);
    else pending?.reject(Object.assign(new Error(fault.message), { code: fault.code }));
  }

  #fail(message: string, cause: unknown): void {
    this.#ended ??= new FallowError("hashing-failed", message, { cause });
    for (const { reject } of this.#pending.values()) reject(this.#ended);
    this.#pending.clear();
  }
}
