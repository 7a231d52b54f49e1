import { abilitiesNeeded, type EngineAbility } from "../../domain/attached-engine.ts";
import type { AttemptEnding } from "../../domain/attempt.ts";
import type { GenerationEvent, GenerationRequest } from "../../domain/generation.ts";
import type { NodeId } from "../../domain/ids.ts";
import type { Refusal } from "../../domain/refusal.ts";
import type { SampledToken, StopReason } from "../../domain/sampling.ts";
import type { AttemptStart } from "../../wire/agent-link.ts";
import { Work } from "./work.ts";

/** They end a stream that runs whatever its nodes do. */
const OWN_ENDS: ReadonlySet<Refusal["code"]> = new Set(["deadline-exceeded", "draining"]);

/** One choice of a chat or completion: its tokens so far survive every attempt. */
export class GenerationWork extends Work {
  readonly request: GenerationRequest;
  finishReason: "cancelled" | "stop-string" | null = null;
  readonly #onEvent: (event: GenerationEvent) => void;
  readonly #stopTokenIds: ReadonlySet<number>;
  /** From the first of the answer on, those that others generated before included. */
  readonly #tokenIds: number[];

  constructor(
    request: GenerationRequest,
    start: {
      nowMs: number;
      vocabSize: number;
      stopTokenIds: readonly number[];
      onEvent: (event: GenerationEvent) => void;
    },
  ) {
    super({ terms: request.terms, choice: request.choice, nowMs: start.nowMs, vocabSize: start.vocabSize });
    this.request = request;
    this.#tokenIds = [...(request.generatedTokenIds ?? [])];
    this.#onEvent = start.onEvent;
    this.#stopTokenIds = new Set(start.stopTokenIds);
  }

  needs(): readonly EngineAbility[] {
    return abilitiesNeeded({ ...this.request, generatedCount: this.#tokenIds.length });
  }

  tokensNeeded(): number {
    return this.request.promptTokenIds.length + this.request.tokensMax;
  }

  promptTokens(): number {
    return this.request.promptTokenIds.length + this.#tokenIds.length;
  }

  prefix(): readonly number[] {
    return this.request.promptTokenIds;
  }

  tokensLeft(): number {
    return this.request.tokensMax - this.#tokenIds.length;
  }

  room(tokenIds: readonly number[]): number {
    if (this.completion() !== null) return 0;
    const stopAt = this.request.ignoreStopTokens
      ? -1
      : tokenIds.findIndex((tokenId) => this.#stopTokenIds.has(tokenId));
    return stopAt === -1 ? this.tokensLeft() : Math.min(this.tokensLeft(), stopAt + 1);
  }

  wireWork(): AttemptStart["work"] {
    const { request } = this;
    return {
      kind: "generate",
      tokenIds: [...request.promptTokenIds, ...this.#tokenIds],
      generatedCount: this.#tokenIds.length,
      tokensMax: this.tokensLeft(),
      sampling: {
        ...request.sampling,
        logitBias: request.sampling.logitBias.map(([tokenId, bias]) => [tokenId, bias]),
      },
      seed: request.seed,
      choice: request.choice,
      stopStrings: [...request.stopStrings],
      grammar: request.grammar,
      cacheScope: request.cacheScope,
      ignoreStopTokens: request.ignoreStopTokens,
      topLogprobs: request.topLogprobs,
      ...(this.isBackground ? { isBackground: true } : {}),
    };
  }

  /** What the last token alone tells: a node that dies between its last token and its end costs nothing. */
  completion(): StopReason | null {
    if (this.#endsInStopToken()) return "stop-token";
    return this.tokensLeft() === 0 ? "length" : null;
  }

  endProblem(reason: string): string | null {
    switch (reason) {
      case "stop-token":
        return this.#endsInStopToken() ? null : "ended with stop-token after a token that is none";
      case "length":
        return this.tokensLeft() === 0 ? null : `ended with length, ${this.tokensLeft()} tokens early`;
      case "stop-string":
        return this.request.stopStrings.length > 0 ? null : "ended with stop-string and none was given";
      case "grammar-end":
        return this.request.grammar === null ? "ended with grammar-end and no grammar was given" : null;
      default:
        return `ended with ${reason} without being asked`;
    }
  }

  deliverStarted(nodeId: NodeId, queuedMs: number): void {
    this.#onEvent({ kind: "started", nodeId, queuedMs });
  }

  override deliverWaiting(): void {
    if (this.request.wantsWaits === true) this.#onEvent({ kind: "waiting" });
  }

  deliverTokens(tokens: readonly SampledToken[]): void {
    for (const { tokenId } of tokens) this.#tokenIds.push(tokenId);
    this.#onEvent({ kind: "tokens", tokens });
  }

  deliverEnd(reason: StopReason | "embedded"): void {
    if (reason !== "embedded") this.#onEvent({ kind: "end", reason });
  }

  deliverFailure(reason: Refusal): void {
    // A stream that already runs was accepted: what ends it is the loss of its nodes, whatever the planner's word for it is.
    const isOfNodes = this.#tokenIds.length > 0 && !OWN_ENDS.has(reason.code);
    this.#onEvent({ kind: "failed", reason: isOfNodes ? { ...reason, code: "upstream-lost" } : reason });
  }

  finishEnding(): AttemptEnding {
    return this.finishReason === "stop-string" ? "finished" : "cancelled";
  }

  #endsInStopToken(): boolean {
    const last = this.#tokenIds.at(-1);
    return last !== undefined && !this.request.ignoreStopTokens && this.#stopTokenIds.has(last);
  }
}
