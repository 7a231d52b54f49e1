import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { nodeId, requestId, tenantId } from "../domain/ids.ts";
import { microUsd } from "../domain/money.ts";
import {
  AUDIT_REVENUE,
  ESCROW,
  nodeHeldAccount,
  nodePayableAccount,
  PLATFORM_REVENUE,
  ROUNDING,
  tenantAccount,
} from "./accounts.ts";
import { costOf, holdAmount } from "./hold.ts";
import { refundTransfer, releaseTransfer } from "./release.ts";
import { type MeteredAttempt, type MeteredRequest, settlementOf } from "./settle.ts";

const node = (number: number) => nodeId(`node_${number.toString(16).padStart(32, "0")}`);
const attempt = (number: number, acknowledgedTokens: number, hasFinished = false): MeteredAttempt => ({
  nodeId: node(number),
  acknowledgedTokens,
  hasFinished,
});
const tenant = tenantId(`ten_${"0".repeat(26)}`);
const request = (fields: Partial<MeteredRequest>): MeteredRequest => ({
  requestId: requestId(`req_${"0".repeat(26)}`),
  tenantId: tenant,
  heldMicroUsd: microUsd(1_000_000),
  price: { inputMicroUsdPerMtok: 1_000_000, outputMicroUsdPerMtok: 2_000_000 },
  promptTokens: 100,
  attempts: [attempt(1, 50, true)],
  atMs: 1,
  ...fields,
});
/** What each account gets (credits less debits of direct transfers and the post). */
const flows = (settled: ReturnType<typeof settlementOf>) => {
  const sum = new Map<string, number>();
  for (const transfer of settled.transfers) {
    if (transfer.kind === "void") continue;
    sum.set(transfer.creditAccountId, (sum.get(transfer.creditAccountId) ?? 0) + transfer.amountMicroUsd);
    sum.set(transfer.debitAccountId, (sum.get(transfer.debitAccountId) ?? 0) - transfer.amountMicroUsd);
  }
  return Object.fromEntries([...sum].filter(([, amount]) => amount !== 0));
};

