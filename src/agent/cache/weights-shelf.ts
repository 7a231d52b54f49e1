/**
 * The node's files of weights under one roof: what is there, what may go when a load needs room, and what is brought in ahead of need.
 *
 * | event                    | what happens                                                                                     |
 * | ------------------------ | ------------------------------------------------------------------------------------------------ |
 * | load of a file           | other staging stops; files of least use go while the budget or the disk is too small; fetched    |
 * | order to stage           | one after the other; free room only, nothing goes for it                                         |
 * | owner is back, link lost | staging stops; what came so far stays on the disk and is continued when it is ordered again       |
 *
 * A file that a replica runs from never goes. Which others go first is `scheduler/forecast/eviction.ts`. What came in part counts against
 * the budget too, and goes before any whole file; what is being fetched counts whole from the start.
 */
import { describeFault, FallowError } from "../../domain/fault.ts";
import { type Sha256Hex, sha256Hex } from "../../domain/ids.ts";
import type { Log } from "../../ports/log.ts";
import type { WeightsCache, WeightsWant } from "../../ports/weights-cache.ts";
import { EvictionOrder } from "../../scheduler/forecast/eviction.ts";
import { type WeightsStage, type WeightsState, WIRE_BOUNDS } from "../../wire/agent-link.ts";

export interface WeightsShelfPorts {
  readonly cache: WeightsCache;
  readonly log: Log;
  /** Digests that replicas run from or are loading. */
  pinned(): ReadonlySet<string>;
  /** Bearer of the session that is open now; null while there is none. */
  sessionToken(): string | null;
  /** Something that `state` tells is new. */
  onChange(): void;
}

export interface WeightsShelfOptions {
  /** Bytes that all files together may take; null leaves it to the disk. */
  readonly budgetBytes: number | null;
}

/** Orders that wait for the one that runs; the coordinator gives one at a time. */
const STAGINGS_MAX = 8;

type Progress = { signal: AbortSignal; onProgress: (doneBytes: number) => void };

export class WeightsShelf implements Pick<WeightsCache, "ensure"> {
  readonly #ports: WeightsShelfPorts;
  readonly #options: WeightsShelfOptions;
  readonly #order = new EvictionOrder();
  /** By digest; the one used last is last. */
  readonly #files = new Map<string, number>();
  /** By digest: bytes that lie there in part. */
  readonly #partial = new Map<string, number>();
  /** By digest: whole size and number of those who fetch it now. */
  readonly #coming = new Map<string, { readonly bytes: number; readonly count: number }>();
  readonly #waiting = new Map<string, WeightsStage>();
  #running: { readonly order: WeightsStage; readonly abort: AbortController } | null = null;
  #opened: Promise<void> | null = null;
  #freeBytes: number | null = null;

  constructor(ports: WeightsShelfPorts, options: WeightsShelfOptions) {
    this.#ports = ports;
    this.#options = options;
  }

  /** Resolves when what lies on the disk is known. May be called twice. */
  open(): Promise<void> {
    this.#opened ??= this.#look();
    return this.#opened;
  }

