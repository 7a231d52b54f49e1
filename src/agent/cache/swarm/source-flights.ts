/**
 * Chunks of one model from the coordinator's source: only those that it gave to this node, since every other node fetches them from here.
 *
 * | state   | chunks that no holder offers, few in hand | answer with chunks | answer without   | no answer      | line lost |
 * | ------- | ----------------------------------------- | ------------------ | ---------------- | -------------- | --------- |
 * | idle    | asks; asked                               | taken              | ignored          | –              | idle      |
 * | asked   | –                                         | taken; idle        | idle, after a wait | asks again   | idle      |
 */
import { assert } from "../../../domain/assert.ts";
import { areRunsValid, ChunkSet } from "../../../domain/chunk-set.ts";
import { describeFault, FallowError } from "../../../domain/fault.ts";
import type { NodeId } from "../../../domain/ids.ts";
import { type ChunkPlace, chunkPlace } from "../../../domain/weights.ts";
import { WIRE_BOUNDS } from "../../../wire/link-atoms.ts";
import type { PeerOrder } from "../../session.ts";
import type { ArrivingChunk } from "./arriving-chunk.ts";
import { FAR_RTT_MS } from "./asked-bytes.ts";
import type { TransferEnv } from "./transfer-env.ts";

/** Requests at once: more than one for a lossy line, and less than the four that the coordinator allows a node, since it ends one a moment later. */
const READS_MAX = 3;
/** Chunks that one reads after the other. */
const CHUNKS_PER_READ = 4;
/** Bytes of a request: what its connection brings in this time, so that a slow line leaves nodes nearby their share of what may be asked for. */
const SLICE_SECONDS = 0.1;
const SLICE_BYTES_MIN = 128 * 1024;
/** With three of them on their way about one chunk is lost when the agent is killed. */
const SLICE_BYTES_NEAR = 320 * 1024;
/** A far source gets longer requests while the way to it takes more of their time than the bytes do. */
const SLICE_BYTES_MAX = 4 * 1024 * 1024;
const LONG_WAIT_SHARE = 1 / 2;
const SHORT_WAIT_SHARE = 1 / 8;
/** The least of so many waits for a first byte is the way; what is above, a busy machine or the opening of a connection. */
const WAITS_KEPT = 16;
const NEWEST_WEIGHT = 0.3;
/** Held at once, those on their way included: a slow node keeps few chunks from the others, and a fast one never waits for an answer. */
const CLAIM_CHUNKS = 32;
/** With fewer than this in hand more are asked for, so that the line does not stand still meanwhile. */
const CLAIMS_LOW = 12;
const ANSWER_MS_MAX = 10_000;
/** Between two questions: each brings the news of all chunks that are here along. */
const ASK_EVERY_MS = 200;
/** After a read that failed: the coordinator is away or busy. */
const FAILED_REST_MS = 1_000;
/** How often the source may send a chunk of another digest before it is believed to have another file. */
const BAD_CHUNKS_MAX = 3;

type Run = readonly { readonly chunk: number; readonly place: ChunkPlace }[];
type Claimed = Extract<PeerOrder, { type: "weights.claimed" }>;

export class SourceFlights {
  readonly #env: TransferEnv;
  /** Given to this node and not begun, ascending; until when it may be taken. */
  readonly #claims = new Map<number, number>();
  readonly #reading = new Set<number>();
  #askedAtMs: number | null = null;
  #lastAskMs = Number.NEGATIVE_INFINITY;
  /** Neither asked nor read before. */
  #askAgainAtMs = 0;
  #readAgainAtMs = 0;
  #reads = 0;
  #badChunks = 0;
  #sliceBytes = SLICE_BYTES_MIN;
  #paceBytesPerSecond: number | null = null;
  readonly #waitsMs: number[] = [];
  #problem: FallowError | null = null;
  #stopping = new AbortController();

  constructor(env: TransferEnv) {
    this.#env = env;
  }

  /** Why the source gave nothing the last time; null when it did, or was not asked. */
  get problem(): FallowError | null {
    return this.#problem;
  }

  get isActive(): boolean {
    return this.#reads > 0;
  }

