/**
 * Chunks of one model from the coordinator's source: only those that it gave to this node, since every other node fetches them from here.
 *
 * | state   | chunks that no holder offers, few in hand | answer with chunks | answer without   | no answer      | line lost |
 * | ------- | ----------------------------------------- | ------------------ | ---------------- | -------------- | --------- |
 * | idle    | asks; asked                               | taken              | ignored          | –              | idle      |
 * | asked   | –                                         | taken; idle        | idle, after a wait | asks again   | idle      |
 */
import { areRunsValid, ChunkSet } from "../../../domain/chunk-set.ts";
import { describeFault, FallowError } from "../../../domain/fault.ts";
import type { NodeId } from "../../../domain/ids.ts";
import { type ChunkPlace, chunkPlace } from "../../../domain/weights.ts";
import { WIRE_BOUNDS } from "../../../wire/link-atoms.ts";
import type { PeerOrder } from "../../session.ts";
import type { TransferEnv } from "./transfer-env.ts";

/** Requests at once: more than one for a lossy line, and less than the four that the coordinator allows a node, since it ends one a moment later. */
const READS_MAX = 3;
/** Chunks of one request: each saves a round trip, and one that is cut costs a part of a chunk. */
const CHUNKS_PER_READ = 4;
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

  /** Never rejects. */
  async #read(run: Run, signal: AbortSignal): Promise<void> {
    const { model, source, line, download, moved, clock } = this.#env;
    const { bearer } = line;
    const [first] = run;
    if (bearer === null || first === undefined) return;
    const bytes = run.reduce((sum, { place }) => sum + place.bytes, 0);
    const range = { file: first.place.file, offset: first.place.offset, bytes };
    const filling = new ChunkFiller(run);
    try {
      for await (const part of source.read(model.weightsSha256, range, { bearer, signal })) {
        moved(part.length);
        for (const whole of filling.push(part)) await this.#keep(whole);
        await download.take(part.length, signal);
      }
      this.#problem = null;
    } catch (thrown) {
      if (signal.aborted) return;
      const isOfSource =
        thrown instanceof FallowError && (thrown.code === "weights-unreachable" || thrown.code.startsWith("link-"));
      if (!isOfSource) return this.#env.fail(thrown);
      this.#problem = thrown;
      this.#readAgainAtMs = clock.monoMs() + FAILED_REST_MS;
      this.#env.log.info(
        { weightsSha256: model.weightsSha256, cause: describeFault(thrown) },
        "source gives no weights",
      );
    }
  }

  async #keep({ chunk, bytes }: { chunk: number; bytes: Uint8Array }): Promise<void> {
    if ((await this.#env.keep(chunk, bytes, "source")) === "kept") return;
    this.#badChunks += 1;
    if (this.#badChunks < BAD_CHUNKS_MAX) return;
    const { weightsSha256 } = this.#env.model;
    const what = `what the coordinator sends as chunk ${chunk} of ${weightsSha256} has another digest: nothing of it was kept`;
    throw new FallowError("weights-digest-mismatch", what, { data: { weightsSha256, chunk } });
  }
}

/** Cuts a stream of bytes into the chunks of a run; holds one chunk at a time. */
class ChunkFiller {
  readonly #run: Run;
  #at = 0;
  #bytes: Uint8Array | null = null;
  #filled = 0;

  constructor(run: Run) {
    this.#run = run;
  }

  *push(part: Uint8Array): Iterable<{ readonly chunk: number; readonly bytes: Uint8Array }> {
    let rest = part;
    for (let next = this.#run[this.#at]; next !== undefined && rest.length > 0; next = this.#run[this.#at]) {
      this.#bytes ??= new Uint8Array(next.place.bytes);
      const taken = rest.subarray(0, next.place.bytes - this.#filled);
      this.#bytes.set(taken, this.#filled);
      this.#filled += taken.length;
      rest = rest.subarray(taken.length);
      if (this.#filled < next.place.bytes) return;
      yield { chunk: next.chunk, bytes: this.#bytes };
      this.#at += 1;
      this.#bytes = null;
      this.#filled = 0;
    }
  }
}
