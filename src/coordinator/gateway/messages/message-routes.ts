/** Anthropic's `/v1/messages` and `/v1/messages/count_tokens`, served as chats. */
import type { Hono } from "hono";
import { ok } from "../../../domain/refusal.ts";
import { countTokensRequestSchema, messageRequestSchema } from "../../../wire/anthropic/message-request.ts";
import { addCountRoute } from "../count-route.ts";
import type { GatewayState } from "../gateway-state.ts";
import { addRoute, callId, generationRoute } from "../inference-routes.ts";
import { anthropicErrors } from "./message-errors.ts";
import { MessageFormat } from "./message-format.ts";
import { planMessageChat } from "./plan-message.ts";

const PATH = "/v1/messages";

export function addMessageRoutes(app: Hono, state: GatewayState): void {
  const errors = anthropicErrors((request) => state.exchanges.ofRequest(request).requestId);
  // Matches the path without an ending, too.
  app.use(`${PATH}/*`, errors);
  const makeCallId = () => callId(state).replace(/^call_/, "toolu_");
  addRoute(app, state, {
    path: PATH,
    schema: messageRequestSchema,
    plan: async (body, model, { exchange, asked }) => {
      const planned = await planMessageChat(body, model, { wallMs: exchange.createdAtMs, makeCallId, asked });
      if (!planned.ok) return planned;
      const { promptTokens } = planned.value;
      const { tokenizer } = model;
      const countTokens = async (text: string) =>
        (await tokenizer.tokenize([{ text, special: false }], { addBos: false })).length;
      const plan = {
        ...planned.value,
        format: (head: Parameters<typeof planned.value.format>[0]) =>
          new MessageFormat({ head, promptTokens, makeCallId, countTokens }),
      };
      return ok(generationRoute(state, plan, { exchange, route: PATH }));
    },
  });
  addCountRoute(app, state, {
    path: `${PATH}/count_tokens`,
    schema: countTokensRequestSchema,
    count: async (body, model, { exchange, asked }) => {
      const planned = await planMessageChat(body, model, { wallMs: exchange.createdAtMs, makeCallId, asked });
      return planned.ok ? ok({ input_tokens: planned.value.promptTokens }) : planned;
    },
  });
}
