import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { nodeId, requestId, sha256Hex, tenantId } from "../domain/ids.ts";
import { microUsd } from "../domain/money.ts";
import { AUDIT_REVENUE, nodeHeldAccount, PLATFORM_REVENUE, providerAccount, tenantAccount } from "./accounts.ts";
import { cloudCharge } from "./hold.ts";
import { type MeteredRequest, type SettledCloudPart, settlementOf } from "./settle.ts";

const node = nodeId(`node_${"1".padStart(32, "0")}`);
const tenant = tenantId(`ten_${"0".repeat(26)}`);
const part = (fields: Partial<SettledCloudPart>): SettledCloudPart => ({
  providerId: "acme",
  choice: 0,
  promptTokens: 0,
  outputTokens: 10,
  outputSha256: sha256Hex("0".repeat(64)),
  price: { inputMicroUsdPerMtok: 3_000_000, outputMicroUsdPerMtok: 5_000_000 },
  countedBy: "vocabulary",
  owedMicroUsd: microUsd(40),
  ...fields,
});
const request = (fields: Partial<MeteredRequest>): MeteredRequest => ({
  requestId: requestId(`req_${"0".repeat(26)}`),
  tenantId: tenant,
  heldMicroUsd: microUsd(1_000_000_000),
  price: { inputMicroUsdPerMtok: 1_000_000, outputMicroUsdPerMtok: 2_000_000 },
  promptTokens: 100,
  attempts: [{ nodeId: node, acknowledgedTokens: 50, hasFinished: false }],
  atMs: 1,
  ...fields,
});
function flows(settled: ReturnType<typeof settlementOf>): Readonly<Record<string, number>> {
  const sums = new Map<string, number>();
  for (const { kind, creditAccountId, debitAccountId, amountMicroUsd } of settled.transfers) {
    if (kind === "void") continue;
    sums.set(creditAccountId, (sums.get(creditAccountId) ?? 0) + amountMicroUsd);
    sums.set(debitAccountId, (sums.get(debitAccountId) ?? 0) - amountMicroUsd);
  }
  return Object.fromEntries([...sums].filter(([, amount]) => amount !== 0));
}

describe("a request that ran on the grid and in the cloud", () => {
  test("pays the prompt where it began, each part at its own price, the provider its cost and the platform the margin", () => {
    const settled = settlementOf(request({ cloudParts: [part({})] }));
    expect(settled.costMicroUsd).toBe(100 + 100 + 50);
    expect(flows(settled)).toEqual({
      [tenantAccount(tenant)]: -250,
      [nodeHeldAccount(node)]: 170,
      [providerAccount("acme")]: 40,
      [PLATFORM_REVENUE]: 24 + 10,
      [AUDIT_REVENUE]: 6,
    });
  });

  test("that began in the cloud pays the grid for its output alone", () => {
    const settled = settlementOf(request({ cloudParts: [part({ promptTokens: 100, owedMicroUsd: microUsd(0) })] }));
    expect(settled.costMicroUsd).toBe(300 + 50 + 100);
    expect(flows(settled)).toMatchObject({ [nodeHeldAccount(node)]: 85, [PLATFORM_REVENUE]: 350 + 12 });
  });

  test("in the cloud alone pays no node", () => {
    const settled = settlementOf(request({ attempts: [], cloudParts: [part({ promptTokens: 100 })] }));
    expect(flows(settled)).toEqual({
      [tenantAccount(tenant)]: -350,
      [providerAccount("acme")]: 40,
      [PLATFORM_REVENUE]: 310,
    });
  });
});

const anyPart = fc
  .record({
    providerId: fc.constantFrom("acme", "best"),
    outputTokens: fc.nat(5_000),
    price: fc.record({ inputMicroUsdPerMtok: fc.nat(9_999_999), outputMicroUsdPerMtok: fc.nat(9_999_999) }),
    owedShare: fc.double({ min: 0, max: 1, noNaN: true }),
  })
  .map(({ owedShare, ...fields }) => {
    const made = part(fields);
    return { ...made, owedMicroUsd: microUsd(Math.floor(cloudCharge(made) * owedShare)) };
  });

test("postings of any parts sum to zero, and the tenant pays what the parts cost", () => {
  fc.assert(
    fc.property(fc.array(anyPart, { maxLength: 4 }), fc.nat(3_000), fc.nat(2_000), (parts, tokens, promptTokens) => {
      const attempts = [{ nodeId: node, acknowledgedTokens: tokens, hasFinished: tokens > 0 }];
      const settled = settlementOf(request({ promptTokens, attempts, cloudParts: parts }));
      const sums = flows(settled);
      expect(Object.values(sums).reduce((sum, amount) => sum + amount, 0)).toBe(0);
      expect(0 - (sums[tenantAccount(tenant)] ?? 0)).toBe(settled.costMicroUsd);
      const owed = parts.reduce((sum, { owedMicroUsd }) => sum + owedMicroUsd, 0);
      expect((sums[providerAccount("acme")] ?? 0) + (sums[providerAccount("best")] ?? 0)).toBe(owed);
      expect(sums["escrow"] ?? 0).toBe(0);
    }),
  );
});
