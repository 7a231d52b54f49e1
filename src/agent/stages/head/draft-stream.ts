/**
 * The draft model's side: for each sequence one stream of tokens that runs ahead of the chain. While a pass is on its way around, the small model goes
 * on from its own drafts as if all came true. If they do, the next drafts are there before they are asked for; if not, the stream is stopped and begins
 * again from the chain's own token, where its engine's cache holds all but that one. It draws with the sequence's own seed at the same positions, so
 * the two models draw alike where they think alike (docs/sampling.md, Gumbel noise).
 *
 * Nothing waits for it here, and what fails ends the stream only.
 */

import type { SequenceId } from "../../../domain/chain.ts";
import { sha256Hex } from "../../../domain/ids.ts";
import type { Engine, EngineSequence, GenerateTask } from "../../../ports/engine.ts";
import type { HeadSequence } from "./head-sequence.ts";

/** Tokens that a stream runs ahead in one go: two full drafts. */
export const RUN_AHEAD_TOKENS = 32;
/** To see whether it is of use. */
export const TRY_AHEAD_TOKENS = 4;
/** With fewer left a stream that came to its end goes on. */
const GO_ON_BELOW_TOKENS = 16;
/** A loop in which the model makes fewer tokens is left alone. */
const TOKENS_PER_LOOP_MIN = 4;
/** Streams at a time: with more sequences the stages have enough to do. */
export const STREAMS_MAX = 4;
/** Share of a measurement in the running mean. */
const SMOOTHING = 0.3;
/** Before anything was measured: a small model on a slow machine. */
const START_MS_UNKNOWN = 10;
const TOKEN_MS_UNKNOWN = 3;

interface Stream {
  readonly engine: Engine;
  /** Length of the sequence's tokens that `ids` follow. */
  at: number;
  readonly ids: number[];
  running: EngineSequence | null;
  startedAtMs: number;
  lastAtMs: number | null;
}

export class DraftStreams {
  readonly #ports: { engine(): Engine | null; nowMs(): number; onDrafts(sequence: SequenceId): void };
  readonly #streams = new Map<SequenceId, Stream>();
  #startMs = START_MS_UNKNOWN;
  #tokenMs = TOKEN_MS_UNKNOWN;

  constructor(ports: { engine(): Engine | null; nowMs(): number; onDrafts(sequence: SequenceId): void }) {
    this.#ports = ports;
  }

  /** Whether the model can draft for this sequence. A grammar forbids tokens that the model cannot know of without it. */
  serves(run: HeadSequence): boolean {
    const engine = this.#ports.engine();
    if (engine === null || run.work.grammar !== null) return false;
    if (run.tokens.length + 1 >= engine.info.contextTokens) return false;
    const streamsMax = Math.min(STREAMS_MAX, engine.info.sequencesMax);
    return this.#streams.has(run.sequence) || this.#streams.size < streamsMax;
  }

  /** In a loop that is over sooner the model makes no drafts worth sending, and takes the stages' time. */
  isQuickFor(loopMs: number): boolean {
    return loopMs >= TOKENS_PER_LOOP_MIN * this.#tokenMs;
  }

  /**
   * The sequence's tokens have changed, or it begins: the stream goes on if it was right, else it begins again. It runs ahead by `aheadTokens` in one
   * go.
   */
  follow(run: HeadSequence, aheadTokens: number): void {
    const engine = this.#ports.engine();
    const stream = this.#streams.get(run.sequence);
    if (stream !== undefined && (engine !== stream.engine || !this.serves(run))) this.drop(run.sequence);
    if (engine === null || !this.serves(run)) return;
    const known = this.#streams.get(run.sequence);
    if (known === undefined || !wasRight(known, run)) {
      known?.running?.abort();
      this.#begin(engine, run, { ids: [], aheadTokens });
    } else {
      known.ids.splice(0, run.tokens.length - known.at);
      known.at = run.tokens.length;
      const isShort = known.ids.length < Math.min(GO_ON_BELOW_TOKENS, aheadTokens);
      if (known.running === null && isShort) this.#begin(engine, run, { ids: known.ids, aheadTokens });
    }
  }

