/**
 * The node's weights under one roof: what is there, what may go when a load needs room, and what is brought in ahead of need.
 *
 * | event                    | what happens                                                                                     |
 * | ------------------------ | ------------------------------------------------------------------------------------------------ |
 * | load of a model or share | other staging stops; weights of least use go while the budget or the disk is too small; fetched   |
 * | order to stage           | one after the other; free room and that of loose parts only                                      |
 * | owner is back, link lost | staging stops; what came so far stays on the disk and is continued when it is ordered again       |
 *
 * What a replica runs from, and what is being fetched, never goes. The rest goes in this order: what came in part for nothing known (staging
 * that was stopped), then by least use for its bytes, and last what the planner had brought and nobody has used yet. Everything on the
 * disk counts against the budget; what is being fetched counts from the start.
 */
import { describeFault, FallowError } from "../../domain/fault.ts";
import { sha256Hex } from "../../domain/ids.ts";
import type { Log } from "../../ports/log.ts";
import type { WeightsCache, WeightsWant } from "../../ports/weights-cache.ts";
import { type WeightsStage, type WeightsState, WIRE_BOUNDS } from "../../wire/agent-link.ts";
import { ShelfHoldings } from "./shelf-holdings.ts";
import { StagingOrders } from "./staging-orders.ts";

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
  /** Bytes that all weights together may take; null leaves it to the disk. */
  readonly budgetBytes: number | null;
}

/** Lists that are overtaken by what comes and goes; a figure that is wrong for a while costs an eviction at most. */
const LOOKS_MAX = 3;

type Progress = { signal: AbortSignal; onProgress: (doneBytes: number) => void };

export class WeightsShelf implements Pick<WeightsCache, "ensure"> {
  readonly #ports: WeightsShelfPorts;
  readonly #options: WeightsShelfOptions;
  readonly #holdings = new ShelfHoldings();
  readonly #orders: StagingOrders;
  #opened: Promise<void> | null = null;
  #freeBytes: number | null = null;