  onClaimed({ runs, ttlMs, retryAfterMs }: Claimed): void {
    const { clock, model } = this.#env;
    const nowMs = clock.monoMs();
    this.#askedAtMs = null;
    if (!areRunsValid(runs, model.chunkCount)) return;
    for (const chunk of ChunkSet.of(model.chunkCount, runs)) {
      if (!this.#reading.has(chunk) && !model.stored.have.has(chunk)) this.#claims.set(chunk, nowMs + ttlMs);
    }
    // Nothing new: what there is, others bring, or it is on its way here.
    if (runs.length === 0) this.#askAgainAtMs = nowMs + retryAfterMs;
  }

  /** Reads what was given, and asks for more of what nobody can be asked for. */
  begin(unreachable: readonly NodeId[]): void {
    const nowMs = this.#env.clock.monoMs();
    for (const [chunk, untilMs] of this.#claims) if (untilMs < nowMs) this.#claims.delete(chunk);
    if (nowMs < this.#readAgainAtMs) return;
    while (this.#reads < READS_MAX && this.#beginRead());
    this.#ask(unreachable, nowMs);
  }

  stop(): void {
    this.#stopping.abort();
    this.#stopping = new AbortController();
    this.#claims.clear();
    this.#askedAtMs = null;
  }

  /** The line came up anew: what was asked for and given before is forgotten there. */
  forgetClaims(): void {
    this.#claims.clear();
    this.#askedAtMs = null;
    this.#askAgainAtMs = 0;
  }

  #ask(unreachable: readonly NodeId[], nowMs: number): void {
    const { line, model, next } = this.#env;
    const isAsked = this.#askedAtMs !== null && nowMs - this.#askedAtMs < ANSWER_MS_MAX;
    if (
      isAsked ||
      nowMs < this.#askAgainAtMs ||
      nowMs - this.#lastAskMs < ASK_EVERY_MS ||
      this.#claims.size >= CLAIMS_LOW
    )
      return;
    const need = next().orphans();
    if ([...need].every((chunk) => this.#claims.has(chunk))) return;
    // Those on their way count too: of what is left, the coordinator gives each node its share.
    for (const chunk of this.#reading) need.add(chunk);
    this.#askedAtMs = nowMs;
    this.#lastAskMs = nowMs;
    // What was brought makes room for more.
    this.#env.tellHave();
    line.send({
      type: "weights.claim",
      weightsSha256: model.weightsSha256,
      need: need
        .runs()
        .slice(0, WIRE_BOUNDS.chunkRunsMax)
        .map(([from, count]) => [from, count]),
      chunksMax: CLAIM_CHUNKS,
      unreachable: unreachable.slice(0, WIRE_BOUNDS.holdersMax),
    });
  }

  /** False when there is nothing to read, or no memory for it. */
  #beginRead(): boolean {
    const { buffers, model } = this.#env;
    const { chunkBytes } = model.content.manifest;
    if (!buffers.has(chunkBytes)) return false;
    const run = this.#nextRun();
    if (run.length === 0) return false;
    buffers.take(chunkBytes);
    this.#reads += 1;
    void this.#read(run, this.#stopping.signal).finally(() => {
      this.#reads -= 1;
      for (const { chunk } of run) {
        this.#reading.delete(chunk);
        this.#env.next().release(chunk, "source");
      }
      buffers.give(chunkBytes);
      this.#env.changed();
    });
    return true;
  }

  /** Chunks that lie one after the other in one file, taken out of what was given. */
  #nextRun(): Run {
    const { model, next, clock } = this.#env;
    const run: { chunk: number; place: ChunkPlace }[] = [];
    for (const chunk of [...this.#claims.keys()].sort((a, b) => a - b)) {
      const place = chunkPlace(model.content.manifest, chunk);
      const last = run.at(-1);
      const follows = last === undefined || (last.chunk + 1 === chunk && last.place.file === place.file);
      if (!follows || run.length >= CHUNKS_PER_READ) break;
      this.#claims.delete(chunk);
      // One that is here, or comes from a holder by now, is left to it.
      if (!next().takeFromSource(chunk, clock.monoMs())) continue;
      this.#reading.add(chunk);
      run.push({ chunk, place });
    }
    return run;
  }

  get #isFar(): boolean {
    return this.#waitsMs.length === WAITS_KEPT && Math.min(...this.#waitsMs) >= FAR_RTT_MS;
  }

  /** Never rejects. */
  async #read(run: Run, signal: AbortSignal): Promise<void> {
    const { model, arrivals, log, clock, fail } = this.#env;
    const arriving: ArrivingChunk[] = [];
    try {
      for (const { chunk } of run) arriving.push(await arrivals.open(chunk));
      for (let at = 0; at < arriving.length; ) at += await this.#slice(arriving.slice(at), signal);
      this.#problem = null;
    } catch (thrown) {
      for (const one of arriving) await one.save();
      if (signal.aborted) return;
      const isOfSource =
        thrown instanceof FallowError && (thrown.code === "weights-unreachable" || thrown.code.startsWith("link-"));
      if (!isOfSource) return fail(thrown);
      this.#problem = thrown;
      this.#readAgainAtMs = clock.monoMs() + FAILED_REST_MS;
      log.info({ weightsSha256: model.weightsSha256, cause: describeFault(thrown) }, "source gives no weights");
    } finally {
      for (const one of arriving) one.end();
    }
  }

  /** One request of chunks that lie one after the other; answers with how many of them are whole and kept. */
  async #slice(arriving: readonly ArrivingChunk[], signal: AbortSignal): Promise<number> {
    const { model, source, line, download, moved, clock, asked } = this.#env;
    const [first] = arriving;
    const { bearer } = line;
    if (first === undefined || bearer === null) return arriving.length;
    const range = {
      file: first.place.file,
      offset: first.place.offset + first.filledBytes,
      bytes: spanOf(arriving, this.#sliceBytes),
    };
    const over = this.#isFar ? () => undefined : await asked.take(range.bytes, signal);
    const askedAtMs = clock.monoMs();
    let waitMs: number | null = null;
    let done = 0;
    try {
      for await (const part of source.read(model.weightsSha256, range, { bearer, signal })) {
        waitMs ??= clock.monoMs() - askedAtMs;
        moved(part.length);
        for (let rest = part; rest.length > 0; ) {
          const one = arriving[done];
          assert(one !== undefined, "no more comes than was asked for");
          rest = one.push(rest);
          await one.saveSome();
          if (!one.isWhole) continue;
          await this.#keep(one);
          done += 1;
        }
        await download.take(part.length, signal);
      }
      await arriving[done]?.save();
      signal.throwIfAborted();
      this.#learn({ bytes: range.bytes, waitMs: waitMs ?? 0, tookMs: clock.monoMs() - askedAtMs });
      return done;
    } finally {
      over();
    }
  }

  #learn({ bytes, waitMs, tookMs }: { bytes: number; waitMs: number; tookMs: number }): void {
    const [pace, old] = [(bytes * 1_000) / Math.max(1, tookMs), this.#paceBytesPerSecond];
    this.#paceBytesPerSecond = old === null ? pace : old + NEWEST_WEIGHT * (pace - old);
    this.#waitsMs.push(waitMs);
    if (this.#waitsMs.length > WAITS_KEPT) this.#waitsMs.shift();
    if (!this.#isFar) {
      const wanted = Math.round(this.#paceBytesPerSecond * SLICE_SECONDS);
      this.#sliceBytes = Math.min(SLICE_BYTES_NEAR, Math.max(SLICE_BYTES_MIN, wanted));
      return;
    }
    if (waitMs > tookMs * LONG_WAIT_SHARE) this.#sliceBytes *= 2;
    else if (waitMs < tookMs * SHORT_WAIT_SHARE) this.#sliceBytes = Math.floor(this.#sliceBytes / 2);
    this.#sliceBytes = Math.min(SLICE_BYTES_MAX, Math.max(SLICE_BYTES_NEAR, this.#sliceBytes));
  }

  async #keep(arriving: ArrivingChunk): Promise<void> {
    const { chunk, isContinued } = arriving;
    if ((await this.#env.keep(arriving, "source")) === "kept") return;
    await arriving.drop();
    if (isContinued) return; // fetched anew: what was wrong may be the beginning
    this.#badChunks += 1;
    if (this.#badChunks < BAD_CHUNKS_MAX) return;
    const { weightsSha256 } = this.#env.model;
    const what = `what the coordinator sends as chunk ${chunk} of ${weightsSha256} has another digest: nothing of it was kept. The grid's operator sees what is damaged with \`fallow models verify\``;
    throw new FallowError("weights-digest-mismatch", what, { data: { weightsSha256, chunk } });
  }
}

/** Bytes from the first one's end on, up to where one begins that has a part already. */
function spanOf(arriving: readonly ArrivingChunk[], bytesMax: number): number {
  let bytes = 0;
  for (const [at, one] of arriving.entries()) {
    if ((at > 0 && one.filledBytes > 0) || bytes >= bytesMax) break;
    bytes += one.restBytes;
  }
  return Math.min(bytes, bytesMax);
}
