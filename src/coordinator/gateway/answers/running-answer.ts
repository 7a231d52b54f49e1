/**
 * An answer with the money that is held for it. It ends once, whoever comes first: settled in full, settled for what was
 * delivered, or voided.
 */
import { describeFault, FallowError } from "../../../domain/fault.ts";
import type { Sha256Hex } from "../../../domain/ids.ts";
import { type Refusal, refuse } from "../../../domain/refusal.ts";
import type { SettledCloudPart } from "../../../market/settle.ts";
import type { IdempotencyRecord } from "../../../ports/store.ts";
import type { RouteDecision } from "../../../scheduler/tiers/route-question.ts";
import type { Usage } from "../../../wire/openai/responses.ts";
import type { BegunHold } from "../callers/holds.ts";
import { type IdempotentRun, keepAnswer } from "../callers/idempotency.ts";
import type { RateLimiter } from "../callers/rate-limiter.ts";
import { faultRefusal } from "../fault-refusal.ts";
import type { GatewayMetrics } from "../gateway-metrics.ts";
import type { GatewayDeps, GatewayOptions } from "../gateway-options.ts";
import { wordsOf } from "../legs/leg-source.ts";
import { settledParts } from "../legs/settle-parts.ts";
import { partsOfUsage } from "../legs/usage-parts.ts";
import type { GenerationPlan, RequestTicket } from "../plans/generation-plan.ts";
import type { Settled } from "../settlement-port.ts";
import type { Answer, ChoiceMeter, GoneCause } from "./answer.ts";
import { type Charge, chargeFor } from "./charge.ts";
import { beginningHeaders, type EndFacts, energyOf } from "./grid-headers.ts";

export interface GenerationRunner {
  readonly options: GatewayOptions;
  readonly deps: GatewayDeps;
  readonly metrics: GatewayMetrics;
  readonly limiter: RateLimiter;
}

export interface RunContext {
  /** For metrics. */
  readonly route: string;
  readonly ticket: RequestTicket;
  readonly plan: GenerationPlan;
  readonly signal: AbortSignal;
  readonly startedMonoMs: number;
  /** Where it may run; null: nothing had to be decided, and the grid alone runs it. */
  readonly decision: RouteDecision | null;
  /** Ends the client's connection; null where there is none. */
  readonly cut: (() => void) | null;
  readonly idempotent: IdempotentRun | null;
  /** May still be on its way when the run begins. */
  readonly held: BegunHold;
  /** Called once, when nothing of the request runs any more. */
  readonly onOver: () => void;
}

/** What the end of an answer carries. */
export interface Ending extends EndFacts {
  readonly usage: Usage;
}

export type Ended = { readonly ok: true; readonly ending: Ending } | { readonly ok: false; readonly reason: Refusal };

export class RunningAnswer {
  readonly runner: GenerationRunner;
  readonly context: RunContext;
  readonly answer: Answer;
  readonly #seedSha256: Sha256Hex;
  #hasEnded = false;

  constructor(options: { runner: GenerationRunner; context: RunContext; answer: Answer; seedSha256: Sha256Hex }) {
    this.runner = options.runner;
    this.context = options.context;
    this.answer = options.answer;
    this.#seedSha256 = options.seedSha256;
  }

  headers(): Readonly<Record<string, string>> {
    const { firstNodeId: nodeId, firstProviderId: providerId, queuedMs } = this.answer;
    return beginningHeaders(this.runner.deps, { tier: this.context.plan.tier, nodeId, providerId, queuedMs });
  }

  /** Charges the whole answer and writes its receipt. Refuses when it was ended before, or settlement itself failed. */
  async settle(): Promise<Ended> {
    if (!this.#claim()) return { ok: false, reason: refuse("cancelled", "the request has ended").reason };
    return await this.#settle();
  }

  /** Nothing was delivered, or not as promised: everything held is given back. */
  async void(): Promise<void> {
    if (this.#claim()) await this.#void();
  }

  /** Keeps the settled answer for replays. */
  async keep(record: IdempotencyRecord): Promise<void> {
    const { idempotent, ticket } = this.context;
    await keepAnswer(idempotent, record, { log: this.runner.deps.log, requestId: ticket.requestId });
  }

  /** There is no money for it, or something failed here: ends what has begun. */
  async abandon(): Promise<void> {
    if (!this.#claim()) return;
    this.answer.cancel("closed");
    await this.#void();
  }

  /** It pays for what was written to it; a body that was never sent whole was not delivered. */
  clientGone(cause: GoneCause): void {
    if (!this.#claim()) return;
    this.runner.metrics.clientsGone.inc({ cause });
    // It still holds its connection; one that closed has none to end.
    if (cause === "stalled") this.context.cut?.();
    const { log } = this.runner.deps;
    const { requestId } = this.context.ticket;
    this.#endGone().catch((thrown: unknown) => {
      // Whatever it is, nobody waits for this answer: the log is the only place left to tell it.
      log.error({ requestId, cause: describeFault(thrown) }, "abandoned answer not settled");
    });
  }

  async #endGone(): Promise<void> {
    await this.#holdOver();
    const meters = await this.answer.meters();
    const isDelivered = this.context.plan.isStream && meters.some(isTaken);
    if (!isDelivered) return await this.#void();
    await this.context.idempotent?.forget();
    await this.#settle();
  }

  async #settle(): Promise<Ended> {
    const { deps, metrics } = this.runner;
    const { plan, ticket } = this.context;
    let usedTokens = 0;
    try {
      const { isCovered, outcome } = this.context.held;
      // A covered one may not be written yet: it goes to the disk before its settlement, which is refused where it could not.
      const held = isCovered ? null : await outcome;
      if (held?.ok === false) {
        await this.context.idempotent?.forget();
        return held;
      }
      const meters = await this.answer.meters();
      const cloudParts = await this.#cloudParts(meters);
      const charge = chargeFor(meters, { crypto: deps.crypto, unfinished: "cancelled", cloudParts });
      // Where a provider began, the prompt is as long as it was counted there.
      const promptTokens = cloudParts.find((part) => part.promptTokens > 0)?.promptTokens ?? plan.promptTokens;
      const settled = await this.#post(charge, { promptTokens, cloudParts });
      usedTokens = promptTokens + charge.outputTokens;
      metrics.tokens.inc({ direction: "prompt" }, promptTokens);
      metrics.tokens.inc({ direction: "output" }, charge.outputTokens);
      const usage = usageOf(promptTokens, charge.outputTokens, settled);
      const grid = partsOfUsage({ promptTokens, outputTokens: charge.outputTokens, cloudParts });
      const receipt = plan.preferences.wantsReceipt ? await deps.settlement.signedReceipt(settled.receiptId) : null;
      const energyMilliJoules = cloudParts.length === 0 ? energyOf(charge.attempts) : null;
      const facts = { settled, energyMilliJoules, receipt };
      return { ok: true, ending: { ...facts, usage: grid === null ? usage : { ...usage, grid } } };
    } catch (thrown) {
      const { requestId } = ticket;
      deps.log.error({ requestId, cause: describeFault(thrown) }, "settlement failed");
      await deps.settlement.voidHold(requestId);
      await this.context.idempotent?.forget();
      if (!(thrown instanceof FallowError)) throw thrown;
      return { ok: false, reason: unsettled(thrown, requestId) };
    } finally {
      this.#over(usedTokens);
    }
  }

