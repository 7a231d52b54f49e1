/**
 * Chunks of one model from other nodes. Each holder is asked for some chunks at once, each chunk is verified when it is whole, and a holder
 * that breaks the rules is dropped and reported:
 *
 * | what a holder does                         | what happens                                                       |
 * | ------------------------------------------ | ------------------------------------------------------------------ |
 * | sends bytes of another digest              | thrown away, banned, reported                                       |
 * | the same, and somebody else began the chunk | thrown away, and fetched from its beginning                         |
 * | sends more or fewer, breaks the protocol   | the same                                                            |
 * | drips                                      | left alone for a while, reported                                    |
 * | cannot be reached, or ends                 | left alone, longer with each time; the source is asked for its chunks |
 * | is busy, or its owner is back              | asked again when it says                                            |
 * | knows the grant no more                    | the coordinator is asked for another                                |
 */
import { describeFault, FallowError } from "../../../domain/fault.ts";
import type { NodeId } from "../../../domain/ids.ts";
import type { PeerLink, PeerNetwork } from "../../../ports/peer-link.ts";
import type { PeerOffence } from "../../../scheduler/distribution/peer-bans.ts";
import { encodeChunkRequest } from "../../../wire/chunk-request.ts";
import type { ArrivingChunk } from "./arriving-chunk.ts";
import { Holder, type HolderNews } from "./holder.ts";
import type { TransferEnv } from "./transfer-env.ts";

/** A drip: even sixteen chunks at once over a line of 64 kB/s are above it. */
const BYTES_PER_SECOND_MIN = 2_048;
/** A dial may take 8 s, when a node has just vanished; one that punches through NATs takes some round trips. */
const LINK_MS_MAX = 2_000;
/** A holder that is busy and does not say for how long, or that lost a chunk. */
const BUSY_REST_MS = 500;
/** Chunks in a row that a holder could not read: its owner may be back, or a block of its disk is bad; more, and it is of no use. */
const UNREADABLE_MAX = 2;
/**
 * The time that a chunk takes counts as the holder's round trip up to this: with it as many chunks are asked for at once as come in that
 * time and one more, so that a link always has one to open a further connection for, and a slow holder keeps few from the others.
 */
const CHUNK_MS_MAX = 4_000;
const NEWEST_WEIGHT = 0.3;

/** What a holder's fault is called; other codes are our own matter. */
const FAULTS: ReadonlyMap<string, PeerOffence> = new Map([
  ["peer-breach", "breach"],
  ["peer-wrong-length", "wrong-length"],
  ["peer-too-slow", "too-slow"],
]);

export class PeerFlights {
  readonly #env: TransferEnv;
  readonly #holders = new Map<NodeId, Holder>();
  #isKnown = false;
  #flightCount = 0;
  #measuredAtMs = 0;

  constructor(env: TransferEnv) {
    this.#env = env;
  }

  /** The coordinator has said who has what, were it nobody. */
  get isKnown(): boolean {
    return this.#isKnown;
  }

  get flightCount(): number {
    return this.#flightCount;
  }

