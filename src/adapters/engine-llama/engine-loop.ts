/**
 * Continuous batching: each turn decodes one token of every generating sequence together with a share of the waiting
 * prompts, draws the next tokens, and reports them all in one message. Between turns the event loop runs, so that aborts
 * and new tasks get in. The decisions are pure (`inference/batch-policy`, `inference/sequence-slots`); here they are
 * carried out on libllama.
 */
import { assert } from "../../domain/assert.ts";
import { PrefillPace, planStep, type StepPart } from "../../inference/batch-policy.ts";
import { SamplerScratch } from "../../inference/sampler.ts";
import { chooseSlot } from "../../inference/sequence-slots.ts";
import type { GenerateCommand, SequenceEnd, SequenceFailure, StepLogprobs, StepReport } from "./child-protocol.ts";
import { DecodeBatch } from "./decode-batch.ts";
import { type GrammarMask, GrammarParser } from "./grammar-mask.ts";
import type { LoadedModel } from "./loaded-model.ts";
import { RunningSequence } from "./running-sequence.ts";
import { SlotTable } from "./slot-table.ts";

/** Without tokens to tell of, the host still hears this often that the engine lives. */
const SILENCE_MS_MAX = 200;

/**
 * Tokens of fast steps wait this long for those of the next ones: a small model takes a step in half a millisecond, and a
 * message costs a tenth of that on each side. First tokens and ends never wait.
 */
const REPORT_GATHER_MS = 4;

export interface LoopOptions {
  readonly queueMax: number;
  /** One more sequence costs the others of a step little (inference/batch-policy). */
  readonly hasRoomBeside: boolean;
  readonly report: (step: StepReport) => void;
  /** The library failed in a way that leaves its memory in doubt: the process ends. */
  readonly onFatal: (message: string) => never;
}

export class EngineLoop {
  readonly #loaded: LoadedModel;
  readonly #options: LoopOptions;
  readonly #slots: SlotTable;
  readonly #batch: DecodeBatch;
  readonly #scratch: SamplerScratch;
  readonly #grammars: GrammarParser;
  readonly #pace = new PrefillPace();
  readonly #running = new Map<number, RunningSequence>();
  readonly #queue: GenerateCommand[] = [];
  /** Work between steps, such as a batch of embeddings: one piece a turn. */
  readonly #chores: (() => void)[] = [];
  #isScheduled = false;
  #order = 0;
  #promptTokensDecoded = 0;
  #promptTokensCached = 0;
  #tokens: number[] = [];
  #logprobs: Map<number, StepLogprobs> | null = null;
  #ends: SequenceEnd[] = [];
  #failures: SequenceFailure[] = [];
  #reportedAtMs = 0;
  #isUrgent = false;

  constructor(loaded: LoadedModel, options: LoopOptions) {
    this.#loaded = loaded;
    this.#options = options;
    this.#slots = new SlotTable(loaded);
    this.#batch = new DecodeBatch({ tokensMax: loaded.batchTokens, sequencesMax: loaded.sequencesMax });
    this.#scratch = new SamplerScratch(loaded.vocabulary.size);
    this.#grammars = new GrammarParser(loaded);
  }

  get slots(): SlotTable {
    return this.#slots;
  }

  submit(command: GenerateCommand): void {
    if (this.#queue.length >= this.#options.queueMax + this.#loaded.sequencesMax) {
      const message = `${this.#queue.length} sequences wait already`;
      this.#failures.push({ key: command.key, code: "engine-overloaded", message });
    } else {
      this.#queue.push(command);
    }
    this.#schedule();
  }

  /** Runs between two steps. */
  submitChore(chore: () => void): void {
    this.#chores.push(chore);
    this.#schedule();
  }

  abort(key: number): void {
    const waiting = this.#queue.findIndex((command) => command.key === key);
    if (waiting >= 0) this.#queue.splice(waiting, 1);
    const sequence = this.#running.get(key);
    if (sequence !== undefined) this.#release(sequence);
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
    this.#admit();
    this.#chores.shift()?.();
    if (this.#running.size > 0) this.#step();
    this.#flush();
    if (this.#running.size > 0 || this.#queue.length > 0 || this.#chores.length > 0) this.#schedule();
  }

  #admit(): void {
    while (this.#queue.length > 0) {
      const command = this.#queue.find(({ isBackground }) => isBackground !== true) ?? this.#queue[0];
      assert(command !== undefined, "a queue with entries has a first one");
      const choice = chooseSlot(this.#slots.states, { prompt: command.tokenIds, scope: command.cacheScope });
      if (choice === null) return;
      this.#queue.splice(this.#queue.indexOf(command), 1);
      this.#start(command, { ...choice, reusedTokens: reusedExactly(command, choice.reusedTokens) });
    }
  }

  #start(command: GenerateCommand, choice: NonNullable<ReturnType<typeof chooseSlot>>): void {
    const grammar = this.#parseGrammar(command);
    if (grammar === "refused") return;
    const cachedTokens = this.#slots.take(choice, command.cacheScope);
    const sequence = new RunningSequence({
      command,
      vocabulary: this.#loaded.vocabulary,
      grammar,
      slot: choice.slot,
      order: this.#order++,
      cachedTokens,
      contextTokens: this.#loaded.contextTokens,
    });
    this.#running.set(command.key, sequence);
    this.#promptTokensCached += cachedTokens;
    const replayed = sequence.replay();
    if (replayed === null) return;
    if (replayed === "grammar-mismatch") {
      this.#fail(sequence, { code: "grammar-invalid", message: "the tokens generated so far do not fit the grammar" });
    } else {
      this.#end(sequence, replayed);
    }
  }

  #parseGrammar(command: GenerateCommand): GrammarMask | null | "refused" {
    if (command.grammar === null) return null;
    const grammar = this.#grammars.parse(command.grammar);
    if (typeof grammar !== "string") return grammar;
    this.#failures.push({ key: command.key, code: "grammar-invalid", message: grammar });
    return "refused";
  }