  async #void(): Promise<void> {
    try {
      await this.#holdOver();
      await this.answer.meters();
      await this.runner.deps.settlement.voidHold(this.context.ticket.requestId);
      await this.context.idempotent?.forget();
    } finally {
      this.#over(0);
    }
  }

  /**
   * A hold that failed or was refused holds nothing, and voiding it changes nothing; only its end has to be awaited. That of a covered one
   * need not be: whatever is written for it later comes after it.
   */
  async #holdOver(): Promise<void> {
    if (!this.context.held.isCovered) await this.context.held.outcome.catch(() => undefined);
  }

  async #cloudParts(meters: readonly ChoiceMeter[]): Promise<readonly SettledCloudPart[]> {
    const used = meters.flatMap(({ cloudParts }) => cloudParts ?? []);
    if (used.length === 0) return NO_PARTS;
    const { plan, ticket } = this.context;
    const { deps, metrics } = this.runner;
    const [first] = plan.choices;
    const parts = await settledParts(used, {
      ...deps,
      requestId: ticket.requestId,
      metrics: metrics.legs,
      words: wordsOf(plan),
      promptTokens: plan.promptTokens,
      hasOnePrompt: plan.choices.every(({ promptTokenIds }) => promptTokenIds === first?.promptTokenIds),
    });
    for (const { providerId: provider, promptTokens, outputTokens } of parts) {
      metrics.legs.cloudTokens.inc({ provider, direction: "prompt" }, promptTokens);
      metrics.legs.cloudTokens.inc({ provider, direction: "output" }, outputTokens);
    }
    return parts;
  }

  async #post(
    charge: Charge,
    { promptTokens, cloudParts }: { promptTokens: number; cloudParts: readonly SettledCloudPart[] },
  ): Promise<Settled> {
    const { plan, ticket } = this.context;
    return await this.runner.deps.settlement.settle({
      requestId: ticket.requestId,
      tenantId: ticket.key.tenantId,
      keyId: ticket.key.keyId,
      model: plan.model.manifest,
      tier: plan.tier,
      price: ticket.price,
      requestSha256: ticket.requestSha256,
      seedSha256: this.#seedSha256,
      promptTokens,
      choices: charge.choices,
      attempts: charge.attempts,
      ...(cloudParts.length === 0 ? {} : { cloudParts }),
      createdAtMs: ticket.createdAtMs,
    });
  }

  #claim(): boolean {
    const isFirst = !this.#hasEnded;
    this.#hasEnded = true;
    return isFirst;
  }

  /** The allowance that was taken for the largest possible answer, less what it used, is given back. */
  #over(usedTokens: number): void {
    const { plan, ticket, onOver } = this.context;
    this.runner.limiter.giveBackTokens(ticket.key, Math.max(0, mostTokens(plan) - usedTokens));
    onOver();
  }
}

const NO_PARTS: readonly SettledCloudPart[] = [];

function isTaken({ tokenIds, cloudParts = [] }: ChoiceMeter): boolean {
  return tokenIds.length > 0 || cloudParts.some(({ text }) => text !== "");
}

/** A full disk is told as such: waiting helps. */
function unsettled(fault: FallowError, requestId: string): Refusal {
  const told = faultRefusal(fault, requestId);
  if (told.code === "storage-unavailable") return told;
  return refuse("internal", `the answer of ${requestId} could not be settled, so it is not charged`).reason;
}

/** What a request may use at most. */
export function mostTokens(plan: GenerationPlan): number {
  return plan.promptTokens + plan.tokensMax * plan.choices.length;
}

function usageOf(promptTokens: number, outputTokens: number, settled: Settled): Usage {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: outputTokens,
    total_tokens: promptTokens + outputTokens,
    cost: settled.costMicroUsd / 1_000_000,
  };
}
