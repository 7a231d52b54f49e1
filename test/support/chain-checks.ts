/** What must hold of streams over a chain, whatever happened to its nodes. */
import { expect } from "vitest";
import { z } from "zod";
import type { ChainGrid } from "./chain-grid.ts";
import type { ReadStream } from "./chain-streams.ts";

/** Text, count, ending and charge are those of the undisturbed whole model. */
export function expectSameStreams(streams: readonly ReadStream[], whole: readonly ReadStream[]): void {
  expect(streams.map(({ error }) => error)).toEqual(whole.map(() => null));
  expect(streams.map(({ text }) => text)).toEqual(whole.map(({ text }) => text));
  expect(streams.map(told)).toEqual(whole.map(told));
}

function told({ completionTokens, finishReason, costUsd, atMs }: ReadStream) {
  return { completionTokens, finishReason, costUsd, tokensSeen: atMs.length };
}

const receiptSchema = z.object({
  body: z.object({
    requestId: z.string(),
    choices: z.array(z.object({ outputTokens: z.number() })),
    attempts: z.array(z.object({ nodeId: z.string(), ending: z.string(), acknowledgedTokens: z.number() })),
  }),
});
export type ChainReceipt = z.infer<typeof receiptSchema>["body"];

export async function receiptOf(chains: ChainGrid, { requestId }: ReadStream): Promise<ChainReceipt> {
  return (await chains.json(`/v1/grid/receipts/${requestId}`, receiptSchema)).body;
}

/** One charge for each request that was ever asked here, and nothing held: what was charged is what the answers said. */
export async function expectOneChargeEach(chains: ChainGrid, answered: readonly ReadStream[]): Promise<void> {
  const usage = await chains.json(
    "/v1/grid/usage",
    z.object({ data: z.array(z.object({ requests: z.number(), completion_tokens: z.number() })) }),
  );
  expect(usage.data.reduce((sum, row) => sum + row.requests, 0)).toBe(answered.length);
  expect(usage.data.reduce((sum, row) => sum + row.completion_tokens, 0)).toBe(
    answered.reduce((sum, { completionTokens }) => sum + (completionTokens ?? 0), 0),
  );
  const check = z.object({ isBalanced: z.boolean(), openHolds: z.number() });
  expect(await chains.json("/admin/v1/ledger/check", check)).toMatchObject({ isBalanced: true, openHolds: 0 });
}