  /** A link ended for good, or a grant was refused: the coordinator gives another when it is asked again. */
  get needsGrants(): boolean {
    const { conduct } = this.#env;
    return [...this.#holders.values()].some((holder) => holder.needsGrant && !conduct.isBanned(holder.nodeId));
  }

  /** Nodes that something is fetched from at this moment. */
  get activeCount(): number {
    return [...this.#holders.values()].filter(({ flights }) => flights.size > 0).length;
  }

  onHolders(news: readonly HolderNews[], ownNodeId: NodeId | null): void {
    this.#isKnown = true;
    const { chunkCount } = this.#env.model;
    const named = new Set<string>();
    for (const [rank, holder] of news.entries()) {
      if (holder.nodeId === ownNodeId) continue;
      named.add(holder.nodeId);
      const known = [...this.#holders.values()].find(({ nodeId }) => nodeId === holder.nodeId);
      if (known === undefined) {
        const added = new Holder(holder, { rank, chunkCount });
        this.#holders.set(added.nodeId, added);
      } else {
        known.update(holder, { rank, chunkCount });
        known.isOffered = false;
      }
    }
    // Who is named no more has left, or has nothing that is needed; what it sends now may end.
    for (const holder of [...this.#holders.values()]) {
      if (named.has(holder.nodeId) || holder.flights.size > 0) continue;
      this.#env.next().dropHolder(holder.nodeId);
      this.#holders.delete(holder.nodeId);
    }
  }

  /** Holders that this node cannot use. */
  unusable(): readonly NodeId[] {
    return [...this.#holders.values()].filter((holder) => !this.#isUsable(holder)).map(({ nodeId }) => nodeId);
  }

  /** Begins what may begin, with so many in flight at most. */
  begin(flightsMax: number): void {
    const { network, clock, model, buffers, asked } = this.#env;
    if (network === null) return;
    this.#offer();
    const { chunkBytes } = model.content.manifest;
    while (this.#flightCount < flightsMax && buffers.has(chunkBytes) && !asked.isCrowded) {
      const pick = this.#env.next().next(clock.monoMs());
      if (pick === null) return;
      const holder = this.#holders.get(pick.nodeId);
      if (holder === undefined) {
        this.#env.next().dropHolder(pick.nodeId);
        continue;
      }
      void this.#fly(holder, pick.chunk);
    }
  }

  /** Ends what flies; may begin again afterwards. */
  stop(): void {
    for (const holder of this.#holders.values()) for (const flight of [...holder.flights.values()]) flight.abort();
  }

  /** The choice was made anew, and knows nobody. */
  forgetOffers(): void {
    for (const holder of this.#holders.values()) holder.isOffered = false;
  }

  /** Gives up what another supplier brought first. */
  cancel(chunk: number, nodeId: NodeId): void {
    this.#holders.get(nodeId)?.flights.get(chunk)?.abort();
  }

  /** The coordinator was away: what it said is said anew. */
  forgetNews(): void {
    this.#isKnown = false;
  }

  /** Tells the choice how fast each holder is. Called now and then. */
  measure(): void {
    const nowMs = this.#env.clock.monoMs();
    const seconds = (nowMs - this.#measuredAtMs) / 1_000;
    this.#measuredAtMs = nowMs;
    for (const holder of this.#holders.values()) {
      const bytesPerSecond = holder.newBytes / Math.max(0.001, seconds);
      holder.newBytes = 0;
      if (holder.flights.size === 0 || bytesPerSecond === 0) continue;
      holder.measure(bytesPerSecond);
      const rttMs = holder.chunkMs === null ? {} : { rttMs: Math.min(CHUNK_MS_MAX, holder.chunkMs) };
      this.#env.next().measure(holder.nodeId, { bytesPerSecond, ...rttMs });
    }
  }

  /** Brings the choice up to date with who can be asked. */
  #offer(): void {
    for (const holder of this.#holders.values()) {
      if (!this.#isUsable(holder)) {
        for (const flight of [...holder.flights.values()]) flight.abort();
        this.#env.next().dropHolder(holder.nodeId);
        holder.isOffered = false;
      } else if (!holder.isOffered) {
        const { nodeId, have, rank } = holder;
        holder.isOffered = this.#env.next().setHolder({ nodeId, chunks: have, rank, uploadsFree: null });
      }
    }
  }

  #isUsable(holder: Holder): boolean {
    return !holder.needsGrant && !this.#env.conduct.isBanned(holder.nodeId);
  }

  /** Never rejects. */
  async #fly(holder: Holder, chunk: number): Promise<void> {
    const { buffers, model, changed } = this.#env;
    const { chunkBytes } = model.content.manifest;
    const flight = new AbortController();
    buffers.take(chunkBytes);
    holder.flights.set(chunk, flight);
    this.#flightCount += 1;
    try {
      await this.#bring(holder, chunk, flight.signal);
    } finally {
      this.#flightCount -= 1;
      holder.flights.delete(chunk);
      this.#env.next().release(chunk, holder.nodeId);
      buffers.give(chunkBytes);
      changed();
    }
  }

  /** Never rejects. */
  async #bring(holder: Holder, chunk: number, signal: AbortSignal): Promise<void> {
    const { arrivals, fail } = this.#env;
    let arriving: ArrivingChunk;
    try {
      arriving = await arrivals.open(chunk);
    } catch (thrown) {
      return fail(thrown);
    }
    try {
      await this.#fetch(holder, arriving, signal);
      await this.#keep(holder, arriving);
    } catch (thrown) {
      // Of one that broke rules elsewhere meanwhile nothing is kept.
      const isKept = (signal.aborted || isRefusal(thrown)) && !this.#env.conduct.isBanned(holder.nodeId);
      await (isKept ? arriving.save() : arriving.drop());
      if (!signal.aborted) this.#onFailure(holder, chunk, thrown);
    } finally {
      arriving.end();
    }
  }

  /** Never rejects. */
  async #keep(holder: Holder, arriving: ArrivingChunk): Promise<void> {
    const { keep, conduct, fail, log, model } = this.#env;
    const { chunk, isContinued } = arriving;
    try {
      if ((await keep(arriving, holder.nodeId)) === "kept") {
        conduct.served(holder.nodeId);
        holder.unreadable = 0;
        return;
      }
      await arriving.drop();
      if (isContinued) {
        const { weightsSha256 } = model;
        log.info({ weightsSha256, chunk, peer: holder.nodeId }, "chunk of two suppliers is wrong, and fetched anew");
        return;
      }
      const detail = `chunk ${chunk} has another digest than the manifest says`;
      this.#drop(holder, { offence: "bad-chunk", detail });
    } catch (thrown) {
      fail(thrown);
    }
  }

  async #fetch(holder: Holder, arriving: ArrivingChunk, signal: AbortSignal): Promise<void> {
    const { network, clock } = this.#env;
    if (network === null) throw new FallowError("peer-unreachable", "this node has no peer network");
    const link = await this.#linkOf(holder, network, signal);
    let tookMs = 0;
    while (!arriving.isWhole) {
      holder.lookAtWay();
      const length = Math.min(arriving.restBytes, holder.sliceBytes);
      if (!holder.isFar) arriving.owes(await this.#env.asked.take(length, signal));
      const startedMs = clock.monoMs();
      await this.#slice({ holder, link, arriving, length }, signal);
      tookMs += clock.monoMs() - startedMs;
      await arriving.save();
      signal.throwIfAborted();
    }
    if (arriving.isContinued) return;
    holder.chunkMs = holder.chunkMs === null ? tookMs : holder.chunkMs + NEWEST_WEIGHT * (tookMs - holder.chunkMs);
  }

  /** A dial that takes long goes on: the holder may be asked later, and its chunks are fetched elsewhere meanwhile. */
  async #linkOf(holder: Holder, network: PeerNetwork, signal: AbortSignal): Promise<PeerLink> {
    const late = Promise.withResolvers<never>();
    const timer = this.#env.clock.setTimer(LINK_MS_MAX, () => {
      late.reject(new FallowError("peer-unreachable", `no link with ${holder.nodeId} within ${LINK_MS_MAX} ms`));
    });
    try {
      return await Promise.race([holder.link(network, signal), late.promise]);
    } finally {
      timer.cancel();
    }
  }