  /** A load: comes before all staging, and may take the room of files that are of less use. */
  async ensure(want: WeightsWant, options: Progress): Promise<string> {
    await this.open();
    // An engine that starts again from a file that is there needs no bytes.
    if (!this.#files.has(want.weightsSha256)) this.giveWay(want.weightsSha256);
    this.#begins(want);
    try {
      await this.#keepBudget(want);
      const path = await this.#fetch(want, options).catch(async (thrown: unknown) => {
        const isFull = thrown instanceof FallowError && thrown.code === "disk-full";
        if (!isFull || !(await this.#evict(want.fileBytes, want.weightsSha256))) throw thrown;
        return await this.#fetch(want, options);
      });
      await this.#took(want);
      return path;
    } finally {
      await this.#ends(want);
    }
  }

  stage(order: WeightsStage): void {
    const { weightsSha256 } = order;
    const isKnown = this.#files.has(weightsSha256) || this.#running?.order.weightsSha256 === weightsSha256;
    if (isKnown || this.#waiting.size >= STAGINGS_MAX) {
      this.#ports.onChange();
      return;
    }
    this.#waiting.set(weightsSha256, order);
    this.#next();
  }

  /** Stops all staging but that of the file named: a load of it waits for the very same bytes. */
  giveWay(weightsSha256: string | null): void {
    this.#waiting.clear();
    if (this.#running !== null && this.#running.order.weightsSha256 !== weightsSha256) this.#running.abort.abort();
  }

  state(): WeightsState {
    const staging = this.#running === null ? [] : [this.#running.order];
    const cached = [...this.#files].slice(-(WIRE_BOUNDS.weightsPerNodeMax - staging.length)).reverse();
    return {
      type: "weights.state",
      weights: [
        ...staging.map(({ weightsSha256, fileBytes }) => ({ weightsSha256, fileBytes, state: "staging" as const })),
        ...cached.map(([weightsSha256, fileBytes]) => ({ weightsSha256, fileBytes, state: "cached" as const })),
      ],
      freeBytes: this.#roomBytes(),
    };
  }

  async #look(): Promise<void> {
    try {
      for (const { weightsSha256, fileBytes } of await this.#ports.cache.list()) this.#note(weightsSha256, fileBytes);
      await this.#lookForPartial();
    } catch (thrown) {
      // Files that are not known are fetched, or found, when they are needed.
      this.#ports.log.warn({ cause: describeFault(thrown) }, "weights on the disk cannot be listed");
    }
  }

  #next(): void {
    if (this.#running !== null) return;
    const [order] = this.#waiting.values();
    if (order === undefined || this.#ports.sessionToken() === null) return;
    this.#waiting.delete(order.weightsSha256);
    const abort = new AbortController();
    this.#running = { order, abort };
    void this.#bring(order, abort.signal).finally(() => {
      this.#running = null;
      this.#ports.onChange();
      this.#next();
    });
  }

  /** Never rejects: a copy that does not come is only a copy that is not there. */
  async #bring(order: WeightsStage, signal: AbortSignal): Promise<void> {
    const { weightsSha256, fileBytes } = order;
    const { cache, log, onChange } = this.#ports;
    try {
      await this.open();
      const roomBytes = await this.#makeStagingRoom({ weightsSha256, fileBytes });
      if (roomBytes !== null && roomBytes < fileBytes) {
        throw new FallowError("disk-full", `${fileBytes} bytes are wanted and ${roomBytes} are free for weights`);
      }
      signal.throwIfAborted();
      onChange();
      const want = {
        weightsSha256: sha256Hex(weightsSha256),
        fileBytes,
        layers: order.layers ?? null,
        isIdle: true,
      };
      this.#begins(want);
      try {
        await cache.ensure(want, { signal, onProgress: () => undefined });
        await this.#took(want);
      } finally {
        await this.#ends(want);
      }
      log.info({ weightsSha256, fileBytes }, "weights staged");
    } catch (thrown) {
      log.info({ weightsSha256, cause: describeFault(thrown) }, "weights not staged");
    }
  }

  #begins({ weightsSha256, fileBytes }: WeightsWant): void {
    const count = (this.#coming.get(weightsSha256)?.count ?? 0) + 1;
    this.#coming.set(weightsSha256, { bytes: fileBytes, count });
  }

  async #ends({ weightsSha256 }: WeightsWant): Promise<void> {
    const coming = this.#coming.get(weightsSha256);
    if (coming === undefined || coming.count <= 1) this.#coming.delete(weightsSha256);
    else this.#coming.set(weightsSha256, { ...coming, count: coming.count - 1 });
    if (!this.#files.has(weightsSha256)) await this.#lookForPartial();
  }

  async #lookForPartial(): Promise<void> {
    try {
      const found = await this.#ports.cache.listPartial();
      this.#partial.clear();
      for (const { weightsSha256, fileBytes } of found) {
        if (!this.#files.has(weightsSha256)) this.#partial.set(weightsSha256, fileBytes);
      }
      await this.#measure();
    } catch (thrown) {
      this.#ports.log.warn({ cause: describeFault(thrown) }, "weights in part cannot be listed");
    }
  }

  /** Other files that came in part go for it; whole ones do not. Answers with the room that there is then. */
  async #makeStagingRoom({ weightsSha256, fileBytes }: Omit<WeightsStage, "type">): Promise<number | null> {
    const own = this.#partial.get(weightsSha256) ?? 0;
    const room = () => {
      const roomBytes = this.#roomBytes();
      return roomBytes === null ? null : roomBytes + own;
    };
    for (const digest of this.#staleParts(weightsSha256)) {
      const roomBytes = room();
      if (roomBytes === null || roomBytes >= fileBytes) break;
      await this.#removePart(digest);
    }
    return room();
  }

