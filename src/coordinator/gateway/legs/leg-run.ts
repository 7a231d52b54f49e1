/**
 * One choice over its legs. One leg runs at a time; when it cannot go on, the next one does, after what is shown already: no
 * character is said twice and none is left out.
 *
 * | leg that runs | event                                     | becomes                                                           |
 * | ------------- | ----------------------------------------- | ----------------------------------------------------------------- |
 * | any           | its output                                | shown, once the character is whole                                |
 * | any           | its end                                   | over                                                              |
 * | grid          | refused, or lost for good                 | the next leg that can take it; else over, failed                  |
 * | grid          | lost its node, and none other in time     | the next leg that can take it; else it goes on waiting            |
 * | grid          | no first token in time (`lateAfterMs`)    | as above                                                          |
 * | cloud         | failed                                    | the next leg that can take it; else over, failed                  |
 * | cloud         | stopped by its content filter             | over, failed: nobody else says what it would not                  |
 * | any           | `finish`                                  | over                                                              |
 *
 * A leg that was left is cancelled; what it still sends is nobody's.
 */
import type { AttemptRecord } from "../../../domain/attempt.ts";
import { describeFault } from "../../../domain/fault.ts";
import type { GenerationEvent, GenerationRequest } from "../../../domain/generation.ts";
import type { Refusal } from "../../../domain/refusal.ts";
import type { SampledToken } from "../../../domain/sampling.ts";
import type { Timer } from "../../../ports/clock.ts";
import type { CloudEvent, CloudFinish } from "../../../ports/cloud.ts";
import type { RouteCandidate } from "../../../scheduler/tiers/route-question.ts";
import { formFor } from "./cloud-recipe.ts";
import { estimatedTokens } from "./count-tokens.ts";
import type { LegContext } from "./leg-context.ts";
import type { AnswerEvent, AnswerGeneration, CloudPiece, UsedCloudPart } from "./leg-events.ts";
import { cloudRefusal, mayMove } from "./leg-refusal.ts";
import { nextLeg } from "./next-leg.ts";
import {
  type CloudCandidate,
  type CloudLeg,
  type GridCandidate,
  type GridLeg,
  isCallPiece,
  type RanLeg,
  textOfPiece,
} from "./ran-leg.ts";
import { WholeCharacters } from "./whole-characters.ts";
import { withAtMost } from "./with-at-most.ts";

/**
 * A stream that lost its node mostly goes on elsewhere on the grid in a few hundred milliseconds; then it starts there, and has this long
 * to give a token. Together with what a provider takes to begin, the gap stays below two seconds.
 */
const NODE_LOST_PATIENCE_MS = 500;
const RESUMED_PATIENCE_MS = 1_000;
/** A provider that has not begun by then is given up for the next. */
const CLOUD_FIRST_TOKEN_MS_MAX = 30_000;

type Why = "refused" | "lost" | "late";

export class LegRun implements AnswerGeneration {
  readonly #context: LegContext;
  readonly #request: GenerationRequest;
  readonly #onEvent: (event: AnswerEvent) => void;
  readonly #ran: RanLeg[] = [];
  #current: RanLeg | null = null;
  /** A leg that is being made ready: its prompt is tokenised. */
  #beginning: Promise<void> = Promise.resolve();
  #timer: Timer | null = null;
  #isOver = false;
  #hasOutput = false;
  #text = "";
  #hasParsed = false;
  #pieces = 0;

  constructor(context: LegContext, request: GenerationRequest, onEvent: (event: AnswerEvent) => void) {
    this.#context = context;
    this.#request = request;
    this.#onEvent = onEvent;
  }

  /** In a later turn of the microtasks: no event comes before the caller holds what it asked for. */
  start(): void {
    queueMicrotask(() => {
      const [first] = this.#context.candidates;
      if (first !== undefined) this.#begin(first);
    });
  }

  attempts(): readonly AttemptRecord[] {
    return this.#ran.flatMap((leg) => (leg.kind === "grid" ? shownOf(leg, leg.generation?.attempts() ?? []) : []));
  }

