/** The plan of a response: its chat, written as a response, and kept unless the caller does not want it kept. */
import { describeFault, FallowError } from "../../../domain/fault.ts";
import { ID_PATTERNS, responseId } from "../../../domain/ids.ts";
import { type Outcome, ok, refuse } from "../../../domain/refusal.ts";
import type { ResponseObject } from "../../../wire/openai/response-object.ts";
import type { ResponseRequest } from "../../../wire/openai/response-request.ts";
import type { Exchange } from "../exchange.ts";
import type { GatewayState } from "../gateway-state.ts";
import type { CloudModel } from "../legs/cloud-model.ts";
import { tokenCounter } from "../legs/count-tokens.ts";
import type { GenerationPlan } from "../plans/generation-plan.ts";
import type { PlanSources } from "../plans/plan-chat.ts";
import type { PreparedModel } from "../plans/prepared-model.ts";
import { keptItems } from "./input-items.ts";
import { responseIdOf } from "./item-ids.ts";
import { planResponseChat } from "./plan-response-chat.ts";
import { RESPONSE_BOUNDS } from "./response-bounds.ts";
import { ResponseFormat } from "./response-format.ts";
import { responseHead } from "./response-head.ts";
import type { HistoryReader } from "./response-history.ts";
import { ResponseOutput } from "./response-output.ts";

export interface ResponsePlanning {
  readonly state: GatewayState;
  readonly exchange: Exchange;
  readonly sources: PlanSources;
  readonly reader: HistoryReader;
}

export async function planResponse(
  body: ResponseRequest,
  model: PreparedModel | CloudModel,
  planning: ResponsePlanning,
): Promise<Outcome<GenerationPlan>> {
  const planned = await planResponseChat(body, model, planning);
  if (!planned.ok) return planned;
  const { plan, input } = planned.value;
  const id = responseIdOf(planning.exchange.requestId);
  const inputJson = JSON.stringify(keptItems(id, input));
  const { responseCharsMax } = RESPONSE_BOUNDS;
  const isTooLarge = inputJson.length > responseCharsMax;
  if (isTooLarge && body.store === true) {
    const message = `the input has ${inputJson.length} characters; a response is kept with at most ${responseCharsMax}: send store: false`;
    return refuse("invalid-request", message, { param: "store" });
  }
  const { clock } = planning.state.deps;
  return ok({
    ...plan,
    format: (head) =>
      new ResponseFormat({
        head: responseHead(body, head, id),
        output: new ResponseOutput({ responseId: id, makeCallId: planning.sources.makeCallId }),
        wallSeconds: () => Math.floor(clock.wallMs() / 1000),
        countTokens: tokenCounter(model.tokenizer),
        store: body.store === false || isTooLarge ? null : keeper(planning, inputJson),
      }),
  });
}

/** False when it is too large or the storage failed: the answer is delivered all the same, as it is paid for. */
function keeper({ state, exchange, reader }: ResponsePlanning, inputJson: string) {
  return async (body: ResponseObject): Promise<boolean> => {
    const bodyJson = JSON.stringify(body);
    if (inputJson.length + bodyJson.length > RESPONSE_BOUNDS.responseCharsMax) return false;
    const { store, clock, log } = state.deps;
    const nowMs = Math.floor(clock.wallMs());
    const previous = body.previous_response_id;
    const response = {
      responseId: responseIdOf(exchange.requestId),
      tenantId: reader.tenantId,
      previousId: previous !== null && ID_PATTERNS.response.test(previous) ? responseId(previous) : null,
      createdAtMs: exchange.createdAtMs,
      expiresAtMs: nowMs + RESPONSE_BOUNDS.keptMs,
      inputJson,
      bodyJson,
    };
    const { tenantResponsesMax, tenantCharsMax } = RESPONSE_BOUNDS;
    try {
      await store.responses.put(response, { responsesMax: tenantResponsesMax, charsMax: tenantCharsMax });
      return true;
    } catch (thrown) {
      if (!(thrown instanceof FallowError)) throw thrown;
      log.error({ requestId: exchange.requestId, cause: describeFault(thrown) }, "response not kept");
      return false;
    }
  };
}
