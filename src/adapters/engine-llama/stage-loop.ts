/**
 * Continuous batching of a stage. Each turn decodes one position of every sequence whose next pass goes singly, in one decode;
 * then one piece of a prompt, with those of others that are of its length. Between turns the event loop runs, so that what
 * arrives meanwhile shares the next decode. What a sequence is asked is done in the order in which it was asked.
 *
 * A single position and a piece of two or more are rounded differently on a CPU (inference/batch-policy.ts): they never share a
 * decode, and no piece of one is cut off a longer one.
 */

import type { WireFormat } from "../../domain/chain.ts";
import { SamplerScratch } from "../../inference/sampler.ts";
import type { StageFailure } from "../../ports/stage-engine.ts";
import { GrammarParser } from "./grammar-mask.ts";
import { readHidden, writeHidden } from "./hidden-states.ts";
import type { StageDecoder } from "./stage-decoder.ts";
import { RunningPass } from "./stage-pass.ts";
import type { PassCommand, StageItem, StageServingCommand, StageServingReport } from "./stage-protocol.ts";
import { startSampling } from "./stage-sampling.ts";
import { type StageSlot, StageSlots } from "./stage-slots.ts";

/** The host hears at least this often while there is work. */
const SILENCE_MS_MAX = 200;
/** Share of a new measurement in the running mean. */
const SMOOTHING = 0.2;
/** One time counts as so many times the mean at most: a sleep of seconds made the head replay a stream in another way than it ran at first. */
const STEP_GROWTH_MAX = 4;
/** No pass is to blame. */
export const NO_TAG = -1;
const US_PER_MS = 1000;

export interface StageLoopOptions {
  readonly wire: WireFormat;
  /** What states from elsewhere must be like; null: none is taken. */
  readonly stateShape: string | null;
  readonly report: (report: StageServingReport) => void;
}

export class StageLoop {
  readonly #decoder: StageDecoder;
  readonly #options: StageLoopOptions;
  readonly #slots: StageSlots;
  readonly #grammars: GrammarParser;
  readonly #scratch: SamplerScratch;
  #items: StageItem[] = [];
  #order = 0;
  #isScheduled = false;
  #reportedAtMs = 0;
  #positionsDecoded = 0;
  #singleMs: number | null = null;
  #singlesMean: number | null = null;
  #promptMsPerPosition: number | null = null;

  constructor(decoder: StageDecoder, options: StageLoopOptions) {
    this.#decoder = decoder;
    this.#options = options;
    this.#slots = new StageSlots(decoder.loaded, options.stateShape);
    this.#grammars = new GrammarParser(decoder.loaded);
    this.#scratch = new SamplerScratch(decoder.share.hasOutput ? decoder.loaded.vocabulary.size : 0);
  }