describe("a settlement", () => {
  test("takes prompt once and output as delivered, and pays 85, 12 and 3 percent", () => {
    const settled = settlementOf(request({}));
    expect(settled.costMicroUsd).toBe(200);
    expect(flows(settled)).toEqual({
      [tenantAccount(tenant)]: -200,
      [nodeHeldAccount(node(1))]: 170,
      [PLATFORM_REVENUE]: 24,
      [AUDIT_REVENUE]: 6,
    });
    expect(settled.transfers.map((transfer) => transfer.reason)).toEqual([
      "charge",
      "node-share",
      "platform-fee",
      "audit-fee",
    ]);
  });

  test("splits the output by who delivered it, and gives the prompt to the node that finished", () => {
    const settled = settlementOf(request({ attempts: [attempt(1, 10), attempt(2, 40, true)] }));
    expect(flows(settled)).toMatchObject({ [nodeHeldAccount(node(1))]: 17, [nodeHeldAccount(node(2))]: 68 + 85 });
  });

  test("gives the prompt to the last node that delivered when none finished", () => {
    const settled = settlementOf(request({ attempts: [attempt(1, 10), attempt(2, 40), attempt(3, 0)] }));
    expect(flows(settled)).toMatchObject({ [nodeHeldAccount(node(2))]: 68 + 85 });
    expect(flows(settled)).not.toHaveProperty([nodeHeldAccount(node(3))]);
  });

  test("pays the nodes of a chain by their layers, output and prompt alike, and charges once", () => {
    const stages = [
      { nodeId: node(1), layers: 5 },
      { nodeId: node(2), layers: 3 },
      { nodeId: node(3), layers: 2 },
    ];
    const settled = settlementOf(request({ attempts: [{ ...attempt(3, 50, true), stages }] }));
    // 85 of output and 85 of prompt: 42 + 42, 25 + 25, 17 + 17; the rest of each division is rounding.
    expect(flows(settled)).toEqual({
      [tenantAccount(tenant)]: -200,
      [nodeHeldAccount(node(1))]: 84,
      [nodeHeldAccount(node(2))]: 50,
      [nodeHeldAccount(node(3))]: 34,
      [PLATFORM_REVENUE]: 24,
      [AUDIT_REVENUE]: 6,
      [ROUNDING]: 2,
    });
    expect(settled.transfers.filter(({ reason }) => reason === "charge")).toHaveLength(1);
  });

  test("pays a chain that was repaired in mid-answer by what each of its nodes took part in", () => {
    const before = [
      { nodeId: node(1), layers: 6 },
      { nodeId: node(2), layers: 6 },
    ];
    const after = [
      { nodeId: node(4), layers: 6 },
      { nodeId: node(2), layers: 6 },
    ];
    const settled = settlementOf(
      request({
        promptTokens: 0,
        attempts: [
          { ...attempt(2, 20), stages: before },
          { ...attempt(2, 80, true), stages: after },
        ],
      }),
    );
    expect(flows(settled)).toMatchObject({
      [nodeHeldAccount(node(1))]: 17,
      [nodeHeldAccount(node(2))]: 85,
      [nodeHeldAccount(node(4))]: 68,
    });
  });

  test("an attempt whose stages do not end at its node is a bug", () => {
    const stages = [
      { nodeId: node(3), layers: 1 },
      { nodeId: node(1), layers: 1 },
    ];
    expect(() => settlementOf(request({ attempts: [{ ...attempt(3, 50, true), stages }] }))).toThrow("last stage");
  });

  test("a node that came back for a second attempt has one share", () => {
    const settled = settlementOf(request({ attempts: [attempt(1, 10), attempt(2, 20), attempt(1, 20, true)] }));
    const shares = settled.transfers.filter((transfer) => transfer.reason === "node-share");
    expect(shares.map((share) => [share.creditAccountId, share.amountMicroUsd])).toEqual([
      [nodeHeldAccount(node(1)), 51 + 85],
      [nodeHeldAccount(node(2)), 34],
    ]);
  });

  test("what delivered nothing costs nothing, and the whole hold is given back", () => {
    const settled = settlementOf(request({ attempts: [attempt(1, 0), attempt(2, 0)] }));
    expect(settled.costMicroUsd).toBe(0);
    expect(settled.transfers).toMatchObject([{ kind: "void", amountMicroUsd: 1_000_000 }]);
  });

  test("an embedding has no tokens to deliver and costs its prompt when it finished", () => {
    expect(settlementOf(request({ attempts: [attempt(1, 0, true)] })).costMicroUsd).toBe(100);
  });

  test("a free model moves nothing", () => {
    const free = { inputMicroUsdPerMtok: 0, outputMicroUsdPerMtok: 0 };
    expect(settlementOf(request({ price: free, heldMicroUsd: microUsd(0) }))).toEqual({
      costMicroUsd: 0,
      transfers: [],
    });
  });

  test("a charge of one micro-USD is too small to share and goes to rounding", () => {
    const settled = settlementOf(
      request({
        promptTokens: 0,
        attempts: [attempt(1, 1, true)],
        price: { inputMicroUsdPerMtok: 0, outputMicroUsdPerMtok: 1 },
      }),
    );
    expect(flows(settled)).toEqual({ [tenantAccount(tenant)]: -1, [ROUNDING]: 1 });
  });

  test("a charge beyond the hold is a bug", () => {
    expect(() => settlementOf(request({ heldMicroUsd: microUsd(199) }))).toThrow("at most the held 199");
  });
});

test("a share is released to the same node, or refunded to the tenant, under one id", () => {
  const share = settlementOf(request({})).transfers.find((transfer) => transfer.reason === "node-share");
  if (share === undefined) throw new Error("there is a share");
  const released = releaseTransfer(share, 5);
  const refunded = refundTransfer(share, { tenantId: tenant, atMs: 5 });
  expect(released).toMatchObject({
    debitAccountId: nodeHeldAccount(node(1)),
    creditAccountId: nodePayableAccount(node(1)),
    amountMicroUsd: 170,
  });
  expect(refunded).toMatchObject({
    debitAccountId: nodeHeldAccount(node(1)),
    creditAccountId: tenantAccount(tenant),
    amountMicroUsd: 170,
  });
  expect(refunded.transferId).toBe(released.transferId);
});

