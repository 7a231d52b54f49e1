/**
 * A request that runs: its choices, each a generation of dispatch, and what they produced and the client has not yet taken.
 * Whoever writes the answer pulls: tokens wait as ids, and text is made only when it is asked for, so that a client that does
 * not read costs memory for ids alone, and a slow one gets larger pieces.
 *
 * | state   | event                    | becomes | effect                                                        |
 * | ------- | ------------------------ | ------- | ------------------------------------------------------------- |
 * | running | all choices ended        | ended   | the last pull gives their ends, then null                      |
 * | running | a choice failed          | failed  | the other choices are cancelled; the next pull gives the reason |
 * | running | client gone, or stalled  | gone    | all choices are cancelled; the next pull gives null             |
 * | others  | anything                 | same    | ignored: it is over                                           |
 */
import { assert } from "../../../domain/assert.ts";
import type { AttemptRecord } from "../../../domain/attempt.ts";
import type { RequestTerms } from "../../../domain/generation.ts";
import type { NodeId } from "../../../domain/ids.ts";
import type { Refusal } from "../../../domain/refusal.ts";
import type { SampledToken, SeedHex, StopReason } from "../../../domain/sampling.ts";
import type { Clock, Timer } from "../../../ports/clock.ts";
import type { FinishReason } from "../../../wire/openai/responses.ts";
import type { AnswerEvent, AnswerGeneration, AnswerSource, CloudPiece, UsedCloudPart } from "../legs/leg-events.ts";
import type { GenerationPlan } from "../plans/generation-plan.ts";
import type { ChoiceOutput } from "./answer-format.ts";
import { type ChoiceStep, ChoiceText } from "./choice-text.ts";

export type Pulled =
  | { readonly kind: "outputs"; readonly outputs: readonly ChoiceOutput[] }
  | { readonly kind: "failed"; readonly reason: Refusal }
  /** Everything was pulled, or nobody reads any more. */
  | { readonly kind: "over" };

/** The connection closed, or nothing was read for too long. */
export type GoneCause = "closed" | "stalled";

/** What a choice used, for settlement. */
export interface ChoiceMeter {
  readonly tokenIds: readonly number[];
  readonly attempts: readonly AttemptRecord[];
  readonly finishReason: FinishReason | null;
  /** Absent: the grid made all of it. */
  readonly cloudParts?: readonly UsedCloudPart[];
}

/** A provider's piece, and how many tokens come before it. */
interface PlacedPiece {
  readonly piece: CloudPiece;
  readonly afterTokens: number;
}

interface ChoiceRun {
  readonly index: number;
  readonly text: ChoiceText;
  readonly tokenIds: number[];
  /** Tokens not yet pulled, with their logprobs; only kept when logprobs are asked for. */
  details: SampledToken[];
  pulledTokens: number;
  /** Of providers, and not yet pulled. */
  pieces: PlacedPiece[];
  /** Taken in; and so many of these as nothing is held of. */
  pulledPieces: number;
  deliveredPieces: number;
  stopReason: StopReason | null;
  /** Its generation was told to end, or ended by itself. */
  isOver: boolean;
  finishReason: FinishReason | null;
  generation: AnswerGeneration | null;
}

export interface AnswerOptions {
  readonly clock: Clock;
  /** Dispatch where the grid makes all of it, else the legs. */
  readonly source: AnswerSource;
  readonly plan: GenerationPlan;
  readonly terms: RequestTerms;
  readonly seeds: readonly SeedHex[];
  readonly cacheScope: string;
  readonly clientStallMsMax: number;
}

const NO_TOP: readonly [] = [];

export class Answer {
  readonly #options: AnswerOptions;
  readonly #choices: readonly ChoiceRun[];
  #state: "running" | "ended" | "failed" | "gone" = "running";
  #failure: Refusal | null = null;
  #wake: (() => void) | null = null;
  #stallTimer: Timer | null = null;
  #lastPullMs: number;
  #firstNodeId: NodeId | null = null;
  #firstProviderId: string | null = null;
  #queuedMs: number | null = null;
  #hasOutput = false;
  #onGone: ((cause: GoneCause) => void) | null = null;

