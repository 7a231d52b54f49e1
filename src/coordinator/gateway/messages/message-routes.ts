/** Anthropic's `/v1/messages` and `/v1/messages/count_tokens`, served as chats. */
import type { Hono } from "hono";
import { ok } from "../../../domain/refusal.ts";
import {
  countTokensRequestSchema,
  type MessageRequest,
  messageRequestSchema,
} from "../../../wire/anthropic/message-request.ts";
import type { GatewayState } from "../gateway-state.ts";
import { addRoute, callId, generationRoute, type RouteMore } from "../inference-routes.ts";
import type { CloudModel } from "../legs/cloud-model.ts";
import { tokenCounter } from "../legs/count-tokens.ts";
import type { AnswerHead } from "../plans/generation-plan.ts";
import type { PreparedModel } from "../plans/prepared-model.ts";
import { addCountRoute } from "../routes/count-route.ts";
import { anthropicErrors } from "./message-errors.ts";
import { MessageFormat } from "./message-format.ts";
import { planMessageChat } from "./plan-message.ts";

const PATH = "/v1/messages";

export function addMessageRoutes(app: Hono, state: GatewayState): void {
  const errors = anthropicErrors((request) => state.exchanges.ofRequest(request).requestId);
  // Matches the path without an ending, too.
  app.use(`${PATH}/*`, errors);
  const makeCallId = () => callId(state).replace(/^call_/, "toolu_");
  const plan = async (body: MessageRequest, model: PreparedModel | CloudModel, { exchange, asked }: RouteMore) => {
    const planned = await planMessageChat(body, model, { wallMs: exchange.createdAtMs, makeCallId, asked });
    if (!planned.ok) return planned;
    const { plan: chat, isContextBound } = planned.value;
    const { promptTokensLikely, promptTokens } = chat;
    const countTokens = tokenCounter(model.tokenizer);
    const written = {
      ...chat,
      format: (head: AnswerHead) =>
        new MessageFormat({
          head,
          promptTokens: promptTokensLikely ?? promptTokens,
          isContextBound,
          makeCallId,
          countTokens,
        }),
    };
    return ok(generationRoute(state, written, { exchange, route: PATH }));
  };
  addRoute(app, state, { path: PATH, schema: messageRequestSchema, plan, planCloud: plan });
  addCountRoute(app, state, {
    path: `${PATH}/count_tokens`,
    schema: countTokensRequestSchema,
    count: async (body, model, { exchange, asked }) => {
      const planned = await planMessageChat(body, model, { wallMs: exchange.createdAtMs, makeCallId, asked });
      return planned.ok ? ok({ input_tokens: planned.value.plan.promptTokens }) : planned;
    },
  });
}