  /** Of files that nobody fetches now, nor will soon. */
  #staleParts(wanted: string): readonly string[] {
    const kept = new Set([...this.#ports.pinned(), wanted]);
    return [...this.#partial.keys()].filter((digest) => !kept.has(digest) && !this.#coming.has(digest));
  }

  async #removePart(digest: string): Promise<void> {
    await this.#ports.cache.remove(sha256Hex(digest));
    this.#partial.delete(digest);
    await this.#measure();
  }

  #fetch(want: WeightsWant, options: Progress): Promise<string> {
    return this.#ports.cache.ensure(want, options);
  }

  async #took({ weightsSha256, fileBytes }: WeightsWant): Promise<void> {
    const isNew = !this.#files.has(weightsSha256);
    this.#partial.delete(weightsSha256);
    this.#note(weightsSha256, fileBytes);
    if (!isNew) return;
    await this.#measure();
    this.#ports.onChange();
  }

  #note(weightsSha256: string, fileBytes: number): void {
    this.#files.delete(weightsSha256);
    this.#files.set(weightsSha256, fileBytes);
    this.#order.use({ id: weightsSha256, bytes: fileBytes });
  }

  async #measure(): Promise<void> {
    this.#freeBytes = await this.#ports.cache.freeBytes();
  }

  /** What one more file may take; null when nothing limits it. */
  #roomBytes(): number | null {
    const { budgetBytes } = this.#options;
    const ofBudget = budgetBytes === null ? null : Math.max(0, budgetBytes - this.#usedBytes());
    if (ofBudget === null || this.#freeBytes === null) return ofBudget ?? this.#freeBytes;
    return Math.min(ofBudget, this.#freeBytes);
  }

  #usedBytes(): number {
    let sum = 0;
    for (const bytes of this.#files.values()) sum += bytes;
    for (const [digest, { bytes }] of this.#coming) if (!this.#files.has(digest)) sum += bytes;
    for (const [digest, bytes] of this.#partial) if (!this.#coming.has(digest)) sum += bytes;
    return sum;
  }

  async #keepBudget({ weightsSha256, fileBytes }: WeightsWant): Promise<void> {
    const { budgetBytes } = this.#options;
    if (budgetBytes === null || this.#files.has(weightsSha256)) return;
    // It counts as coming already.
    const missingBytes = this.#usedBytes() - budgetBytes;
    if (missingBytes <= 0 || (await this.#evict(missingBytes, weightsSha256))) return;
    const data = { fileBytes, budgetBytes };
    const message = `${fileBytes} bytes of weights do not fit the budget of ${budgetBytes} beside what is in use`;
    throw new FallowError("disk-full", message, { data });
  }

  /** False when all that may go is too little; then nothing goes. */
  async #evict(neededBytes: number, wanted: Sha256Hex): Promise<boolean> {
    const parts = this.#staleParts(wanted);
    const partBytes = parts.reduce((sum, digest) => sum + (this.#partial.get(digest) ?? 0), 0);
    const rest = Math.max(0, neededBytes - partBytes);
    const victims = this.#order.victims(rest, new Set([...this.#ports.pinned(), wanted]));
    if (victims === null) return false;
    for (const digest of parts) await this.#removePart(digest);
    for (const { id, bytes } of victims) {
      this.#files.delete(id);
      await this.#ports.cache.remove(sha256Hex(id));
      this.#ports.log.info({ weightsSha256: id, fileBytes: bytes, neededBytes }, "weights evicted");
    }
    await this.#measure();
    this.#ports.onChange();
    return true;
  }
}
