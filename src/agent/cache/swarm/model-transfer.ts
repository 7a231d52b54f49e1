/**
 * One model's chunks on their way to this node, for all who wait for some of them.
 *
 * | state    | first comes to wait    | right to write taken | all have theirs, or gave up | held back           | let go on |
 * | -------- | ---------------------- | -------------------- | --------------------------- | ------------------- | --------- |
 * | idle     | locking                | –                    | –                           | –                   | –         |
 * | locking  | –                      | moving               | idle                        | –                   | –         |
 * | moving   | –                      | –                    | idle, lock given back       | flights end, waits  | moving    |
 *
 * While another process holds the right to write, what it writes is looked at; when it ends, this one takes over. A transfer in which
 * nothing moves for `STALL_MS_MAX`, though it may, is given up: whoever ordered it tries again or elsewhere.
 */
import { ChunkSet } from "../../../domain/chunk-set.ts";
import { describeFault, FallowError } from "../../../domain/fault.ts";
import { chunkPlace } from "../../../domain/weights.ts";
import { pause, type Timer } from "../../../ports/clock.ts";
import { NextChunks, type Supplier } from "../../../scheduler/distribution/next-chunks.ts";
import { WIRE_BOUNDS } from "../../../wire/link-atoms.ts";
import type { PeerOrder } from "../../session.ts";
import { type ArrivingChunk, ChunkArrivals } from "./arriving-chunk.ts";
import type { OpenModel } from "./open-models.ts";
import { PeerFlights } from "./peer-flights.ts";
import { SourceFlights } from "./source-flights.ts";
import type { SwarmPorts, TransferEnv } from "./transfer-env.ts";

export interface TransferWant {
  readonly need: ChunkSet;
  readonly isIdle: boolean;
  readonly signal: AbortSignal;
  /** Of `need`, what is here. */
  readonly onProgress: (doneBytes: number) => void;
}

export interface TransferDuties {
  /** May it move bytes now: nobody else comes first, and the owner lets it. */
  mayMove(): boolean;
  /** A chunk is here: others may have it too. */
  onKept(): void;
  /** Others may have it at once: the coordinator must know before it is asked for more. */
  tellHave(): void;
  /** Someone waits, or nobody does any more. */
  onBusy(): void;
}

/** Chunks on their way at once, whatever their size. */
const FLIGHTS_MAX = 48;
/** Under a cap: one chunk at a time for each so many bytes a second, so that none of them drips. */
const CAPPED_BYTES_PER_FLIGHT = 128 * 1024;
const TICK_MS = 250;
const LOCK_LOOK_MS = 250;
/** Without a word of who has what for so long, the source is asked all the same. */
const HOLDERS_MS_MAX = 2_000;
/** The coordinator is asked again for grants that were used up. */
const REGRANT_MS = 2_000;
const STALL_MS_MAX = 120_000;

interface Waiter extends TransferWant {
  resolve(): void;
  reject(cause: unknown): void;
  doneBytes: number;
  /** Chunks of `need` that are not here. */
  left: number;
}

export interface TransferCounts {
  readonly peerBytes: number;
  readonly sourceBytes: number;
  /** Nodes that brought something since it last began. */
  readonly nodes: number;
}

export class ModelTransfer {
  readonly model: OpenModel;
  readonly #ports: SwarmPorts;
  readonly #duties: TransferDuties;
  readonly #waiters = new Set<Waiter>();
  #next: NextChunks;
  readonly #peers: PeerFlights;
  readonly #source: SourceFlights;
  #state: "idle" | "locking" | "moving" = "idle";
  #timer: Timer | null = null;
  #isPumpDue = false;
  /** Writes that are under way, by chunk: the lock is given back after them. */
  readonly #writing = new Map<number, Promise<"kept" | "bad">>();
  #unlocked: Promise<void> = Promise.resolve();
  #movedAtMs = 0;
  #wantedAtMs = 0;
  #movedBytes = 0;
  #peerBytes = 0;
  #sourceBytes = 0;
  readonly #suppliers = new Set<Supplier>();

  constructor(model: OpenModel, ports: SwarmPorts, duties: TransferDuties) {
    this.model = model;
    this.#ports = ports;
    this.#duties = duties;
    this.#next = this.#choice();
    const env: TransferEnv = {
      ...ports,
      model,
      arrivals: new ChunkArrivals({
        model,
        mayWrite: () => this.#state === "moving",
        fail: (cause) => this.#fail(cause),
      }),
      next: () => this.#next,
      moved: (bytes) => {
        this.#movedBytes += bytes;
        this.#movedAtMs = ports.clock.monoMs();
      },
      keep: (arriving, from) => this.#keep(arriving, from),
      tellHave: () => duties.tellHave(),
      fail: (cause) => this.#fail(cause),
      changed: () => this.#pumpSoon(),
    };
    this.#peers = new PeerFlights(env);
    this.#source = new SourceFlights(env);
  }

  get isBusy(): boolean {
    return this.#waiters.size > 0;
  }

