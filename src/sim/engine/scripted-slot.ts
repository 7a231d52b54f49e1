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
  /** Tokens of the sequence: the next draw is after the position before. */
  tokens: number;
  left: number;
  isOver: boolean;
}

export interface SlotShape {
  readonly range: LayerRange;
  readonly isLast: boolean;
  readonly contextTokens: number;
  readonly wire: WireFormat;
  readonly keepsStale: boolean;
}

export class ScriptedSlot {
  readonly sequence: SequenceId;
  kv: ScriptedKv;
  isRunning = true;
  /** Once all passes submitted so far are done. */
  planned = 0;
  readonly #shape: SlotShape;
  readonly #scratch = new SamplerScratch(SCRIPTED_VOCAB_SIZE);
  #sampling: Sampling | null = null;

  constructor(sequence: SequenceId, shape: SlotShape) {
    this.sequence = sequence;
    this.#shape = shape;
    this.kv = new ScriptedKv(shape.range);
  }

  setSampling(task: GenerateTask): void {
    const sampler = new TokenSampler(task.sampling, task.seed, task.choice);
    for (const tokenId of task.tokenIds.slice(task.tokenIds.length - task.generatedCount)) sampler.accept(tokenId);
    this.#sampling = { task, sampler, tokens: task.tokenIds.length, left: task.tokensMax, isOver: false };
  }

  release(): void {
    this.isRunning = false;
    this.planned = this.kv.held;
    this.#sampling = null;
  }

  carryOut(pass: StagePass): StageEvent | null {
    const { sequence, tag, start, count, how, draw } = pass;
    const { kv } = this;
    const { contextTokens, keepsStale, isLast, wire } = this.#shape;
    const failed = (code: "position-wrong" | "activations-broken", message: string): StageEvent => ({
      kind: "failed",
      sequence,
      tag,
      code,
      message,
    });
    if (start > kv.held || start + count > contextTokens) {
      const bound = Math.min(kv.held, contextTokens - count);
      return failed("position-wrong", `a pass begins at ${start}, at most at ${bound}`);
    }
    const states = inputStates(pass);
    if (states === null)
      return failed("activations-broken", `positions ${start} to ${start + count - 1} hold no numbers`);
    if (!keepsStale) kv.truncate(start);
    const way = how === "together" && count > 1 ? "together" : "singly";
    const outputs = states.map((state, at) => kv.append(start + at, state, way));
    if (!isLast) {
      return { kind: "output", sequence, tag, start, count, how, draw, format: wire, data: hiddenBytes(outputs, wire) };
    }
    return draw === null ? null : this.#draw({ pass, draftIds: draw.draftIds, outputs });
  }

  /** After each position from the first that draws, up to the first draw that the drafts did not foresee. */
  #draw(of: { pass: StagePass; draftIds: readonly number[]; outputs: readonly number[] }): StageEvent | null {
    const { pass, draftIds, outputs } = of;
    const { sequence, tag } = pass;
    const sampling = this.#sampling;
    const firstAt = pass.count - 1 - draftIds.length;
    const position = pass.start + firstAt + 1;
    if (sampling === null || sampling.tokens !== position) {
      const told = sampling === null ? "nothing is known of its sampling" : `it has ${sampling.tokens} tokens`;
      const message = `a token is to be drawn for position ${position}: ${told}`;
      return { kind: "failed", sequence, tag, code: "position-wrong", message };
    }
    if (sampling.isOver) return null;
    const tokens: SampledToken[] = [];
    const logits: Float32Array[] = [];
    let end: StopReason | null = null;
    for (let at = firstAt; at < pass.count && end === null; at++) {
      const row = new Float32Array(SCRIPTED_VOCAB_SIZE);
      scriptedLogits(outputs[at] ?? 0, row);
      if (pass.wantsLogits === true) logits.push(row.slice());
      const tokenId = sampling.sampler.sample(row, null, this.#scratch);
      sampling.sampler.accept(tokenId);
      sampling.tokens += 1;
      sampling.left -= 1;
      tokens.push({ tokenId, logprob: sampling.task.topLogprobs === null ? null : -0.5, top: [] });
      if (tokenId === SCRIPTED_STOP_TOKEN && !sampling.task.ignoreStopTokens) end = "stop-token";
      else if (sampling.left === 0) end = "length";
      if (tokenId !== draftIds[at - firstAt]) break;
    }
    sampling.isOver = end !== null;
    const event = { kind: "tokens" as const, sequence, tag, tokens, position, end };
    return pass.wantsLogits === true ? { ...event, logits } : event;
  }
}

function inputStates({ input }: StagePass): readonly number[] | null {
  return input.kind === "tokens" ? input.tokenIds.map(embeddedToken) : statesOf(input.data, input.format);
}
