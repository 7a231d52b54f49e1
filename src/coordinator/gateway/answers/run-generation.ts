/**
 * Runs a planned request: hold, dispatch, answer, settle. An answer says how it ended only after its charge is on disk.
 *
 * | ending                         | tenant pays              | client sees                                     |
 * | ------------------------------ | ------------------------ | ----------------------------------------------- |
 * | answered                       | prompt and output        | the answer, usage, receipt                      |
 * | refused before the first token | nothing                  | an error with its status                        |
 * | failed in mid-stream           | nothing                  | an error event; no `[DONE]`                     |
 * | failed, not a stream           | nothing                  | an error with its status                        |
 * | client gone                    | what was written to it   | –                                               |
 * | settlement failed              | nothing, or what is kept | an error in place of the end                    |
 */
import type { RequestTerms } from "../../../domain/generation.ts";
import type { ModelManifest } from "../../../domain/model.ts";
import { type Refusal, refuse } from "../../../domain/refusal.ts";
import { toHex } from "../../../market/hex.ts";
import { keptHeaders } from "../callers/idempotency.ts";
import { errorResponse } from "../error-table.ts";
import { faultRefusal } from "../fault-refusal.ts";
import { withCloudHint } from "../legs/cloud-hint.ts";
import { constraintsOf } from "../legs/decide-route.ts";
import { sourceFor } from "../legs/leg-source.ts";
import type { GenerationPlan, RequestTicket } from "../plans/generation-plan.ts";
import { cacheScopeOf, seedCommitment, seedOf } from "../plans/seeds.ts";
import { timeBounds } from "../plans/time-bounds.ts";
import { Answer } from "./answer.ts";
import type { AnswerFormat } from "./answer-format.ts";
import { endHeaders, withReceipt } from "./grid-headers.ts";
import { type GenerationRunner, type RunContext, RunningAnswer } from "./running-answer.ts";
import { streamAnswer } from "./stream-answer.ts";

/** The hold is taken, or on its way; from here every path settles or voids it, and calls `onOver`. */
export async function runGeneration(runner: GenerationRunner, context: RunContext): Promise<Response> {
  const { plan, ticket, signal } = context;
  const { clock, crypto, cloud = null } = runner.deps;
  const source = { crypto, secret: runner.options.seedSecret };
  const { requestId, key } = ticket;
  const seeds = plan.choices.map((_, choice) =>
    seedOf(source, { requestId, tenantId: key.tenantId, seed: plan.seed, choice }),
  );
  const terms = termsOf(runner.options, plan, ticket);
  const { clientStallMsMax } = runner.options;
  const cacheScope = cacheScopeOf(source, key.tenantId);
  const { decision } = context;
  const legs = sourceFor({ plan, terms, decision }, { ...runner.deps, cloud, metrics: runner.metrics.legs });
  const answer = new Answer({ clock, source: legs, plan, terms, seeds, cacheScope, clientStallMsMax });
  const run = new RunningAnswer({ runner, context, answer, seedSha256: seedCommitment(crypto, seeds) });
  const leave = () => answer.cancel("closed");
  signal.addEventListener("abort", leave, { once: true });
  try {
    return await answered(run, leave);
  } catch (thrown) {
    await run.abandon();
    throw thrown;
  }
}

async function answered(run: RunningAnswer, leave: () => void): Promise<Response> {
  const { runner, context, answer } = run;
  const { plan, ticket, signal } = context;
  const { clock, models } = runner.deps;
  answer.start({ onGone: (cause) => run.clientGone(cause) });
  if (signal.aborted) leave();
  const held = await heldOrEnded(run);
  if (held !== null) return errorResponse(held);
  const refused = await answer.begun();
  if (answer.isGone) return errorResponse(CLIENT_GONE);
  runner.metrics.firstTokenSeconds.observe((clock.monoMs() - context.startedMonoMs) / 1000);
  if (refused !== null) {
    await run.void();
    return errorResponse(withCloudHint(refused, { runner, plan }));
  }
  const { manifest } = plan.model;
  const format = plan.format({
    requestId: ticket.requestId,
    createdAtMs: ticket.createdAtMs,
    modelId: manifest.modelId,
    tier: plan.tier,
    systemFingerprint: fingerprint(
      runner,
      answer.firstProviderId ?? models.numericClass(manifest.modelId) ?? manifest.weightsSha256,
    ),
    hasUsageChunk: plan.hasUsageChunk,
  });
  return plan.isStream ? streamAnswer(run, format) : await wholeAnswer(run, format);
}

/**
 * Nothing goes out before the money is held, or surely will be. The first token is usually later than that. A hold that
 * fails after all ends the answer in an error.
 */
async function heldOrEnded(run: RunningAnswer): Promise<Refusal | null> {
  const { outcome, isCovered } = run.context.held;
  if (isCovered) {
    outcome.then(
      (held) => (held.ok ? undefined : run.answer.fail(held.reason)),
      (thrown: unknown) => run.answer.fail(faultRefusal(thrown, run.context.ticket.requestId)),
    );
    return null;
  }
  try {
    const held = await outcome;
    if (held.ok) return null;
    await run.abandon();
    return held.reason;
  } catch (thrown) {
    await run.abandon();
    throw thrown;
  }
}

const CLIENT_GONE = refuse("cancelled", "the client closed the request").reason;

/** What the terms are made from, of a generation or an embedding. */
export type TermPlan = Pick<GenerationPlan, "tier" | "preferences"> & {
  readonly model: { readonly manifest: Pick<ModelManifest, "modelId" | "weightsSha256"> };
};

/** What dispatch is told of every choice. */
export function termsOf(
  options: Parameters<typeof timeBounds>[0],
  plan: TermPlan,
  ticket: Pick<RequestTicket, "requestId" | "requestSha256" | "key" | "price">,
): RequestTerms {
  const { manifest } = plan.model;
  const constraints = constraintsOf(plan.preferences);
  return {
    requestId: ticket.requestId,
    tenantId: ticket.key.tenantId,
    requestSha256: ticket.requestSha256,
    modelId: manifest.modelId,
    weightsSha256: manifest.weightsSha256,
    tier: plan.tier,
    price: ticket.price,
    ...timeBounds(options, plan),
    ...(constraints === undefined ? {} : { constraints }),
  };
}

/** Short for the numeric class: where it is the same, a seed repeats its text exactly. */
function fingerprint(runner: GenerationRunner, numericClass: string): string {
  return `fp_${toHex(runner.deps.crypto.sha256(new TextEncoder().encode(numericClass))).slice(0, 12)}`;
}

async function wholeAnswer(run: RunningAnswer, format: AnswerFormat): Promise<Response> {
  for (;;) {
    const pulled = await run.answer.pull();
    if (pulled.kind === "outputs") {
      for (const output of pulled.outputs) format.collect(output);
      continue;
    }
    if (pulled.kind === "failed") {
      await run.void();
      return errorResponse(pulled.reason);
    }
    if (run.answer.isGone) return errorResponse(CLIENT_GONE);
    const ended = await run.settle();
    if (!ended.ok) return errorResponse(ended.reason);
    const { usage, receipt } = ended.ending;
    await format.keep?.(usage);
    const body = withReceipt(format.body(usage), receipt);
    const headers = new Headers({
      "content-type": "application/json",
      ...run.headers(),
      ...endHeaders(ended.ending),
    });
    await run.keep({ status: 200, headersJson: keptHeaders(headers), body });
    return new Response(body, { status: 200, headers });
  }
}