  /** The next bytes of a chunk. */
  async #slice(
    { holder, link, arriving, length }: { holder: Holder; link: PeerLink; arriving: ArrivingChunk; length: number },
    signal: AbortSignal,
  ): Promise<void> {
    const { model, download, moved } = this.#env;
    const { chunk, filledBytes: offset, place } = arriving;
    const part = length === place.bytes ? null : { offset, length };
    const request = encodeChunkRequest({ weightsSha256: model.weightsSha256, chunk, part });
    const options = { signal, totalBytes: length, bytesPerSecondMin: BYTES_PER_SECOND_MIN };
    let came = 0;
    for await (const bytes of link.fetch(request, options)) {
      came += bytes.length;
      if (came > length) throw new FallowError("peer-wrong-length", "more came than was asked for");
      arriving.push(bytes);
      holder.newBytes += bytes.length;
      moved(bytes.length);
      await arriving.saveSome();
      await download.take(bytes.length, signal);
    }
    if (came < length) throw new FallowError("peer-wrong-length", `${came} bytes came of ${length}`);
  }

  #onFailure(holder: Holder, chunk: number, thrown: unknown): void {
    const offence = thrown instanceof FallowError ? FAULTS.get(thrown.code) : undefined;
    const detail = describeFault(thrown);
    if (thrown instanceof FallowError && thrown.code === "peer-refused") this.#onRefused(holder, chunk, thrown);
    else if (offence === undefined) this.#report(holder, { offence: "unreachable", detail });
    else this.#drop(holder, { offence, detail });
  }

  #onRefused(holder: Holder, chunk: number, thrown: FallowError): void {
    const { clock, next } = this.#env;
    const { code, retryAfterMs } = thrown.data;
    switch (code) {
      case "not-found":
        // Evicted or damaged since it was told of; the coordinator tells anew when it changes.
        holder.have.delete(chunk);
        next().refuse(chunk, holder.nodeId);
        return;
      case "internal":
        holder.unreadable += 1;
        if (holder.unreadable > UNREADABLE_MAX) {
          this.#report(holder, { offence: "unreachable", detail: thrown.message });
          return;
        }
        next().refuse(chunk, holder.nodeId);
        next().pause(holder.nodeId, clock.monoMs() + BUSY_REST_MS);
        return;
      case "insufficient-scope":
        holder.dropGrant();
        this.#report(holder, { offence: "expired", detail: thrown.message });
        return;
      case "no-capacity": {
        const restMs = typeof retryAfterMs === "number" && retryAfterMs > 0 ? retryAfterMs : BUSY_REST_MS;
        next().pause(holder.nodeId, clock.monoMs() + restMs);
        return;
      }
      default:
        this.#report(holder, { offence: "unreachable", detail: thrown.message });
    }
  }

  #drop(holder: Holder, fault: { offence: PeerOffence; detail: string }): void {
    this.#report(holder, fault);
    holder.close(`${fault.offence}: ${fault.detail}`);
    holder.dropGrant();
  }

  #report(holder: Holder, fault: { offence: PeerOffence; detail: string }): void {
    this.#env.conduct.report(holder.nodeId, { ...fault, weightsSha256: this.#env.model.weightsSha256 });
  }
}

/** What came before it is as good as ever. */
function isRefusal(thrown: unknown): boolean {
  return thrown instanceof FallowError && thrown.code === "peer-refused";
}