  take(command: StageServingCommand): void {
    const slot = this.#slots.at(command.slot);
    switch (command.kind) {
      case "pass":
      case "sampling":
      case "export":
        slot.queue.push(command);
        break;
      case "drop":
        this.#slots.drop(slot);
        break;
      case "clear":
        this.#empty(slot);
        break;
      case "import": {
        const isAccepted = this.#slots.restore(slot, command);
        this.#options.report({ kind: "imported", key: command.key, isAccepted });
      }
    }
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#turn();
    });
  }

  #turn(): void {
    for (const slot of this.#slots.all) if (slot.queue.length > 0) this.#begin(slot);
    this.#decodeSingles();
    this.#decodePiece();
    this.#flush();
    if (this.#slots.all.some((slot) => slot.queue.length > 0)) this.#schedule();
  }

  /** Up to the first pass, which it begins. */
  #begin(slot: StageSlot): void {
    while (slot.pass === null) {
      const work = slot.queue[0];
      if (work === undefined) return;
      if (work.kind === "pass") {
        this.#beginPass(slot, work);
        continue;
      }
      slot.queue.shift();
      if (work.kind === "export") {
        const data = this.#slots.snapshot(slot, work.positions);
        this.#options.report({ kind: "exported", key: work.key, data });
        continue;
      }
      const { loaded } = this.#decoder;
      const start = startSampling(work.task, { loaded, grammars: this.#grammars, slot: slot.index });
      this.#slots.setSampling(slot, start.kind === "sampling" ? start.sequence : null, start.kind === "over");
      const { key } = work.task;
      if (start.kind === "over") this.#items.push({ kind: "end", key, reason: start.reason });
      if (start.kind === "refused") {
        this.#fail(slot, { key, tag: NO_TAG }, { code: "grammar-invalid", message: start.message });
      }
    }
  }

  #beginPass(slot: StageSlot, command: PassCommand): void {
    const { start, format, draftIds } = command;
    const hidden = command.hidden === null ? null : readHidden(command.hidden, format);
    if (command.hidden !== null && hidden === null) {
      const message = `hidden states of positions ${start} to ${start + command.count - 1} hold NaN or infinity`;
      this.#fail(slot, command, { code: "activations-broken", message });
      return;
    }
    if (start > slot.held || !this.#slots.truncate(slot, start)) {
      const message = `a pass begins at position ${start}, ${slot.uncut} to ${slot.held} can be held`;
      this.#fail(slot, command, { code: "position-wrong", message });
      return;
    }
    if (draftIds !== null && this.#decoder.share.hasOutput && slot.sampling === null && !slot.isOver) {
      const message = "a pass draws before it is known what the sequence samples by";
      this.#fail(slot, command, { code: "position-wrong", message });
      return;
    }
    const sequence = draftIds === null ? null : slot.sampling;
    slot.pass = new RunningPass({ command, order: this.#order++, hidden, sequence });
  }

  #decodeSingles(): void {
    const slots = this.#slots.all.filter(({ pass }) => pass?.isSingly === true);
    if (slots.length === 0) return;
    const ms = this.#decode(slots, 1);
    this.#singleMs = smoothed(this.#singleMs, ms);
    this.#singlesMean = smoothed(this.#singlesMean, slots.length);
  }

  /** The piece that has waited longest, and those of its length that fit beside it. */
  #decodePiece(): void {
    const waiting = this.#slots.all.filter(({ pass }) => pass !== null && !pass.isSingly);
    const oldest = waiting.reduce<StageSlot | null>(
      (first, slot) => (orderOf(slot) < orderOf(first) ? slot : first),
      null,
    );
    const { positionsMax, rowsMax } = this.#decoder;
    const length = pieceOf(oldest?.pass?.left ?? 0, positionsMax);
    if (oldest === null || length === 0) return;
    const chosen: StageSlot[] = [];
    let rows = 0;
    for (const slot of [oldest, ...waiting.filter((other) => other !== oldest)]) {
      if (slot.pass === null || pieceOf(slot.pass.left, positionsMax) !== length) continue;
      const wanted = slot.pass.rowsOf(length);
      if ((chosen.length + 1) * length > positionsMax || rows + wanted > rowsMax) continue;
      rows += wanted;
      chosen.push(slot);
    }
    const ms = this.#decode(
      chosen.sort((a, b) => a.index - b.index),
      length,
    );
    this.#promptMsPerPosition = smoothed(this.#promptMsPerPosition, ms / (chosen.length * length));
  }

  /** `count` positions of each slot's pass, in one decode. Answers how long it took. */
  #decode(slots: readonly StageSlot[], count: number): number {
    const startMs = performance.now();
    const work = slots.flatMap((slot) => (slot.pass === null ? [] : [{ slot, part: slot.pass.part(count) }]));
    this.#decoder.decode(work.map(({ part }) => part));
    this.#positionsDecoded += work.length * count;
    if (this.#decoder.share.hasOutput) this.#takeLogits(work);
    else this.#takeHidden(work, count);
    const ms = performance.now() - startMs;
    for (const { slot } of work) if (slot.pass?.isOver === true) this.#finish(slot, slot.pass);
    return ms;
  }

  #takeHidden(work: readonly { readonly slot: StageSlot }[], count: number): void {
    const rows = this.#decoder.hidden();
    const size = count * this.#decoder.embeddingLength;
    for (const [index, { slot }] of work.entries()) {
      slot.pass?.takeHidden(rows.subarray(index * size, (index + 1) * size), count);
      slot.held += count;
    }
  }

  #takeLogits(
    work: readonly { readonly slot: StageSlot; readonly part: { readonly rows: number; readonly count: number } }[],
  ): void {
    const rows = work.some(({ part }) => part.rows > 0) ? this.#decoder.logits() : [];
    let at = 0;
    for (const { slot, part } of work) {
      const mine = rows.slice(at, at + part.rows);
      at += part.rows;
      slot.held += part.count;
      const { pass } = slot;
      if (pass === null) continue;
      if (pass.takeLogits(mine, part.count, this.#scratch)) {
        this.#slots.truncate(slot, pass.held);
      } else {
        this.#fail(slot, pass.command, { code: "engine-crashed", message: "the model's logits hold NaN or infinity" });
      }
    }
  }

  #finish(slot: StageSlot, pass: RunningPass): void {
    slot.pass = null;
    slot.queue.shift();
    const { key } = pass.command;
    if (!this.#decoder.share.hasOutput) {
      const written = writeHidden(pass.output, this.#options.wire);
      if (written !== null) {
        this.#items.push({ kind: "output", key, ...written });
        return;
      }
      const { start, count } = pass.command;
      const message = `this stage's hidden states of positions ${start} to ${start + count - 1} hold NaN or infinity`;
      this.#fail(slot, pass.command, { code: "output-broken", message });
      return;
    }
    if (pass.end !== null) this.#slots.setSampling(slot, null, true);
    this.#items.push(...drawnItems(pass));
  }

  #fail(
    slot: StageSlot,
    { key, tag }: { readonly key: number; readonly tag: number },
    why: { readonly code: StageFailure; readonly message: string },
  ): void {
    this.#items.push({ kind: "failed", key, tag, ...why });
    this.#empty(slot);
  }

  #empty(slot: StageSlot): void {
    for (const work of slot.queue) {
      if (work.kind === "export") this.#options.report({ kind: "exported", key: work.key, data: null });
    }
    slot.queue.length = 0;
    this.#slots.clear(slot);
  }

  #flush(): void {
    const nowMs = performance.now();
    if (this.#items.length === 0 && nowMs - this.#reportedAtMs < SILENCE_MS_MAX) return;
    this.#reportedAtMs = nowMs;
    const { user, system } = process.cpuUsage();
    this.#options.report({
      kind: "work",
      items: this.#items,
      counters: {
        positionsDecoded: this.#positionsDecoded,
        singleMs: this.#singleMs,
        singlesMean: this.#singlesMean,
        promptMsPerPosition: this.#promptMsPerPosition,
        cpuMs: (user + system) / US_PER_MS,
      },
    });
    this.#items = [];
  }
}

