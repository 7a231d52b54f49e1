/** One sequence in a scripted stage: what it holds, and how far the passes that wait will bring it. */
import type { SequenceId, WireFormat } from "../../domain/chain.ts";
import type { SampledToken, StopReason } from "../../domain/sampling.ts";
import { SamplerScratch, TokenSampler } from "../../inference/sampler.ts";
import type { GenerateTask } from "../../ports/engine.ts";
import type { StageEvent, StagePass } from "../../ports/stage-engine.ts";
import { embeddedToken, hiddenBytes, type LayerRange, ScriptedKv, statesOf } from "./scripted-layers.ts";
import { SCRIPTED_STOP_TOKEN, SCRIPTED_VOCAB_SIZE, scriptedLogits } from "./scripted-model.ts";

interface Sampling {
  readonly task: GenerateTask;
  readonly sampler: TokenSampler;
  left: number;
  isOver: boolean;
}

export interface SlotShape {
  readonly range: LayerRange;
  readonly isLast: boolean;
  readonly wire: WireFormat;
  readonly keepsStale: boolean;
}

export class ScriptedSlot {
  readonly sequence: SequenceId;
  kv: ScriptedKv;
  isRunning = true;
  /** Ends of the passes that wait. */
  readonly pending: number[] = [];
  /** Sabotage: positions that it says it holds. */
  #claimed = 0;
  readonly #shape: SlotShape;
  readonly #scratch = new SamplerScratch(SCRIPTED_VOCAB_SIZE);
  #sampling: Sampling | null = null;

  constructor(sequence: SequenceId, shape: SlotShape) {
    this.sequence = sequence;
    this.#shape = shape;
    this.kv = new ScriptedKv(shape.range);
  }

  /** Positions that it holds once all passes submitted so far are done. */
  get planned(): number {
    return this.pending.at(-1) ?? Math.max(this.kv.held, this.#claimed);
  }

  /** Sabotage: holds nothing from here on, and says that it does. */
  lose(): void {
    this.#claimed = this.kv.held;
    this.kv = new ScriptedKv(this.#shape.range);
  }

  setSampling(task: GenerateTask): void {
    const sampler = new TokenSampler(task.sampling, task.seed, task.choice);
    for (const tokenId of task.tokenIds.slice(task.tokenIds.length - task.generatedCount)) sampler.accept(tokenId);
    this.#sampling = { task, sampler, left: task.tokensMax, isOver: false };
  }

  release(): void {
    this.isRunning = false;
    this.pending.length = 0;
    this.#sampling = null;
  }

  /** Of the oldest that waits. */
  carryOut(pass: StagePass): StageEvent {
    const { sequence, tag, start, count, how, draw } = pass;
    const { kv } = this;
    const { keepsStale, isLast, wire } = this.#shape;
    this.pending.shift();
    if (isLast && draw !== null && this.#sampling === null) {
      const message = `a token is to be drawn after ${start + count - 1}, and nothing is known of how`;
      return { kind: "failed", sequence, tag, code: "position-wrong", message };
    }
    const states = inputStates(pass);
    if (states === null) {
      const message = `positions ${start} to ${start + count - 1} hold no numbers`;
      return { kind: "failed", sequence, tag, code: "activations-broken", message };
    }
    if (!keepsStale) kv.truncate(start);
    const way = how === "together" && count > 1 ? "together" : "singly";
    const decode = (at: number) => kv.append(start + at, states[at] ?? 0, way);
    if (isLast && draw !== null) return this.#draw(pass, draw.draftIds, decode);
    const outputs = states.map((_, at) => decode(at));
    if (isLast) return { kind: "done", sequence, tag };
    return { kind: "output", sequence, tag, start, count, how, draw, format: wire, data: hiddenBytes(outputs, wire) };
  }

  /** After each position from the first that draws, up to the first draw that the drafts did not foresee. */
  #draw(pass: StagePass, draftIds: readonly number[], decode: (at: number) => number): StageEvent {
    const { sequence, tag, start, count } = pass;
    const sampling = this.#sampling;
    const firstAt = count - 1 - draftIds.length;
    for (let at = 0; at < firstAt; at++) decode(at);
    if (sampling === null || sampling.isOver) return { kind: "done", sequence, tag };
    const tokens: SampledToken[] = [];
    const logits: Float32Array[] = [];
    let end: StopReason | null = null;
    for (let at = firstAt; at < count && end === null; at++) {
      const row = new Float32Array(SCRIPTED_VOCAB_SIZE);
      scriptedLogits(decode(at), row);
      if (pass.wantsLogits === true) logits.push(row.slice());
      const tokenId = sampling.sampler.sample(row, null, this.#scratch);
      sampling.sampler.accept(tokenId);
      sampling.left -= 1;
      tokens.push({ tokenId, logprob: sampling.task.topLogprobs === null ? null : -0.5, top: [] });
      if (tokenId === SCRIPTED_STOP_TOKEN && !sampling.task.ignoreStopTokens) end = "stop-token";
      else if (sampling.left === 0) end = "length";
      if (tokenId !== draftIds[at - firstAt]) break;
    }
    sampling.isOver = end !== null;
    const event = { kind: "tokens" as const, sequence, tag, tokens, position: start + firstAt + 1, end };
    return pass.wantsLogits === true ? { ...event, logits } : event;
  }
}

function inputStates({ input }: StagePass): readonly number[] | null {
  return input.kind === "tokens" ? input.tokenIds.map(embeddedToken) : statesOf(input.data, input.format);
}