  #step(): void {
    const bySlot = new Map([...this.#running.values()].map((sequence) => [sequence.slot, sequence]));
    const pending = [...this.#running.values()].map((sequence) => {
      const held = this.#slots.heldTokens(sequence.slot);
      const promptTokens = Math.max(0, sequence.promptLength - held);
      const generatedTokens = sequence.tokens.length - held - promptTokens;
      const { slot, order, isBackground } = sequence;
      return { slot, promptTokens, generatedTokens, order, isBackground };
    });
    const startMs = performance.now();
    let prefillTokens = 0;
    const { tokens, replayTokensMax } = this.#pace;
    const budget = { prefillTokens: tokens, replayTokensMax, hasRoomBeside: this.#options.hasRoomBeside };
    for (const parts of planStep(pending, budget)) {
      this.#decode(parts, bySlot);
      for (const part of parts) if (part.tokens > 1) prefillTokens += part.tokens;
    }
    this.#promptTokensDecoded += prefillTokens;
    this.#pace.note({ prefillTokens, stepMs: performance.now() - startMs });
  }

  #decode(parts: readonly StepPart[], bySlot: ReadonlyMap<number, RunningSequence>): void {
    const outputs: RunningSequence[] = [];
    this.#batch.clear();
    for (const part of parts) {
      const sequence = bySlot.get(part.slot);
      assert(sequence !== undefined, `slot ${part.slot} runs a sequence`);
      const start = this.#slots.heldTokens(part.slot);
      const end = start + part.tokens;
      if (end === sequence.tokens.length) outputs.push(sequence);
      for (let position = start; position < end; position++) {
        const wantsOutput = position === sequence.tokens.length - 1;
        this.#batch.add(sequence.tokens[position] ?? 0, { position, sequence: part.slot, wantsOutput });
      }
    }
    const code = this.#loaded.api.decode(this.#loaded.context, this.#batch.raw);
    if (code !== 0) this.#options.onFatal(`llama_decode answered ${code} for ${this.#batch.tokens} tokens`);
    for (const part of parts) this.#slots.append(part.slot, bySlot.get(part.slot)?.tokens ?? [], part.tokens);
    if (outputs.length > 0) this.#draw(outputs);
  }

  #draw(outputs: readonly RunningSequence[]): void {
    const { api, context, logitRows } = this.#loaded;
    const address = api.logits(context);
    if (address === null) this.#options.onFatal("llama_get_logits answered NULL after a decode with outputs");
    const rows = logitRows.at(address);
    for (const [index, sequence] of outputs.entries()) {
      const row = rows[index];
      assert(row !== undefined, `output ${index} has a row of logits`);
      this.#drawOne(sequence, row);
    }
  }

  #drawOne(sequence: RunningSequence, row: Float32Array): void {
    const outcome = sequence.next(row, this.#scratch);
    switch (outcome.kind) {
      case "broken-logits":
        this.#fail(sequence, { code: "engine-crashed", message: "the model's logits hold NaN or infinity" });
        break;
      case "end":
        this.#end(sequence, outcome.reason);
        break;
      case "token": {
        const { tokenId, logprob, top } = outcome.token;
        if (logprob !== null) {
          this.#logprobs ??= new Map();
          this.#logprobs.set(this.#tokens.length / 2, { logprob, top });
        }
        this.#tokens.push(sequence.key, tokenId);
        this.#isUrgent ||= sequence.isFirstToken;
        if (outcome.end !== null) this.#end(sequence, outcome.end);
      }
    }
  }

  #end(sequence: RunningSequence, reason: SequenceEnd["reason"]): void {
    this.#ends.push(sequence.endReport(reason));
    this.#release(sequence);
  }

  #fail(sequence: RunningSequence, why: Omit<SequenceFailure, "key">): void {
    this.#failures.push({ key: sequence.key, ...why });
    this.#release(sequence);
  }

  #release(sequence: RunningSequence): void {
    this.#running.delete(sequence.key);
    this.#slots.release(sequence.slot);
    sequence.free();
  }

  #flush(): void {
    const nowMs = performance.now();
    const quietMs = nowMs - this.#reportedAtMs;
    const isUrgent = this.#isUrgent || this.#ends.length > 0 || this.#failures.length > 0 || this.#running.size === 0;
    if (!isUrgent && quietMs < (this.#tokens.length > 0 ? REPORT_GATHER_MS : SILENCE_MS_MAX)) return;
    this.#isUrgent = false;
    this.#reportedAtMs = nowMs;
    this.#options.report({
      kind: "step",
      tokens: Int32Array.from(this.#tokens),
      logprobs: this.#logprobs,
      ends: this.#ends,
      failures: this.#failures,
      counters: {
        running: this.#running.size,
        queued: this.#queue.length,
        promptTokensDecoded: this.#promptTokensDecoded,
        promptTokensCached: this.#promptTokensCached,
      },
    });
    this.#tokens = [];
    this.#logprobs = null;
    this.#ends = [];
    this.#failures = [];
  }
}

/** A prompt's last token is never decoded alone: a kernel of its own would compute it. */
function reusedExactly(command: GenerateCommand, reusedTokens: number): number {
  const promptLength = command.tokenIds.length - command.generatedCount;
  return reusedTokens > 0 && promptLength - reusedTokens === 1 ? reusedTokens - 1 : reusedTokens;
}