  async finish(reason: "cancelled" | "stop-string"): Promise<readonly AttemptRecord[]> {
    this.#end();
    const current = this.#current;
    if (current?.kind === "cloud") current.run?.cancel();
    await this.#beginning;
    const ended = await Promise.all(
      this.#ran.map(async (leg) => {
        if (leg.kind === "cloud") return [];
        return shownOf(leg, (await leg.generation?.finish(reason)) ?? []);
      }),
    );
    return ended.flat();
  }

  cloudParts(pieces: number): readonly UsedCloudPart[] {
    return this.#ran.flatMap((leg): readonly UsedCloudPart[] => {
      if (leg.kind === "grid") return [];
      const taken = leg.pieces.slice(0, Math.max(0, pieces - leg.piecesBefore));
      if (taken.length === 0 && !leg.hasEnded) return [];
      const { providerId, price, model } = leg.candidate;
      const isWhole = taken.length === leg.pieces.length;
      return [
        {
          providerId,
          choice: this.#request.choice,
          price,
          cost: model.cost,
          isFirst: this.#context.first === leg,
          text: taken.map(textOfPiece).join(""),
          hasCalls: taken.some(isCallPiece),
          hasEnded: leg.hasEnded && isWhole && leg.finish !== "length",
          usage: isWhole ? leg.usage : null,
        },
      ];
    });
  }

  #begin(candidate: RouteCandidate): void {
    this.#beginning = this.#prepare(candidate).catch((thrown: unknown) => {
      // A vocabulary that died in the middle: this leg cannot be, and none after it that needs one.
      const why = thrown instanceof Error ? thrown.message : String(thrown);
      const { ports, requestId } = this.#context;
      ports.log.error({ requestId, cause: describeFault(thrown) }, "leg not begun");
      this.#fail({
        code: "upstream-lost",
        message: `the answer could not go on: ${why}`,
        param: null,
        retryAfterMs: null,
      });
    });
  }

  async #prepare(candidate: RouteCandidate): Promise<void> {
    const generated = this.#hasOutput ? await this.#tokensSoFar() : { ids: [], count: 0 };
    if (this.#isOver) return;
    const tokensLeft = this.#request.tokensMax - generated.count;
    if (tokensLeft <= 0) {
      this.#end();
      this.#onEvent({ kind: "end", reason: "length" });
      return;
    }
    this.#context.ports.metrics.begun.inc({ kind: candidate.kind });
    if (candidate.kind === "grid") this.#beginGrid(candidate, generated.ids);
    else this.#beginCloud(candidate, tokensLeft);
  }

  #beginGrid(candidate: GridCandidate, generatedTokenIds: readonly number[]): void {
    const { ports, words, lateAfterMs } = this.#context;
    const bytesOf = (tokenId: number) => words?.bytesOf(tokenId) ?? new Uint8Array(0);
    const characters = new WholeCharacters(bytesOf);
    const leg: GridLeg = { kind: "grid", candidate, characters, tokenIds: [], hasWaited: false, generation: null };
    this.#take(leg);
    const { terms } = this.#request;
    const request: GenerationRequest = {
      ...this.#request,
      terms: { ...terms, deadlineMs: this.#leftMs() },
      wantsWaits: true,
      ...(generatedTokenIds.length === 0 ? {} : { generatedTokenIds }),
    };
    leg.generation = ports.dispatch.generate(request, (event) => this.#onGrid(leg, event));
    if (lateAfterMs !== null && !this.#hasOutput) this.#leaveAfter(leg, { ms: lateAfterMs, why: "late" });
  }

  #onGrid(leg: GridLeg, event: GenerationEvent): void {
    if (this.#isOver || this.#current !== leg) return;
    switch (event.kind) {
      case "started":
        if (leg.hasWaited) this.#leaveAfter(leg, { ms: RESUMED_PATIENCE_MS, why: "lost" });
        this.#onEvent(event);
        return;
      case "waiting":
        leg.hasWaited = true;
        this.#leaveAfter(leg, { ms: NODE_LOST_PATIENCE_MS, why: "lost" });
        return;
      case "tokens":
        this.#dropTimer();
        this.#show(leg, leg.characters.push(event.tokens));
        return;
      case "end":
        this.#show(leg, leg.characters.flush());
        this.#end();
        this.#onEvent(event);
        return;
      case "failed":
        this.#move(leg, event.reason, this.#hasOutput ? "lost" : "refused");
    }
  }

  #show(leg: GridLeg, { tokens, text }: { tokens: readonly SampledToken[]; text: string }): void {
    if (tokens.length === 0) return;
    this.#noteOutput(leg);
    for (const { tokenId } of tokens) leg.tokenIds.push(tokenId);
    this.#text += text;
    this.#onEvent({ kind: "tokens", tokens });
  }

  #beginCloud(candidate: CloudCandidate, tokensLeft: number): void {
    const { ports, recipe, modelId, isWhole } = this.#context;
    const form = formFor(recipe, { model: candidate.model, choice: this.#request.choice, soFar: this.#soFar() });
    const isParsed = form?.kind === "chat" && !this.#hasOutput;
    const leg: CloudLeg = {
      kind: "cloud",
      candidate,
      isParsed,
      piecesBefore: this.#pieces,
      pieces: [],
      run: null,
      finish: null,
      usage: null,
      hasEnded: false,
    };
    this.#take(leg);
    if (form === null) {
      const message = `cloud provider ${candidate.providerId} cannot take this request`;
      this.#move(leg, { code: "unsupported-parameter", message, param: null, retryAfterMs: null }, "refused");
      return;
    }
    const totalMsMax = this.#leftMs();
    const firstTokenMsMax = Math.min(totalMsMax, CLOUD_FIRST_TOKEN_MS_MAX);
    const { providerId, model } = candidate;
    const roomTokens =
      model.contextTokensMax - this.#context.promptTokensLikely - (this.#request.tokensMax - tokensLeft);
    const tokensMax = Math.max(1, Math.min(tokensLeft, roomTokens, model.outputTokensMax ?? tokensLeft));
    leg.run = ports.cloud.run({ providerId, modelId, form, tokensMax, firstTokenMsMax, totalMsMax, isWhole }, (event) =>
      this.#onCloud(leg, event),
    );
  }

  #onCloud(leg: CloudLeg, event: CloudEvent): void {
    if (this.#isOver || this.#current !== leg) return;
    switch (event.kind) {
      case "opened":
        this.#onEvent({ kind: "cloud", providerId: leg.candidate.providerId });
        return;
      case "text":
        this.#showPiece(leg, leg.isParsed ? { kind: "delta", delta: event } : event);
        if (event.text !== "") this.#text += event.text;
        return;
      case "reasoning":
      case "tool-call":
      case "tool-arguments":
        this.#hasParsed = true;
        this.#showPiece(leg, { kind: "delta", delta: event });
        return;
      case "choice-end":
        leg.finish = event.reason;
        return;
      case "end":
        this.#endCloud(leg, event);
        return;
      case "failed":
        this.#move(
          leg,
          cloudRefusal(leg.candidate.providerId, event, this.#hasOutput),
          this.#hasOutput ? "lost" : "refused",
        );
    }
  }

  #showPiece(leg: CloudLeg, piece: CloudPiece): void {
    if (piece.kind === "text" && piece.text === "") return;
    this.#noteOutput(leg);
    leg.pieces.push(piece);
    this.#pieces++;
    this.#onEvent({ kind: "piece", piece });
  }

  #endCloud(leg: CloudLeg, { usage }: Extract<CloudEvent, { kind: "end" }>): void {
    leg.usage = usage;
    const { providerId } = leg.candidate;
    const of = (what: string): Refusal => {
      return {
        code: "upstream-lost",
        message: `cloud provider ${providerId} ${what}`,
        param: null,
        retryAfterMs: null,
      };
    };
    if (leg.finish === null) this.#move(leg, of("ended without saying why"), "lost");
    else if (leg.finish === "content_filter") this.#fail(of("stopped the answer by its content filter"));
    else this.#endWhole(leg, leg.finish);
  }

  #endWhole(leg: CloudLeg, finish: CloudFinish): void {
    leg.hasEnded = true;
    this.#noteOutput(leg);
    this.#end();
    this.#onEvent({ kind: "end", reason: finish === "length" ? "length" : "stop-token" });
  }

  /** The timer that runs is replaced. A choice that nobody else can take waits on. */
  #leaveAfter(leg: GridLeg, after: { readonly ms: number; readonly why: Why }): void {
    this.#dropTimer();
    this.#timer = this.#context.ports.clock.setTimer(after.ms, () => {
      this.#timer = null;
      if (this.#isOver || this.#current !== leg) return;
      const next = this.#next();
      if (next !== null) this.#goOn(leg, next, after.why);
    });
  }

  #move(leg: RanLeg, reason: Refusal, why: Why): void {
    const next = leg.kind === "cloud" || mayMove(reason) ? this.#next() : null;
    if (next === null) this.#fail(reason);
    else this.#goOn(leg, next, why);
  }

  #goOn(leg: RanLeg, next: RouteCandidate, why: Why): void {
    const { ports, requestId } = this.#context;
    this.#dropTimer();
    this.#current = null;
    if (leg.kind === "grid") void leg.generation?.finish("cancelled");
    else leg.run?.cancel();
    ports.metrics.moved.inc({ from: leg.kind, to: next.kind, why });
    const to = next.kind === "grid" ? "grid" : next.providerId;
    ports.log.info({ requestId, choice: this.#request.choice, from: leg.kind, to, why }, "answer goes on elsewhere");
    this.#begin(next);
  }

  #next(): RouteCandidate | null {
    const before = this.#ran.map(({ candidate }) => candidate);
    return nextLeg(this.#context.candidates, { before, canTake: (candidate) => this.#canTake(candidate) });
  }

  #canTake(candidate: RouteCandidate): boolean {
    const { recipe, words, ports, modelId } = this.#context;
    const soFar = this.#soFar();
    if (candidate.kind === "grid") return !soFar.hasParsed && (soFar.text === "" || words !== null);
    const offer = ports.cloud.offers(modelId).find(({ spec }) => spec.providerId === candidate.providerId);
    if (offer === undefined || offer.health.breaker === "open" || offer.health.freeSlots === 0) return false;
    const form = formFor(recipe, { model: candidate.model, choice: this.#request.choice, soFar });
    return form !== null && (form.kind === "chat" || words === null || !words.hasControlText(soFar.text));
  }

  #soFar() {
    return { text: this.#text, hasParsed: this.#hasParsed };
  }

  /** Of the whole choice: the grid's own token ids, and a provider's text in the tokens of this model. */
  async #tokensSoFar(): Promise<{ readonly ids: readonly number[]; readonly count: number }> {
    const { words } = this.#context;
    const ids: number[] = [];
    let estimated = 0;
    for (const leg of this.#ran) {
      const text = leg.kind === "cloud" ? leg.pieces.map(textOfPiece).join("") : "";
      if (leg.kind === "grid") ids.push(...leg.tokenIds);
      else if (words !== null) ids.push(...(await words.tokenize(text)));
      else estimated += estimatedTokens(text);
    }
    return { ids, count: ids.length + estimated };
  }

  #take(leg: RanLeg): void {
    this.#ran.push(leg);
    this.#current = leg;
  }

  #noteOutput(leg: RanLeg): void {
    this.#hasOutput = true;
    this.#context.first ??= leg;
  }

  #leftMs(): number {
    return Math.max(1, Math.ceil(this.#context.deadlineAtMs - this.#context.ports.clock.monoMs()));
  }

  #fail(reason: Refusal): void {
    if (this.#isOver) return;
    this.#end();
    this.#onEvent({ kind: "failed", reason });
  }

  #end(): void {
    this.#isOver = true;
    this.#dropTimer();
  }

  #dropTimer(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }
}

/** What a node sent and nobody was shown, as half a character, is not acknowledged. */
function shownOf(leg: GridLeg, attempts: readonly AttemptRecord[]): readonly AttemptRecord[] {
  return withAtMost(attempts, leg.tokenIds.length);
}