  /** Nobody waits for it but those who do so ahead of need. */
  get isIdle(): boolean {
    return [...this.#waiters].every(({ isIdle }) => isIdle);
  }

  /** Verified and kept since it began, by where they came from. */
  get counts(): TransferCounts {
    return { peerBytes: this.#peerBytes, sourceBytes: this.#sourceBytes, nodes: this.#suppliers.size };
  }

  get movedBytes(): number {
    return this.#movedBytes;
  }

  get peerCount(): number {
    return this.#peers.activeCount;
  }

  /** Resolves when all chunks are here. Rejects at the abort, `disk-full`, `weights-digest-mismatch`, `weights-unreachable`. */
  want(want: TransferWant): Promise<void> {
    return new Promise((resolve, reject) => {
      const { signal } = want;
      if (signal.aborted) return reject(signal.reason);
      const settle = (finish: () => void) => {
        signal.removeEventListener("abort", onAbort);
        this.#waiters.delete(waiter);
        finish();
        if (!this.isBusy) this.#endIfDone();
        else if (waiter.left > 0) this.#leave();
      };
      const onAbort = () => settle(() => reject(signal.reason));
      const waiter: Waiter = {
        ...want,
        resolve: () => settle(resolve),
        reject: (cause) => settle(() => reject(cause)),
        doneBytes: 0,
        left: 0,
      };
      signal.addEventListener("abort", onAbort, { once: true });
      this.#waiters.add(waiter);
      this.#recount(waiter);
      this.#movedAtMs = this.#ports.clock.monoMs();
      this.#duties.onBusy();
      if (this.#state === "idle") void this.#lock();
      else if (this.#state === "moving") {
        this.#next.need(want.need);
        this.#ask();
      }
      this.#pumpSoon();
    });
  }

  onHolders(order: Extract<PeerOrder, { type: "weights.holders" }>): void {
    this.#peers.onHolders(order.holders, this.#ports.line.line?.nodeId ?? null);
    this.#pumpSoon();
  }

  onClaimed(order: Extract<PeerOrder, { type: "weights.claimed" }>): void {
    if (this.#state !== "moving") return;
    this.#source.onClaimed(order);
    this.#pumpSoon();
  }

  /** Peers go on while the coordinator is away; now it is back and knows nothing of what was asked. */
  onLineUp(): void {
    this.#peers.forgetNews();
    this.#source.forgetClaims();
    if (this.#state === "moving") this.#ask();
    this.#pumpSoon();
  }

  /** Whether it may move is new. */
  look(): void {
    if (!this.#duties.mayMove()) this.#stopFlights();
    this.#pumpSoon();
  }

  /** Someone gave up: what he alone needed is fetched no more. */
  #leave(): void {
    this.#duties.onBusy();
    if (this.#state !== "moving") return;
    this.#stopFlights();
    this.#renew();
    this.#ask();
    this.#pumpSoon();
  }

  #renew(): void {
    this.#next = this.#choice();
    this.#peers.forgetOffers();
  }

  async #lock(): Promise<void> {
    const { stored, weightsSha256 } = this.model;
    this.#state = "locking";
    this.#suppliers.clear();
    try {
      await this.#unlocked;
      while (this.isBusy) {
        const isLocked = await stored.tryLock();
        await stored.refresh();
        for (const waiter of [...this.#waiters]) this.#recount(waiter);
        if (isLocked) break;
        this.#movedAtMs = this.#ports.clock.monoMs();
        await pause(this.#ports.clock, LOCK_LOOK_MS);
      }
    } catch (thrown) {
      this.#state = "idle";
      this.#ports.log.warn({ weightsSha256, cause: describeFault(thrown) }, "weights cannot be written");
      this.#fail(thrown);
      return;
    }
    this.#state = "moving";
    if (!this.isBusy) return this.#endIfDone();
    this.#renew();
    this.#tick();
    this.#ask();
    this.#pump();
  }

  #ask(): void {
    const { line, clock } = this.#ports;
    this.#wantedAtMs = clock.monoMs();
    const runs = this.#missing().runs().slice(0, WIRE_BOUNDS.chunkRunsMax);
    if (runs.length === 0 || !line.hasPeers) return;
    // What was told before may name chunks that turned out damaged: nobody is sent for what he has.
    this.#duties.tellHave();
    line.send({
      type: "weights.want",
      weightsSha256: this.model.weightsSha256,
      need: runs.map(([from, count]) => [from, count]),
      isIdle: this.isIdle,
    });
  }

  #tick(): void {
    this.#timer = this.#ports.clock.setTimer(TICK_MS, () => {
      if (this.#state !== "moving") return;
      this.#tick();
      const nowMs = this.#ports.clock.monoMs();
      if (!this.#duties.mayMove()) this.#movedAtMs = nowMs;
      if (nowMs - this.#movedAtMs > STALL_MS_MAX) return this.#fail(this.#stalled());
      this.#peers.measure();
      if (this.#peers.needsGrants && nowMs - this.#wantedAtMs > REGRANT_MS) this.#ask();
      this.#pump();
    });
  }

  #pumpSoon(): void {
    if (this.#isPumpDue) return;
    this.#isPumpDue = true;
    queueMicrotask(() => {
      this.#isPumpDue = false;
      this.#pump();
    });
  }

  #pump(): void {
    if (this.#state !== "moving" || !this.isBusy || !this.#duties.mayMove()) return;
    this.#peers.begin(this.#flightsMax());
    const { line, clock } = this.#ports;
    const isEarly = clock.monoMs() - this.#wantedAtMs < HOLDERS_MS_MAX;
    if (line.hasPeers && !this.#peers.isKnown && isEarly) return;
    this.#source.begin(this.#peers.unusable());
  }

  /** What all who wait need, and nothing of what those who left did. */
  #choice(): NextChunks {
    const { chunkCount, stored, content } = this.model;
    const needed = new ChunkSet(chunkCount);
    for (const waiter of this.#waiters) needed.addAll(waiter.need);
    const seed = Math.floor(this.#ports.random.fraction() * 0x7fffffff);
    return new NextChunks({ needed, have: stored.have, chunkBytes: content.manifest.chunkBytes, seed });
  }

  #flightsMax(): number {
    const cap = this.#ports.download.bytesPerSecondMax;
    return cap === null ? FLIGHTS_MAX : Math.min(FLIGHTS_MAX, Math.max(1, Math.floor(cap / CAPPED_BYTES_PER_FLIGHT)));
  }

  /** Of all who wait. */
  #missing(): ChunkSet {
    const need = new ChunkSet(this.model.chunkCount);
    for (const waiter of this.#waiters) need.addAll(waiter.need);
    return need.minus(this.model.stored.have);
  }

  async #keep({ chunk, bytes, savedBytes }: ArrivingChunk, from: Supplier): Promise<"kept" | "bad"> {
    const { stored } = this.model;
    // Two may bring the last chunks at once: the second is looked at only when the first was bad.
    for (let first = this.#writing.get(chunk); first !== undefined; first = this.#writing.get(chunk)) {
      if ((await first) === "kept") return "kept";
    }
    // Nobody waits any more: the right to write is gone, or goes.
    if (stored.have.has(chunk) || this.#state !== "moving") return "kept";
    const writing = stored.write(chunk, bytes, savedBytes);
    this.#writing.set(chunk, writing);
    const outcome = await writing.finally(() => this.#writing.delete(chunk));
    if (outcome === "bad") return outcome;
    for (const other of this.#next.done(chunk, from)) if (other !== "source") this.#peers.cancel(chunk, other);
    if (from === "source") this.#sourceBytes += bytes.length;
    else {
      this.#peerBytes += bytes.length;
      this.#suppliers.add(from);
    }
    this.#duties.onKept();
    for (const waiter of [...this.#waiters]) {
      if (!waiter.need.has(chunk)) continue;
      waiter.doneBytes += bytes.length;
      waiter.left -= 1;
      waiter.onProgress(waiter.doneBytes);
      if (waiter.left <= 0) this.#finish(waiter);
    }
    return outcome;
  }

  /** What another process wrote counts too. */
  #recount(waiter: Waiter): void {
    const { stored, content } = this.model;
    let [doneBytes, left] = [0, 0];
    for (const chunk of waiter.need) {
      if (stored.have.has(chunk)) doneBytes += chunkPlace(content.manifest, chunk).bytes;
      else left += 1;
    }
    if (doneBytes !== waiter.doneBytes) waiter.onProgress(doneBytes);
    waiter.doneBytes = doneBytes;
    waiter.left = left;
    if (left === 0) this.#finish(waiter);
  }

  #finish(waiter: Waiter): void {
    if (this.#waiters.has(waiter)) waiter.resolve();
  }

  #fail(cause: unknown): void {
    for (const waiter of [...this.#waiters]) waiter.reject(cause);
    this.#endIfDone();
  }

  #stopFlights(): void {
    this.#peers.stop();
    this.#source.stop();
  }

  #endIfDone(): void {
    if (this.isBusy) return;
    this.#duties.onBusy();
    if (this.#state !== "moving") return;
    this.#state = "idle";
    this.#timer?.cancel();
    this.#stopFlights();
    this.#ports.line.send({ type: "weights.done", weightsSha256: this.model.weightsSha256 });
    this.#unlocked = this.#unlock();
  }

  async #unlock(): Promise<void> {
    try {
      await Promise.allSettled(this.#writing.values());
      await this.model.stored.unlock();
    } catch (thrown) {
      this.#ports.log.warn({ cause: describeFault(thrown) }, "the lock of weights cannot be given back");
    }
  }

  #stalled(): FallowError {
    const { weightsSha256 } = this.model;
    const cause = this.#source.problem;
    const what = `nothing of ${weightsSha256} came for ${STALL_MS_MAX} ms from ${this.#peers.unusable().length} other nodes or the coordinator`;
    return new FallowError("weights-unreachable", what, { data: { weightsSha256 }, cause });
  }
}