  constructor(ports: WeightsShelfPorts, options: WeightsShelfOptions) {
    this.#ports = ports;
    this.#options = options;
    this.#orders = new StagingOrders({
      mayRun: () => ports.sessionToken() !== null,
      bring: (order, signal) => this.#bring(order, signal),
      onChange: () => ports.onChange(),
    });
  }

  /** Resolves when what lies on the disk is known. May be called twice. */
  open(): Promise<void> {
    this.#opened ??= this.#lookAtDisk();
    return this.#opened;
  }

  /** Something is being fetched: whatever can wait does. */
  get isFetching(): boolean {
    return this.#holdings.isFetching;
  }

  /** A load: comes before all staging, and may take the room of weights that are of less use. */
  async ensure(want: WeightsWant, options: Progress): Promise<string> {
    await this.open();
    const { weightsSha256 } = want;
    // An engine that starts again from what is there needs no bytes.
    if (!this.#holdings.has(weightsSha256, want.layers ?? null)) this.giveWay(weightsSha256);
    const bytes = await this.#bytesOf(want, options.signal);
    this.#holdings.begins(weightsSha256, bytes);
    try {
      await this.#keepBudget(want, bytes);
      await this.#keepDisk(want, bytes);
      const path = await this.#ports.cache.ensure(want, options).catch(async (thrown: unknown) => {
        const isFull = thrown instanceof FallowError && thrown.code === "disk-full";
        const missingBytes = bytes - (this.#holdings.get(weightsSha256)?.bytes ?? 0);
        if (!isFull || !(await this.#evict(Math.max(1, missingBytes), weightsSha256))) throw thrown;
        return await this.#ports.cache.ensure(want, options);
      });
      await this.#took(want, bytes);
      this.#orders.used(weightsSha256);
      return path;
    } finally {
      await this.#ends(weightsSha256);
    }
  }

  stage(order: WeightsStage): void {
    if (this.#holdings.has(order.weightsSha256, order.layers ?? null)) {
      this.#orders.wants(order.weightsSha256);
      this.#ports.onChange();
    } else this.#orders.add(order);
  }

  /** A replica that ran from it is gone. */
  rest(weightsSha256: string): void {
    if (!this.#ports.pinned().has(weightsSha256)) this.#ports.cache.rest?.(sha256Hex(weightsSha256));
  }

  /** Stops all staging but that of the model named: a load of it waits for the very same bytes. */
  giveWay(weightsSha256: string | null): void {
    this.#orders.giveWay(weightsSha256);
  }

  /** Looks at the disk again: a scrub found damage, or somebody else removed something. */
  async lookAgain(): Promise<void> {
    await this.open();
    await this.#lookAtDisk();
    this.#ports.onChange();
  }

  state(): WeightsState {
    const running = this.#orders.running;
    const staging = running === null ? [] : [running];
    const held = this.#holdings.all().filter(([digest]) => digest !== running?.weightsSha256);
    const max = WIRE_BOUNDS.weightsPerNodeMax;
    const whole = held.filter(([, { isWhole }]) => isWhole).slice(0, max - staging.length);
    const parts = this.#holdings.all().filter(([, { isWhole }]) => !isWhole);
    return {
      type: "weights.state",
      weights: [
        ...staging.map(({ weightsSha256, fileBytes }) => ({ weightsSha256, fileBytes, state: "staging" as const })),
        ...whole.map(([weightsSha256, { fileBytes }]) => ({ weightsSha256, fileBytes, state: "cached" as const })),
      ],
      parts: parts
        .slice(0, max)
        .map(([weightsSha256, { fileBytes, bytes }]) => ({ weightsSha256, fileBytes, storedBytes: bytes })),
      freeBytes: this.#roomBytes(),
    };
  }

  /** Never rejects: a copy that does not come is only a copy that is not there. */
  async #bring(order: WeightsStage, signal: AbortSignal): Promise<void> {
    const { weightsSha256, fileBytes } = order;
    const { cache, log, onChange } = this.#ports;
    try {
      await this.open();
      const layers = order.layers ?? null;
      const want = { weightsSha256: sha256Hex(weightsSha256), fileBytes, layers, isIdle: true };
      const bytes = await this.#bytesOf(want, signal);
      const roomBytes = await this.#makeStagingRoom(weightsSha256, bytes);
      if (roomBytes !== null && roomBytes < bytes) {
        throw new FallowError("disk-full", `${bytes} bytes are wanted and ${roomBytes} are free for weights`);
      }
      signal.throwIfAborted();
      onChange();
      this.#holdings.begins(weightsSha256, bytes);
      try {
        await cache.ensure(want, { signal, onProgress: () => undefined });
        await this.#took(want, bytes);
        this.#orders.wants(weightsSha256);
        this.rest(weightsSha256);
      } finally {
        await this.#ends(weightsSha256);
      }
      log.info({ weightsSha256, bytes }, "weights staged");
    } catch (thrown) {
      log.info({ weightsSha256, cause: describeFault(thrown) }, "weights not staged");
    }
  }

  async #bytesOf(want: WeightsWant, signal: AbortSignal): Promise<number> {
    const { cache } = this.#ports;
    if (want.layers == null || this.#holdings.get(want.weightsSha256)?.isWhole === true) return want.fileBytes;
    return (await cache.bytesOf?.(want, { signal })) ?? want.fileBytes;
  }

  async #lookAtDisk(): Promise<void> {
    const { cache, log } = this.#ports;
    try {
      for (let looks = 1; ; looks++) {
        const { changes } = this.#holdings;
        const [whole, parts] = [await cache.list(), await cache.listPartial()];
        // What came or went meanwhile is not in the lists.
        if (changes !== this.#holdings.changes && looks < LOOKS_MAX) continue;
        this.#holdings.replace(whole, parts);
        return await this.#measure();
      }
    } catch (thrown) {
      // What is not known is fetched, or found, when it is needed.
      log.warn({ cause: describeFault(thrown) }, "weights on the disk cannot be listed");
    }
  }

  async #ends(weightsSha256: string): Promise<void> {
    this.#holdings.ends(weightsSha256);
    if (this.#holdings.get(weightsSha256)?.isWhole !== true) await this.#lookAtDisk();
  }

  async #took(want: WeightsWant, bytes: number): Promise<void> {
    const { weightsSha256, fileBytes } = want;
    const share = want.layers ?? null;
    const isNew = !this.#holdings.has(weightsSha256, share);
    this.#holdings.use(weightsSha256, { fileBytes, bytes, share });
    if (!isNew) return;
    await this.#measure();
    this.#ports.onChange();
  }

  async #measure(): Promise<void> {
    this.#freeBytes = await this.#ports.cache.freeBytes();
  }

  /** What more may come; null when nothing limits it. */
  #roomBytes(): number | null {
    const { budgetBytes } = this.#options;
    const ofBudget = budgetBytes === null ? null : Math.max(0, budgetBytes - this.#holdings.usedBytes());
    if (ofBudget === null || this.#freeBytes === null) return ofBudget ?? this.#freeBytes;
    return Math.min(ofBudget, this.#freeBytes);
  }

  /** Loose parts go for it; nothing else does. Answers with the room that there is then. */
  async #makeStagingRoom(weightsSha256: string, neededBytes: number): Promise<number | null> {
    const own = this.#holdings.get(weightsSha256)?.bytes ?? 0;
    const room = () => {
      const roomBytes = this.#roomBytes();
      return roomBytes === null ? null : roomBytes + own;
    };
    for (const { id } of this.#holdings.looseParts(this.#neverGo(weightsSha256))) {
      const roomBytes = room();
      if (roomBytes === null || roomBytes >= neededBytes) break;
      await this.#remove(id);
    }
    return room();
  }

  async #keepBudget({ weightsSha256, layers = null, fileBytes }: WeightsWant, neededBytes: number): Promise<void> {
    const { budgetBytes } = this.#options;
    if (budgetBytes === null || this.#holdings.has(weightsSha256, layers)) return;
    // It counts as coming already.
    const missingBytes = this.#holdings.usedBytes() - budgetBytes;
    if (missingBytes <= 0 || (await this.#evict(missingBytes, weightsSha256))) return;
    const data = { fileBytes, neededBytes, budgetBytes };
    const message = `${neededBytes} bytes of weights do not fit the budget of ${budgetBytes} beside what is in use`;
    throw new FallowError("disk-full", message, { data });
  }

  /** What cannot fit is not begun: a disk that is full half way has cost the line, and holds a part that nobody can use. */
  async #keepDisk({ weightsSha256, layers = null, fileBytes }: WeightsWant, neededBytes: number): Promise<void> {
    if (this.#holdings.has(weightsSha256, layers)) return;
    const missing = () => neededBytes - (this.#holdings.get(weightsSha256)?.bytes ?? 0);
    await this.#measure();
    if (this.#freeBytes === null || missing() <= this.#freeBytes) return;
    // Another agent on this machine may have brought some of it.
    await this.#lookAtDisk();
    const freeBytes = this.#freeBytes;
    if (freeBytes === null || missing() <= freeBytes) return;
    if (await this.#evict(missing() - freeBytes, weightsSha256)) return;
    const data = { fileBytes, neededBytes, missingBytes: missing(), freeBytes };
    const message = `${missing()} bytes of the weights are still to come, and the disk has ${freeBytes} free beside its headroom: make room there`;
    throw new FallowError("disk-full", message, { data });
  }

  /** False when all that may go is too little; then nothing goes. */
  async #evict(neededBytes: number, wanted: string): Promise<boolean> {
    const never = this.#neverGo(wanted);
    const victims = this.#holdings.victims(neededBytes, { never, last: this.#orders.wanted() });
    if (victims === null) return false;
    for (const { id, bytes } of victims) {
      await this.#remove(id);
      this.#ports.log.info({ weightsSha256: id, bytes, neededBytes }, "weights evicted");
    }
    this.#ports.onChange();
    return true;
  }

  #neverGo(wanted: string): ReadonlySet<string> {
    return new Set([...this.#ports.pinned(), wanted]);
  }

  /** What another agent on the machine uses stays on the disk, and counts on. */
  async #remove(digest: string): Promise<void> {
    try {
      await this.#ports.cache.remove(sha256Hex(digest));
      this.#holdings.drop(digest);
    } catch (thrown) {
      if (!(thrown instanceof FallowError && thrown.code === "weights-in-use")) throw thrown;
      this.#holdings.stays(digest);
      this.#ports.log.info({ weightsSha256: digest }, "weights in use by another agent stay");
    }
    await this.#measure();
  }
}
