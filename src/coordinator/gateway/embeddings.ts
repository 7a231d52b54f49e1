/** `/v1/embeddings`: tokenise, hold, one call to dispatch, settle. */
import { assert } from "../../domain/assert.ts";
import { type Outcome, ok, refuse } from "../../domain/refusal.ts";
import { toBase64 } from "../../market/hex.ts";
import { LINK_FRAME_BYTES_MAX } from "../../ports/link.ts";
import { vectorsPerFrame } from "../../wire/embedding-frame.ts";
import type { EmbeddingRequest } from "../../wire/openai/embedding-request.ts";
import type { EmbeddingList } from "../../wire/openai/responses.ts";
import { tokensSha256 } from "./answers/charge.ts";
import { beginningHeaders, endHeaders, energyOf, withReceipt } from "./answers/grid-headers.ts";
import { termsOf } from "./answers/run-generation.ts";
import type { GenerationRunner } from "./answers/running-answer.ts";
import { type IdempotentRun, keepAnswer, keptHeaders } from "./callers/idempotency.ts";
import { errorResponse } from "./error-table.ts";
import type { AskedTerms } from "./plans/asked-terms.ts";
import type { RequestTicket } from "./plans/generation-plan.ts";
import type { PreparedModel } from "./plans/prepared-model.ts";
import { seedCommitment } from "./plans/seeds.ts";
import { inputTokens } from "./plans/token-input.ts";

export interface EmbeddingPlan extends AskedTerms {
  readonly model: PreparedModel;
  readonly inputs: readonly (readonly number[])[];
  readonly promptTokens: number;
  readonly isBase64: boolean;
}

/** Of all inputs of a request together: bounds what one engine call holds. */
const INPUT_TOKENS_MAX = 300_000;

export async function planEmbeddings(
  body: EmbeddingRequest,
  model: PreparedModel,
  asked: AskedTerms,
): Promise<Outcome<EmbeddingPlan>> {
  const { manifest, tokenizer } = model;
  const dimensions = body.dimensions ?? null;
  if (dimensions !== null && dimensions !== manifest.embeddingLength) {
    return refuse(
      "unsupported-parameter",
      `dimensions is ${dimensions}; this model's vectors have ${manifest.embeddingLength} and are not shortened`,
      { param: "dimensions" },
    );
  }
  const inputs = await inputTokens(body.input, { tokenizer, param: "input", special: false });
  if (!inputs.ok) return inputs;
  const { embeddingLength } = manifest;
  const inputsMax = vectorsPerFrame({ bytesMax: LINK_FRAME_BYTES_MAX, embeddingLength });
  if (inputs.value.length > inputsMax) {
    const message = `${inputs.value.length} inputs; of this model, whose vectors have ${embeddingLength} numbers, a request takes at most ${inputsMax}: send them in several`;
    return refuse("invalid-request", message, { param: "input" });
  }
  const longest = Math.max(...inputs.value.map((input) => input.length));
  const over = longest - manifest.contextTokensMax;
  if (over > 0) {
    const message = `this model's context holds ${manifest.contextTokensMax} tokens; an input has ${longest}: ${over} too many`;
    return refuse("context-length-exceeded", message, { param: "input" });
  }
  const promptTokens = inputs.value.reduce((sum, input) => sum + input.length, 0);
  if (promptTokens > INPUT_TOKENS_MAX) {
    return refuse("invalid-request", `the inputs have ${promptTokens} tokens; ${INPUT_TOKENS_MAX} in all are taken`, {
      param: "input",
    });
  }
  return ok({
    model,
    inputs: inputs.value,
    promptTokens,
    ...asked,
    isBase64: body.encoding_format === "base64",
  });
}

export interface EmbeddingContext {
  readonly ticket: RequestTicket;
  readonly plan: EmbeddingPlan;
  readonly signal: AbortSignal;
  readonly idempotent: IdempotentRun | null;
}

/** The hold is taken; every path settles or voids it. */
export async function runEmbeddings(runner: GenerationRunner, context: EmbeddingContext): Promise<Response> {
  const { ticket, plan, idempotent } = context;
  const { dispatch, settlement, crypto } = runner.deps;
  const { manifest } = plan.model;
  const terms = termsOf(runner.options, plan, ticket);
  let isSettled = false;
  try {
    const outcome = await dispatch.embed({ terms, inputs: plan.inputs }, context.signal);
    if (!outcome.ok) return errorResponse(outcome.reason);
    assert(outcome.vectors.length === plan.inputs.length, "there is one vector for each input");
    const settled = await settlement.settle({
      requestId: ticket.requestId,
      tenantId: ticket.key.tenantId,
      keyId: ticket.key.keyId,
      model: manifest,
      tier: plan.tier,
      price: ticket.price,
      requestSha256: ticket.requestSha256,
      seedSha256: seedCommitment(crypto, []),
      promptTokens: plan.promptTokens,
      choices: [{ outputTokens: 0, outputSha256: tokensSha256(crypto, []), finishReason: "stop" }],
      attempts: outcome.attempts,
      createdAtMs: ticket.createdAtMs,
    });
    isSettled = true;
    runner.metrics.tokens.inc({ direction: "prompt" }, plan.promptTokens);
    const { wantsReceipt } = plan.preferences;
    const receipt = wantsReceipt ? await settlement.signedReceipt(settled.receiptId) : null;
    const body = withReceipt(JSON.stringify(listOf(outcome.vectors, plan)), receipt);
    const headers = new Headers({
      "content-type": "application/json",
      ...beginningHeaders(runner.deps, {
        tier: plan.tier,
        nodeId: outcome.nodeId,
        providerId: null,
        queuedMs: null,
      }),
      ...endHeaders({ settled, energyMilliJoules: energyOf(outcome.attempts), receipt }),
    });
    const told = { log: runner.deps.log, requestId: ticket.requestId };
    await keepAnswer(idempotent, { status: 200, headersJson: keptHeaders(headers), body }, told);
    return new Response(body, { status: 200, headers });
  } finally {
    if (!isSettled) {
      await settlement.voidHold(ticket.requestId);
      await idempotent?.forget();
      runner.limiter.giveBackTokens(ticket.key, plan.promptTokens);
    }
  }
}

function listOf(vectors: readonly Float32Array[], plan: EmbeddingPlan): EmbeddingList {
  return {
    object: "list",
    model: plan.model.manifest.modelId,
    data: vectors.map((vector, index) => ({
      object: "embedding",
      index,
      embedding: plan.isBase64 ? base64Floats(vector) : [...vector],
    })),
    usage: { prompt_tokens: plan.promptTokens, total_tokens: plan.promptTokens },
  };
}

function base64Floats(vector: Float32Array): string {
  const bytes = new Uint8Array(vector.length * 4);
  const view = new DataView(bytes.buffer);
  for (const [index, value] of vector.entries()) view.setFloat32(index * 4, value, true);
  return toBase64(bytes);
}
