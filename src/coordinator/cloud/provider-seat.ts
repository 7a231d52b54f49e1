/**
 * One provider while the coordinator runs: is it well, what may go to it now, how fast it was, what it cost. Which failure counts against the
 * provider:
 *
 * | failure                                                        | breaker              | rates                      |
 * | -------------------------------------------------------------- | -------------------- | -------------------------- |
 * | unreachable, overloaded, malformed, cut, endless                | a failure            | overloaded: as long as told |
 * | too-slow                                                       | a failure after 5 quiet seconds |                 |
 * | unauthorised, bad-certificate, redirected                       | opens: time mends none |                          |
 * | rate-limited                                                    | nothing              | nothing goes until then    |
 * | rejected, unknown-model, cancelled                              | nothing              |                            |
 */
import type { ModelId } from "../../domain/ids.ts";
import { addUsd, type MicroUsd, priced, type TokenPrice, ZERO_USD } from "../../domain/money.ts";
import type { ProviderModel, ProviderSpec } from "../../domain/provider.ts";
import type { Clock } from "../../ports/clock.ts";
import type { CloudEvent, CloudFailure, CloudHealth, CloudRequest, CloudUsage } from "../../ports/cloud.ts";
import type { UpstreamFailure, UpstreamOddity } from "../../ports/cloud-upstream.ts";
import {
  afterFailure,
  afterNothing,
  afterStart,
  afterSuccess,
  BREAKER_CLOSED,
  type Breaker,
  breakerAt,
  mayGo,
} from "../../scheduler/retries/circuit-breaker.ts";
import { ProviderRates } from "./provider-rates.ts";
import { RecentMedian } from "./recent-median.ts";

/** OpenAI's rule of thumb, where nobody counts. */
const CHARS_PER_TOKEN = 4;
/** A provider that said "too many" and not for how long. */
const RATE_LIMITED_MS = 5_000;
/** A model that the provider does not have is not asked for again so soon. */
const MISSING_MODEL_MS = 60_000;

/** A caller in a hurry is no reason to think ill of a provider. */
const QUIET_MS_MIN = 5_000;

const AGAINST_PROVIDER: ReadonlySet<CloudFailure> = new Set([
  "unreachable",
  "overloaded",
  "malformed",
  "cut",
  "endless",
  "too-slow",
]);
const LASTING: ReadonlySet<CloudFailure> = new Set(["unauthorised", "bad-certificate", "redirected"]);

export interface ProviderNumbers {
  readonly succeeded: number;
  readonly cancelled: number;
  readonly failed: ReadonlyMap<CloudFailure, number>;
  readonly oddities: ReadonlyMap<UpstreamOddity, number>;
  readonly promptTokens: number;
  readonly outputTokens: number;
  /** What the provider will charge us by its own count, or by ours where it told none. */
  readonly costMicroUsd: MicroUsd;
  readonly running: number;
}

/** A run that was let go. */
export interface SeatRun {
  readonly model: ProviderModel;
  readonly promptTokens: number;
  readonly takenTokens: number;
  readonly startedAtMs: number;
  /** An operator asked for it: no limit held it back, and its success ends any suspicion. */
  readonly isProbe: boolean;
  /** It comes in one piece: its first token came some time before. */
  readonly isWhole: boolean;
  firstAtMs: number | null;
  lastAtMs: number | null;
  outputChars: number;
}

export class ProviderSeat {
  spec: ProviderSpec;
  readonly #clock: Clock;
  readonly #rates: ProviderRates;
  readonly #firstTokenMs = new RecentMedian();
  readonly #tokPerSecond = new RecentMedian();
  readonly #missing = new Map<ModelId, number>();
  readonly #failed = new Map<CloudFailure, number>();
  readonly #oddities = new Map<UpstreamOddity, number>();
  #breaker: Breaker = BREAKER_CLOSED;
  #succeeded = 0;
  #cancelled = 0;
  #promptTokens = 0;
  #outputTokens = 0;
  #cost = ZERO_USD;

  constructor(spec: ProviderSpec, clock: Clock) {
    this.spec = spec;
    this.#clock = clock;
    this.#rates = new ProviderRates(spec);
  }

  /** New terms; what is known of its health stays unless it is at another address or has another key. */
  change(spec: ProviderSpec): void {
    const isSame =
      spec.baseUrl === this.spec.baseUrl && JSON.stringify(spec.credential) === JSON.stringify(this.spec.credential);
    if (!isSame) this.#breaker = BREAKER_CLOSED;
    this.#missing.clear();
    this.#rates.limits = spec;
    this.spec = spec;
  }