function drawnItems(pass: RunningPass): readonly StageItem[] {
  const { command, tokens, end, held } = pass;
  const { key } = command;
  if (tokens.length === 0) {
    const done: StageItem = { kind: "done", key, held };
    return end === null ? [done] : [done, { kind: "end", key, reason: end }];
  }
  const hasLogprobs = tokens[0]?.logprob !== null;
  const isOverWithLast = end !== "grammar-end";
  const item: StageItem = {
    kind: "tokens",
    key,
    held,
    tokenIds: tokens.map(({ tokenId }) => tokenId),
    logprobs: hasLogprobs ? tokens.map(({ logprob, top }) => ({ logprob: logprob ?? 0, top })) : null,
    end: isOverWithLast ? end : null,
    logits: command.wantsLogits ? pass.logits : null,
  };
  return isOverWithLast || end === null ? [item] : [item, { kind: "end", key, reason: end }];
}

function orderOf(slot: StageSlot | null): number {
  return slot?.pass?.order ?? Number.POSITIVE_INFINITY;
}

/** At least two positions, and never all but one of them. */
function pieceOf(left: number, most: number): number {
  if (left <= most) return left;
  return left - most === 1 ? most - 1 : most;
}

/** A process that was stopped in the middle of a decode, or waited long for a core, is not that much slower. */
function smoothed(mean: number | null, value: number): number {
  return mean === null ? value : mean + SMOOTHING * (Math.min(value, mean * STEP_GROWTH_MAX) - mean);
}
