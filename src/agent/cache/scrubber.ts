/**
 * Disks rot, and weights lie on them for months. While nothing else needs the disk, all chunks are read again, a few at a time so that
 * the reading is not felt: all of them in a week, what is little within hours; what is damaged is forgotten and fetched again when it is wanted. A pass goes through the models
 * in the order of their digests and begins at a random one, so that agents that never run for a week reach all of them too.
 *
 * What an engine opens was verified anyway, once in each process; this is for what lies there unread, and for what others fetch from here.
 */
import { describeFault } from "../../domain/fault.ts";
import type { Sha256Hex } from "../../domain/ids.ts";
import type { StoredModel, StoredWeights } from "../../ports/chunk-store.ts";
import { type Clock, pause } from "../../ports/clock.ts";
import type { Log } from "../../ports/log.ts";
import type { Random } from "../../ports/random.ts";

export interface ScrubberPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** What lies on the disk. */
  models(): Promise<readonly StoredModel[]>;
  /** Opens a model that lies there, for the scrubber alone to close; null when it cannot be trusted or is gone. */
  open(weightsSha256: Sha256Hex, signal: AbortSignal): Promise<StoredWeights | null>;
  /** Nothing is loading or being fetched, and the owner does not use the machine. */
  isIdle(): boolean;
  /** So that what is told of the node's weights changes. */
  onDamaged(weightsSha256: Sha256Hex, chunks: readonly number[]): void;
}

export interface ScrubberOptions {
  /** In which all weights are read once. */
  readonly passMs?: number;
  /** However much lies there; then a pass takes longer. */
  readonly bytesPerSecondMax?: number;
}

const PASS_MS = 7 * 24 * 3_600_000;
/** A tenth of what a hard disk reads: its owner does not feel it. */
const BYTES_PER_SECOND_MAX = 16 * 1024 * 1024;
/** Read in one go: half a second of a hard disk at most, after which whatever came up meanwhile has its turn. */
const STEP_BYTES = 16 * 1024 * 1024;
/** Between two looks whether the node is idle, or whether there is anything to read. */
const LOOK_MS = 60_000;
/** However little lies there, a step is done each hour: what comes to lie there is seen. */
const WAIT_MS_MAX = 3_600_000;

interface Cursor {
  readonly weightsSha256: Sha256Hex;
  readonly chunk: number;
}

export class Scrubber {
  readonly #ports: ScrubberPorts;
  readonly #passMs: number;
  readonly #bytesPerSecondMax: number;
  /** Where the next step begins; null before the first. */
  #cursor: Cursor | null = null;
  #step: AbortController | null = null;
  #running: { readonly abort: AbortController; readonly ended: Promise<void> } | null = null;
  #scrubbedBytes = 0;

  constructor(
    ports: ScrubberPorts,
    { passMs = PASS_MS, bytesPerSecondMax = BYTES_PER_SECOND_MAX }: ScrubberOptions = {},
  ) {
    this.#ports = ports;
    this.#passMs = passMs;
    this.#bytesPerSecondMax = bytesPerSecondMax;
  }

  /** Read since the start. */
  get scrubbedBytes(): number {
    return this.#scrubbedBytes;
  }

  /** May be called twice. */
  start(): void {
    if (this.#running !== null) return;
    const abort = new AbortController();
    this.#running = { abort, ended: this.#run(abort.signal) };
  }

  /** Resolves when nothing is read any more. May be called twice, and before the start. */
  async stop(): Promise<void> {
    const running = this.#running;
    this.#running = null;
    running?.abort.abort();
    this.giveWay();
    await running?.ended;
  }

  /** Something that somebody waits for begins: reading stops at once. */
  giveWay(): void {
    this.#step?.abort();
  }

  /** Never rejects. */
  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      let waitMs = LOOK_MS;
      try {
        if (this.#ports.isIdle()) waitMs = await this.#stepOn();
      } catch (thrown) {
        if (!signal.aborted) this.#ports.log.warn({ cause: describeFault(thrown) }, "weights cannot be scrubbed");
      }
      await pause(this.#ports.clock, waitMs, signal);
    }
  }

  /** One step; answers how long to wait for the next. */
  async #stepOn(): Promise<number> {
    const models = (await this.#ports.models()).filter(({ storedBytes }) => storedBytes > 0);
    const allBytes = models.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
    const cursor = this.#next(models);
    if (cursor === null) return LOOK_MS;
    const step = new AbortController();
    this.#step = step;
    try {
      const readBytes = await this.#scrub(cursor, step.signal);
      const bytesPerSecond = Math.min(this.#bytesPerSecondMax, (allBytes / this.#passMs) * 1_000);
      return Math.min(WAIT_MS_MAX, (readBytes / bytesPerSecond) * 1_000);
    } catch (thrown) {
      // Whatever it gave way to comes first; the step is done again.
      if (step.signal.aborted) return LOOK_MS;
      this.#cursor = { weightsSha256: cursor.weightsSha256, chunk: Number.POSITIVE_INFINITY };
      throw thrown;
    } finally {
      this.#step = null;
    }
  }

  #next(models: readonly StoredModel[]): Cursor | null {
    const digests = models.map(({ weightsSha256 }) => weightsSha256).sort();
    const [first] = digests;
    if (first === undefined) return null;
    const at = this.#cursor;
    if (at === null) {
      const start = digests[Math.floor(this.#ports.random.fraction() * digests.length)] ?? first;
      return { weightsSha256: start, chunk: 0 };
    }
    if (Number.isFinite(at.chunk) && digests.includes(at.weightsSha256)) return at;
    return { weightsSha256: digests.find((digest) => digest > at.weightsSha256) ?? first, chunk: 0 };
  }

  /** Moves the cursor on; answers with the bytes that were read. */
  async #scrub({ weightsSha256, chunk }: Cursor, signal: AbortSignal): Promise<number> {
    const weights = await this.#ports.open(weightsSha256, signal);
    let readBytes = 0;
    let next = Number.POSITIVE_INFINITY;
    try {
      if (weights !== null) {
        const { chunkBytes } = weights.content.manifest;
        const run = firstRun(weights, chunk, Math.max(1, Math.floor(STEP_BYTES / chunkBytes)));
        next = run.end;
        const onVerified = (bytes: number) => {
          readBytes = bytes;
        };
        const damaged = await weights.scrub({ signal, onVerified, from: run.from, count: run.end - run.from });
        if (damaged.length > 0) {
          this.#ports.log.warn({ weightsSha256, chunks: damaged.length }, "weights were damaged on the disk");
          this.#ports.onDamaged(weightsSha256, damaged);
        }
        if (next >= weights.have.chunkCount) next = Number.POSITIVE_INFINITY;
      }
    } finally {
      this.#scrubbedBytes += readBytes;
      await weights?.close();
    }
    this.#cursor = { weightsSha256, chunk: next };
    return readBytes;
  }
}

/** From the next chunk that is here on, at most so many; behind the last one when there is none. */
function firstRun(
  { have }: StoredWeights,
  from: number,
  chunksMax: number,
): { readonly from: number; readonly end: number } {
  let start = Math.min(from, have.chunkCount);
  while (start < have.chunkCount && !have.has(start)) start++;
  return { from: start, end: Math.min(have.chunkCount, start + chunksMax) };
}