  health(hasCredential: boolean): CloudHealth {
    const nowMs = this.#clock.monoMs();
    const breaker = breakerAt(this.#breaker, nowMs);
    const slots = this.#rates.freeSlots(nowMs);
    const freeSlots = mayGo(breaker) ? Math.min(slots, breaker.state === "half-open" ? 1 : slots) : 0;
    const openMs = breaker.state === "open" ? breaker.untilMs - nowMs : 0;
    return {
      breaker: breaker.state,
      opensAgainAtMs: breaker.state === "open" ? Math.ceil(this.#clock.wallMs() + openMs) : null,
      lastFailure: breaker.state === "closed" ? null : breaker.why,
      hasCredential,
      freeSlots,
      retryAfterMs: freeSlots > 0 ? 0 : Math.max(1, Math.ceil(openMs), this.#rates.waitMs(1, nowMs) ?? 0),
      firstTokenMsP50: this.#firstTokenMs.value(),
      tokPerSecondP50: this.#tokPerSecond.value(),
    };
  }

  get breaker(): CloudHealth["breaker"] {
    return this.#breaker.state;
  }

  numbers(): ProviderNumbers {
    return {
      succeeded: this.#succeeded,
      cancelled: this.#cancelled,
      failed: this.#failed,
      oddities: this.#oddities,
      promptTokens: this.#promptTokens,
      outputTokens: this.#outputTokens,
      costMicroUsd: this.#cost,
      running: this.#rates.running,
    };
  }

  /** False while the provider said lately that it does not have the model. */
  has(modelId: ModelId): boolean {
    return (this.#missing.get(modelId) ?? 0) <= this.#clock.monoMs();
  }

  /** Lets a request go, or says why not. */
  begin(
    model: ProviderModel,
    request: Pick<CloudRequest, "form" | "tokensMax" | "isWhole">,
  ): SeatRun | UpstreamFailure {
    const nowMs = this.#clock.monoMs();
    this.#breaker = breakerAt(this.#breaker, nowMs);
    const promptTokens = promptTokensOf(request);
    const takenTokens = promptTokens + request.tokensMax;
    if (!mayGo(this.#breaker)) {
      const why = this.#breaker.state === "closed" ? "" : this.#breaker.why;
      const waitMs = this.#breaker.state === "open" ? Math.ceil(this.#breaker.untilMs - nowMs) : 1_000;
      return refusal("overloaded", `it is left alone for ${waitMs} ms after failures (${why})`, waitMs);
    }
    const waitMs = this.#rates.waitMs(takenTokens, nowMs);
    if (waitMs === null) {
      const message = `the request may use ${takenTokens} tokens, and its limit is ${this.spec.tokensPerMinuteMax ?? 0} a minute`;
      return refusal("rejected", message, null);
    }
    if (waitMs > 0) return refusal("rate-limited", `its limits let nothing through for ${waitMs} ms`, waitMs);
    this.#breaker = afterStart(this.#breaker);
    return this.#begun(model, { promptTokens, takenTokens, isProbe: false, isWhole: request.isWhole ?? false });
  }

  /** As `begin`, whatever its health and limits: an operator wants to know how it answers. */
  beginProbe(model: ProviderModel, request: Pick<CloudRequest, "form" | "tokensMax">): SeatRun {
    const promptTokens = promptTokensOf(request);
    const takenTokens = promptTokens + request.tokensMax;
    return this.#begun(model, { promptTokens, takenTokens, isProbe: true, isWhole: false });
  }

  #begun(model: ProviderModel, run: Pick<SeatRun, "promptTokens" | "takenTokens" | "isProbe" | "isWhole">): SeatRun {
    const nowMs = this.#clock.monoMs();
    this.#rates.begin(run.takenTokens, nowMs);
    return { ...run, model, startedAtMs: nowMs, firstAtMs: null, lastAtMs: null, outputChars: 0 };
  }

  /** Each event of a run that `begin` let go, in order. */
  note(run: SeatRun, event: CloudEvent): void {
    switch (event.kind) {
      case "opened":
      case "choice-end":
        return;
      case "tool-call":
        this.#said(run, event.name.length);
        return;
      case "text":
      case "reasoning":
      case "tool-arguments":
        this.#said(run, event.text.length);
        return;
      case "end":
        this.#succeed(run, event.usage);
        return;
      case "failed":
        this.#fail(run, event);
        return;
    }
  }

  hear(limits: Parameters<ProviderRates["hear"]>[0]): void {
    this.#rates.hear(limits, this.#clock.monoMs());
  }

  noteOddity(what: UpstreamOddity): void {
    this.#oddities.set(what, (this.#oddities.get(what) ?? 0) + 1);
  }

  /** The caller ended it. What was said until then is paid for by whoever pays the provider. */
  cancel(run: SeatRun): void {
    this.#cancelled += 1;
    this.#breaker = run.firstAtMs === null ? afterNothing(this.#breaker) : afterSuccess(this.#breaker);
    this.#close(run, null);
  }

  #said(run: SeatRun, chars: number): void {
    run.lastAtMs = this.#clock.monoMs();
    run.firstAtMs ??= run.lastAtMs;
    run.outputChars += chars;
  }

  #succeed(run: SeatRun, usage: CloudUsage | null): void {
    const nowMs = this.#clock.monoMs();
    this.#succeeded += 1;
    this.#breaker = run.isProbe ? BREAKER_CLOSED : afterSuccess(this.#breaker);
    const outputTokens = this.#close(run, usage);
    if (run.firstAtMs === null || run.isWhole) return;
    this.#firstTokenMs.add(run.firstAtMs - run.startedAtMs);
    const seconds = (nowMs - run.firstAtMs) / 1_000;
    if (seconds > 0 && outputTokens > 1) this.#tokPerSecond.add((outputTokens - 1) / seconds);
  }

  #fail(run: SeatRun, { failure, message, retryAfterMs }: UpstreamFailure): void {
    const nowMs = this.#clock.monoMs();
    this.#failed.set(failure, (this.#failed.get(failure) ?? 0) + 1);
    const isLasting = LASTING.has(failure);
    const quietMs = nowMs - (run.lastAtMs ?? run.startedAtMs);
    const isItsOwn = AGAINST_PROVIDER.has(failure) && (failure !== "too-slow" || quietMs >= QUIET_MS_MIN);
    this.#breaker =
      isLasting || isItsOwn
        ? afterFailure(this.#breaker, { why: message, isLasting, nowMs })
        : afterNothing(this.#breaker);
    if (failure === "rate-limited") this.#rates.block(retryAfterMs ?? RATE_LIMITED_MS, nowMs);
    else if (retryAfterMs !== null) this.#rates.block(retryAfterMs, nowMs);
    if (failure === "unknown-model") this.#missing.set(run.model.modelId, nowMs + MISSING_MODEL_MS);
    this.#close(run, null);
  }

  /** Answers how many tokens came. */
  #close(run: SeatRun, usage: CloudUsage | null): number {
    const hasBegun = run.firstAtMs !== null;
    const promptTokens = usage?.promptTokens ?? (hasBegun ? run.promptTokens : 0);
    const outputTokens = usage?.completionTokens ?? Math.ceil(run.outputChars / CHARS_PER_TOKEN);
    this.#rates.end({ taken: run.takenTokens, used: promptTokens + outputTokens }, this.#clock.monoMs());
    this.#promptTokens += promptTokens;
    this.#outputTokens += outputTokens;
    this.#cost = addUsd(this.#cost, costOf(run.model.cost, { promptTokens, outputTokens }));
    return outputTokens;
  }
}

/** What a provider's tokens cost us, rounded up for each kind. */
export function costOf(cost: TokenPrice, tokens: { promptTokens: number; outputTokens: number }): MicroUsd {
  return addUsd(
    priced({ tokens: tokens.promptTokens, microUsdPerMtok: cost.inputMicroUsdPerMtok, round: "up" }),
    priced({ tokens: tokens.outputTokens, microUsdPerMtok: cost.outputMicroUsdPerMtok, round: "up" }),
  );
}

/** A guess, for rates only: nobody is charged by it. */
function promptTokensOf({ form }: Pick<CloudRequest, "form">): number {
  const chars = form.kind === "raw" ? form.prompt.length : JSON.stringify(form.body["messages"] ?? "").length;
  return Math.ceil(chars / CHARS_PER_TOKEN);
}

function refusal(failure: CloudFailure, message: string, retryAfterMs: number | null): UpstreamFailure {
  return { failure, message, retryAfterMs };
}