describe("laws", () => {
  const price = fc.record({ inputMicroUsdPerMtok: fc.nat(10 ** 9), outputMicroUsdPerMtok: fc.nat(10 ** 9) });
  const anyRequest = fc
    .record({
      price,
      promptTokens: fc.nat(2 ** 20),
      maxTokens: fc.integer({ min: 1, max: 2 ** 17 }),
      choices: fc.integer({ min: 1, max: 8 }),
      delivered: fc.array(
        fc.record({
          node: fc.nat(4),
          part: fc.nat(1_000),
          hasFinished: fc.boolean(),
          /** Layers of the stages before the node's own; none: it ran the whole model. */
          before: fc.uniqueArray(fc.tuple(fc.integer({ min: 5, max: 9 }), fc.integer({ min: 1, max: 40 })), {
            selector: ([at]) => at,
            maxLength: 3,
          }),
          own: fc.integer({ min: 1, max: 40 }),
        }),
        { maxLength: 12 },
      ),
    })
    .map(({ delivered, ...rest }) => {
      const parts = Math.max(
        1,
        delivered.reduce((sum, { part }) => sum + part, 0),
      );
      const most = rest.maxTokens * rest.choices;
      const attempts = delivered.map(({ node: number, part, hasFinished, before, own }): MeteredAttempt => {
        const metered = attempt(number, Math.floor((most * part) / parts), hasFinished);
        const stages = [
          ...before.map(([at, layers]) => ({ nodeId: node(at), layers })),
          { nodeId: node(number), layers: own },
        ];
        return before.length === 0 ? metered : { ...metered, stages };
      });
      return request({ ...rest, attempts, heldMicroUsd: holdAmount(rest) });
    });

  test("the hold always covers the charge", () => {
    fc.assert(
      fc.property(anyRequest, (any) => {
        expect(settlementOf(any).costMicroUsd).toBeLessThanOrEqual(any.heldMicroUsd);
      }),
    );
  });

  test("escrow ends where it began, nobody pays but the tenant, and no share is negative", () => {
    fc.assert(
      fc.property(anyRequest, (any) => {
        const settled = settlementOf(any);
        const flow: Record<string, number> = flows(settled);
        expect(flow[ESCROW] ?? 0).toBe(0);
        expect(flow[tenantAccount(tenant)] ?? 0).toBe(settled.costMicroUsd === 0 ? 0 : -settled.costMicroUsd);
        const earners = Object.entries(flow).filter(([account]) => account !== tenantAccount(tenant));
        for (const [, amount] of earners) expect(amount).toBeGreaterThan(0);
        expect(earners.reduce((sum, [, amount]) => sum + amount, 0)).toBe(settled.costMicroUsd);
      }),
    );
  });

  test("rounding keeps at most one micro-USD for each party", () => {
    fc.assert(
      fc.property(anyRequest, (any) => {
        const settled = settlementOf(any);
        const flow: Record<string, number> = flows(settled);
        const all = any.attempts.flatMap(({ nodeId: own, stages }) => stages?.map((stage) => stage.nodeId) ?? [own]);
        const ofPrompt = Math.max(1, ...any.attempts.map(({ stages }) => stages?.length ?? 1));
        expect(flow[ROUNDING] ?? 0).toBeLessThanOrEqual(new Set(all).size + ofPrompt + 4);
      }),
    );
  });

  test("a node in a chain is never paid more than one that ran the whole model would be", () => {
    fc.assert(
      fc.property(anyRequest, (any) => {
        const flow: Record<string, number> = flows(settlementOf(any));
        const whole = any.attempts.map(({ stages: _, ...rest }) => rest);
        const asWhole: Record<string, number> = flows(settlementOf({ ...any, attempts: whole }));
        for (const one of new Set(any.attempts.map(({ nodeId: own }) => own))) {
          expect(flow[nodeHeldAccount(one)] ?? 0).toBeLessThanOrEqual(asWhole[nodeHeldAccount(one)] ?? 0);
        }
      }),
    );
  });

  test("transfer ids depend on the request alone and are all different", () => {
    fc.assert(
      fc.property(anyRequest, (any) => {
        const ids = settlementOf(any).transfers.map((transfer) => transfer.transferId);
        expect(new Set(ids).size).toBe(ids.length);
        expect(settlementOf({ ...any, atMs: 99 }).transfers.map((transfer) => transfer.transferId)).toEqual(ids);
      }),
    );
  });

  test("a longer answer never costs less", () => {
    fc.assert(
      fc.property(price, fc.nat(10 ** 6), fc.nat(10 ** 6), (at, promptTokens, outputTokens) => {
        const cost = (tokens: number) => costOf({ promptTokens, outputTokens: tokens, hasFinished: true, price: at });
        expect(cost(outputTokens + 1)).toBeGreaterThanOrEqual(cost(outputTokens));
      }),
    );
  });
});