  constructor(options: AnswerOptions) {
    this.#options = options;
    const { plan } = options;
    this.#lastPullMs = options.clock.monoMs();
    this.#choices = plan.choices.map((choice, index) => ({
      index,
      text: new ChoiceText({
        vocabulary: plan.model.vocabulary,
        parser: choice.parser,
        stopStrings: plan.stopStrings,
        markers: plan.markers,
        ignoreStopTokens: plan.ignoreStopTokens,
        hasLogprobs: plan.topLogprobs !== null,
      }),
      tokenIds: [],
      details: [],
      pulledTokens: 0,
      pieces: [],
      pulledPieces: 0,
      deliveredPieces: 0,
      stopReason: null,
      isOver: false,
      finishReason: null,
      generation: null,
    }));
  }

  /** The node that the first choice to start runs on. */
  get firstNodeId(): NodeId | null {
    return this.#firstNodeId;
  }

  /** The cloud provider that a choice began at; null where the grid began all of them. */
  get firstProviderId(): string | null {
    return this.#firstProviderId;
  }

  /** How long its first choice to start waited on the grid; null where it did not start there. */
  get queuedMs(): number | null {
    return this.#queuedMs;
  }

  get isGone(): boolean {
    return this.#state === "gone";
  }

  /** Once. `onGone` is told when nobody reads any more, and how that was noticed. */
  start(options: { onGone: (cause: GoneCause) => void }): void {
    this.#onGone = options.onGone;
    const { plan, source, terms, seeds } = this.#options;
    for (const choice of this.#choices) {
      if (this.#state !== "running") return;
      const planned = plan.choices[choice.index];
      const seed = seeds[choice.index];
      assert(planned !== undefined && seed !== undefined, `choice ${choice.index} is planned and has a seed`);
      choice.generation = source.generate(
        {
          terms,
          choice: choice.index,
          promptTokenIds: planned.promptTokenIds,
          tokensMax: plan.tokensMax,
          sampling: plan.sampling,
          seed,
          stopStrings: plan.stopStrings,
          grammar: plan.grammar,
          cacheScope: this.#options.cacheScope,
          ignoreStopTokens: plan.ignoreStopTokens,
          topLogprobs: plan.topLogprobs,
        },
        (event) => this.#onEvent(choice, event),
      );
    }
  }

  /** Resolves at the first token or end; with the reason when it failed before. */
  async begun(): Promise<Refusal | null> {
    while (this.#state === "running" && !this.#hasOutput) await this.#change();
    return this.#hasOutput ? null : this.#failure;
  }

  /** Everything that waits, at most one output for each choice. One caller at a time. */
  async pull(): Promise<Pulled> {
    for (;;) {
      this.#lastPullMs = this.#options.clock.monoMs();
      if (this.#state === "gone") return { kind: "over" };
      const outputs = this.#choices.flatMap((choice) => this.#take(choice) ?? []);
      if (outputs.length > 0) return { kind: "outputs", outputs };
      if (this.#failure !== null) return { kind: "failed", reason: this.#failure };
      if (this.#state === "ended") return { kind: "over" };
      await this.#change();
    }
  }

  /** The client is gone: nothing is generated or shown any more. May be called at any time. */
  cancel(cause: GoneCause): void {
    if (this.#state !== "running" && this.#state !== "ended") return;
    this.#close("gone");
    this.#onGone?.(cause);
  }

  /** It cannot go on, for a reason of ours: the next pull gives what there is, and then the reason. */
  fail(reason: Refusal): void {
    if (this.#state !== "running") return;
    this.#failure = reason;
    this.#close("failed");
  }

  /** After the last pull: what each choice used, once every attempt has ended. */
  async meters(): Promise<readonly ChoiceMeter[]> {
    this.#stallTimer?.cancel();
    return await Promise.all(
      this.#choices.map(async (choice) => {
        const isWhole = choice.finishReason !== null && this.#state !== "failed";
        const used = isWhole ? choice.text.consumedTokens : choice.text.deliveredTokens;
        const attempts = (await choice.generation?.finish("cancelled")) ?? [];
        const { finishReason, generation } = choice;
        const cloudParts = generation?.cloudParts?.(isWhole ? choice.pulledPieces : choice.deliveredPieces);
        const meter = { tokenIds: choice.tokenIds.slice(0, used), attempts, finishReason };
        return cloudParts === undefined || cloudParts.length === 0 ? meter : { ...meter, cloudParts };
      }),
    );
  }

  #onEvent(choice: ChoiceRun, event: AnswerEvent): void {
    if (this.#state !== "running" || choice.finishReason !== null) return;
    switch (event.kind) {
      case "started":
        this.#firstNodeId ??= event.nodeId;
        this.#queuedMs ??= event.queuedMs;
        return;
      case "waiting":
        return;
      case "cloud":
        if (this.#firstNodeId === null) this.#firstProviderId ??= event.providerId;
        return;
      case "piece":
        choice.pieces.push({ piece: event.piece, afterTokens: choice.tokenIds.length });
        break;
      case "tokens":
        for (const token of event.tokens) choice.tokenIds.push(token.tokenId);
        if (this.#options.plan.topLogprobs !== null) choice.details.push(...event.tokens);
        break;
      case "end":
        choice.stopReason = event.reason;
        choice.isOver = true;
        break;
      case "failed":
        choice.isOver = true;
        this.fail(event.reason);
        return;
    }
    this.#hasOutput = true;
    this.#watchClient();
    this.#notify();
  }

  #take(choice: ChoiceRun): ChoiceOutput | null {
    if (choice.finishReason !== null) return null;
    const pieced = choice.pieces.length === 0 ? null : this.#takePieces(choice);
    const tokens = this.#pendingTokens(choice, choice.tokenIds.length);
    if (tokens.length === 0 && choice.stopReason === null && pieced === null) return null;
    const pushed = choice.text.push(tokens);
    const step = pieced === null ? pushed : joined(pieced, pushed);
    if (choice.text.isStopped && choice.stopReason === null) {
      // The stop string was seen here first; what the node still sends belongs to nobody.
      choice.stopReason = "stop-string";
      choice.isOver = true;
      void choice.generation?.finish("stop-string");
    }
    if (choice.stopReason === null) return { choice: choice.index, ...step, finishReason: null };
    const { deltas, finishReason } = choice.text.finish(choice.text.isStopped ? "stop-string" : choice.stopReason);
    choice.finishReason = finishReason;
    if (this.#state === "running" && this.#choices.every((other) => other.finishReason !== null)) this.#close("ended");
    const { stopString } = choice.text;
    return {
      choice: choice.index,
      deltas: [...step.deltas, ...deltas],
      logprobs: step.logprobs,
      finishReason,
      stopString,
    };
  }

  /** All pieces that wait, with the tokens before them. */
  #takePieces(choice: ChoiceRun): ChoiceStep {
    const { text, pieces } = choice;
    choice.pieces = [];
    let step: ChoiceStep = { deltas: [], logprobs: [] };
    for (const { piece, afterTokens } of pieces) {
      if (text.isStopped) break;
      if (afterTokens > choice.pulledTokens) step = joined(step, text.push(this.#pendingTokens(choice, afterTokens)));
      step = joined(step, piece.kind === "text" ? text.pushText(piece.text) : text.pass(piece.delta));
      choice.pulledPieces++;
      if (!text.isHolding) choice.deliveredPieces = choice.pulledPieces;
    }
    return step;
  }

  /** Up to so many of the choice. */
  #pendingTokens(choice: ChoiceRun, end: number): readonly SampledToken[] {
    const { pulledTokens, details } = choice;
    choice.pulledTokens = end;
    if (this.#options.plan.topLogprobs !== null) {
      choice.details = [];
      return details;
    }
    const pending: SampledToken[] = [];
    for (let at = pulledTokens; at < end; at++) {
      pending.push({ tokenId: choice.tokenIds[at] ?? 0, logprob: null, top: NO_TOP });
    }
    return pending;
  }

  #close(state: "ended" | "failed" | "gone"): void {
    this.#state = state;
    this.#stallTimer?.cancel();
    for (const choice of this.#choices) {
      if (choice.isOver) continue;
      choice.isOver = true;
      void choice.generation?.finish("cancelled");
    }
    this.#notify();
  }

  /** One timer, set again only when it fires: a client that keeps up never costs more than that. */
  #watchClient(): void {
    if (this.#wake !== null || this.#stallTimer !== null) return;
    const { clock, clientStallMsMax } = this.#options;
    this.#lastPullMs = clock.monoMs();
    const look = () => {
      this.#stallTimer = null;
      const silentMs = clock.monoMs() - this.#lastPullMs;
      if (this.#wake !== null || this.#state !== "running") return;
      if (silentMs >= clientStallMsMax) this.cancel("stalled");
      else this.#stallTimer = clock.setTimer(clientStallMsMax - silentMs, look);
    };
    this.#stallTimer = clock.setTimer(clientStallMsMax, look);
  }

  #change(): Promise<void> {
    assert(this.#wake === null, "one reader waits at a time");
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = null;
        resolve();
      };
    });
  }

  #notify(): void {
    this.#wake?.();
  }
}

function joined(before: ChoiceStep, after: ChoiceStep): ChoiceStep {
  return { deltas: [...before.deltas, ...after.deltas], logprobs: [...before.logprobs, ...after.logprobs] };
}