  has(sequence: SequenceId): boolean {
    return this.#streams.has(sequence);
  }

  /** Drafts that are there and follow the sequence's tokens. */
  ready(run: HeadSequence): readonly number[] {
    const stream = this.#streams.get(run.sequence);
    return stream !== undefined && stream.at === run.tokens.length ? stream.ids : [];
  }

  /** How long until `drafts` of them are there, from now; what was measured says so. */
  waitMs(run: HeadSequence, drafts: number): number {
    const stream = this.#streams.get(run.sequence);
    const missing = drafts - this.ready(run).length;
    if (missing <= 0) return 0;
    if (stream === undefined || stream.running === null) return Number.POSITIVE_INFINITY;
    const soonMs = stream.lastAtMs === null ? this.#startMs : this.#tokenMs;
    const sinceMs = this.#ports.nowMs() - (stream.lastAtMs ?? stream.startedAtMs);
    return Math.max(0, soonMs - sinceMs) + (missing - 1) * this.#tokenMs;
  }

  drop(sequence: SequenceId): void {
    this.#streams.get(sequence)?.running?.abort();
    this.#streams.delete(sequence);
  }

  #begin(
    engine: Engine,
    run: HeadSequence,
    { ids: ahead, aheadTokens }: { readonly ids: readonly number[]; readonly aheadTokens: number },
  ): void {
    const tokensMax = Math.min(aheadTokens, engine.info.contextTokens - run.tokens.length - ahead.length);
    const stream: Stream = {
      engine,
      at: run.tokens.length,
      ids: [...ahead],
      running: null,
      startedAtMs: this.#ports.nowMs(),
      lastAtMs: null,
    };
    this.#streams.set(run.sequence, stream);
    if (tokensMax < 1) return;
    stream.running = engine.generate(draftTask(run, ahead, tokensMax), (event) => {
      if (this.#streams.get(run.sequence) !== stream) return;
      if (event.kind === "tokens")
        this.#note(
          stream,
          event.tokens.map(({ tokenId }) => tokenId),
        );
      else stream.running = null;
      if (event.kind === "failed") this.#streams.delete(run.sequence);
      this.#ports.onDrafts(run.sequence);
    });
  }

  #note(stream: Stream, tokenIds: readonly number[]): void {
    const nowMs = this.#ports.nowMs();
    if (stream.lastAtMs === null) this.#startMs += SMOOTHING * (nowMs - stream.startedAtMs - this.#startMs);
    else this.#tokenMs += SMOOTHING * ((nowMs - stream.lastAtMs) / tokenIds.length - this.#tokenMs);
    stream.lastAtMs = nowMs;
    stream.ids.push(...tokenIds);
  }
}

/** What the chain has drawn since is what the stream had there. */
function wasRight(stream: Stream, run: HeadSequence): boolean {
  const drawn = run.tokens.length - stream.at;
  if (drawn < 0 || drawn > stream.ids.length) return false;
  return stream.ids.slice(0, drawn).every((tokenId, index) => tokenId === run.tokens[stream.at + index]);
}

function draftTask(run: HeadSequence, ahead: readonly number[], tokensMax: number): GenerateTask {
  const { sampling, seed, choice, cacheScope } = run.work;
  const tokenIds = [...run.tokens, ...ahead];
  return {
    tokenIds,
    generatedCount: tokenIds.length - run.promptLength,
    tokensMax,
    sampling,
    seed: sha256Hex(seed),
    choice,
    stopStrings: [],
    grammar: null,
    cacheScope,
    // Behind the end of an answer nothing is drawn, and before it an end is a draft like any other.
    ignoreStopTokens: true,
    topLogprobs: null,
  };
}
