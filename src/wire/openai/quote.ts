/** `POST /v1/grid/quote`: what a request would cost, when it would start and where, without running it. */
import { z } from "zod";
import { SERVICE_TIERS } from "../../domain/tier.ts";

export const quoteRequestSchema = z.strictObject({
  endpoint: z
    .string()
    .max(64)
    .nullish()
    .describe("Path of the route that the body is for; /v1/chat/completions when absent."),
  body: z.record(z.string(), z.unknown()).describe("As the route takes it."),
});

const usd = z.string().describe("USD, as a decimal.");
const count = z.int().min(0);
const pricing = z.object({ prompt: usd, completion: usd }).describe("USD for one token.");
const refusal = z.object({ code: z.string(), message: z.string(), retry_after_ms: z.number().nullable() });

export const tierQuoteSchema = z.object({
  service_tier: z.enum(SERVICE_TIERS),
  promise: z.string(),
  is_requested: z.boolean().describe("The tier that the body asks for."),
  can_run: z.boolean(),
  refusal: refusal
    .nullable()
    .describe("What the request would be answered if it were sent; null when it would be taken."),
  pricing: pricing.nullable().describe("Where it would run first."),
  expected_cost_usd: usd.nullable().describe("By how much of the allowed tokens answers of this model usually use."),
  max_cost_usd: usd.nullable().describe("What would be held: the charge is never above it."),
  eta_ms: z.number().nullable().describe("Until the first token where it would run first, as far as is known."),
  queue_position: count.nullable().describe("Requests of this model that the grid serves before it."),
  candidates: z.array(z.object({ provider: z.string(), pricing, max_cost_usd: usd, eta_ms: z.number().nullable() })),
  forbidden: z.array(
    z.object({ provider: z.string(), rule: z.string(), why: z.string(), retry_after_ms: z.number().nullable() }),
  ),
});
export type TierQuote = z.infer<typeof tierQuoteSchema>;

export const quoteSchema = z.object({
  object: z.literal("grid.quote"),
  created: z.int(),
  endpoint: z.string(),
  model: z.string(),
  tokens: z.object({
    prompt: count,
    completion_max: count.describe("Of all choices together."),
    completion_expected: count.nullable(),
    choices: count,
  }),
  tiers: z.array(tierQuoteSchema),
  nodes: z
    .array(
      z.object({
        node_class: z.string(),
        region: z.string().nullable(),
        nodes: count,
        ready_replicas: count,
        obstacle: z.string().nullable().describe("Why it cannot run there; null when it could."),
      }),
    )
    .describe("Of the grid, for the tier that the body asks for."),
});
export type Quote = z.infer<typeof quoteSchema>;
