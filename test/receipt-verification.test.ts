/** A good receipt, and every way to make it a bad one: the check that is named must be the one that notices. */
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { toHex } from "../src/market/hex.ts";
import { receiptBytes, statementBytes } from "../src/market/receipt.ts";
import { verifyReceipt } from "../src/market/verify-receipt.ts";
import { nodeStatementSchema, parseSignedReceipt, receiptBodySchema } from "../src/wire/receipt.ts";
import { aSettleRequest, crypto, nodeKey, SettlementGrid } from "./support/settlement-grid.ts";

const tools = { parse: parseSignedReceipt, crypto };
const jsonSchema = z.record(z.string(), z.json());

async function aReceiptJson(): Promise<{ json: string; grid: SettlementGrid }> {
  const grid = await SettlementGrid.start();
  for (const number of [1, 2, 3]) {
    await grid.hold(number, 10_000);
    const settled = await grid.settlement.settle(
      aSettleRequest(number, [
        { node: 1, tokens: [1, 2], unseen: 3, ending: "moved" },
        { node: 2, tokens: [3, 4, 5] },
        { node: 3, tokens: [], ending: "node-lost", choice: 1 },
        { node: 2, tokens: [6, 7], choice: 1 },
      ]),
    );
    if (number === 2) return { json: JSON.stringify(await grid.settlement.signedReceipt(settled.receiptId)), grid };
  }
  throw new Error("the second request was settled");
}

/** The receipt with the value at `path` replaced by what `change` makes of it. */
function altered(json: string, path: readonly (string | number)[], change: (value: unknown) => unknown): unknown {
  const root: unknown = JSON.parse(json);
  const walk = (value: unknown, depth: number): unknown => {
    const step = path[depth];
    if (step === undefined) return change(value);
    if (Array.isArray(value)) return value.map((item, index) => (index === step ? walk(item, depth + 1) : item));
    const object = jsonSchema.parse(value);
    return { ...object, [step]: walk(object[step], depth + 1) };
  };
  return walk(root, 0);
}

const failing = (receipt: unknown, trusted: string | null = null) =>
  verifyReceipt(receipt, { ...tools, trustedPublicKeyHex: trusted })
    .checks.filter((check) => !check.isPassed)
    .map((check) => check.name.split(":")[0]);
const flipHex = (value: unknown) => String(value).replace(/^./, (digit) => (digit === "0" ? "1" : "0"));
const plusOne = (value: unknown) => Number(value) + 1;

describe("a receipt's verification", () => {
  test("passes every check of a good receipt, and says what it checked", async () => {
    const { json, grid } = await aReceiptJson();
    const trusted = toHex(grid.keyPair.publicKey);
    const { isValid, checks } = verifyReceipt(JSON.parse(json), { ...tools, trustedPublicKeyHex: trusted });
    expect(checks.filter((check) => !check.isPassed)).toEqual([]);
    expect(isValid).toBe(true);
    expect(new Set(checks.map((check) => check.name.split(":")[0]))).toEqual(
      new Set([
        "schema",
        "coordinator-key",
        "coordinator-signature",
        "node-key",
        "node-signature",
        "node-statement",
        "attempts",
        "cost",
        "inclusion",
        "checkpoint",
      ]),
    );
    expect(checks.find((check) => check.name === "cost")?.detail).toContain("cost 114 micro-USD");
  });

  test.each([
    ["costMicroUsd", ["body", "costMicroUsd"], plusOne, ["coordinator-signature", "cost", "inclusion"]],
    ["promptTokens", ["body", "promptTokens"], plusOne, ["coordinator-signature", "cost", "inclusion"]],
    [
      "a choice's tokens",
      ["body", "choices", 0, "outputTokens"],
      plusOne,
      ["coordinator-signature", "attempts", "cost", "inclusion"],
    ],
    ["the seed's commitment", ["body", "seedSha256"], flipHex, ["coordinator-signature", "inclusion"]],
    [
      "weights",
      ["body", "weightsSha256"],
      flipHex,
      ["coordinator-signature", "node-statement", "node-statement", "node-statement", "inclusion"],
    ],
    [
      "a node's count",
      ["body", "attempts", 1, "statement", "outputTokens"],
      plusOne,
      ["coordinator-signature", "node-signature", "inclusion"],
    ],
    [
      "a node's signature",
      ["body", "attempts", 1, "nodeSignature"],
      flipHex,
      ["coordinator-signature", "node-signature", "inclusion"],
    ],
    [
      "a node's key",
      ["body", "attempts", 1, "nodePublicKey"],
      () => toHex(nodeKey(9).publicKey),
      ["coordinator-signature", "node-key", "node-signature", "inclusion"],
    ],
    [
      "a missing signature",
      ["body", "attempts", 1, "nodeSignature"],
      () => null,
      ["coordinator-signature", "node-signature", "inclusion"],
    ],
    ["the coordinator's signature", ["coordinatorSignature"], flipHex, ["coordinator-signature"]],
    [
      "the coordinator's key",
      ["coordinatorPublicKey"],
      () => toHex(nodeKey(9).publicKey),
      ["coordinator-signature", "checkpoint"],
    ],
    ["the leaf's place", ["inclusion", "leafIndex"], () => 0, ["inclusion"]],
    ["the tree's size", ["inclusion", "treeSize"], plusOne, ["inclusion", "checkpoint"]],
    ["the root", ["inclusion", "rootHash"], flipHex, ["inclusion", "checkpoint"]],
    ["the path", ["inclusion", "path", 0], flipHex, ["inclusion"]],
    [
      "the checkpoint's size",
      ["inclusion", "checkpoint"],
      (note: unknown) => String(note).replace("\n2\n", "\n3\n"),
      ["checkpoint"],
    ],
    ["an absent checkpoint", ["inclusion", "checkpoint"], () => "", ["checkpoint"]],
  ] as const)("notices a change of %s", async (_, path, change, expected) => {
    const { json } = await aReceiptJson();
    expect(failing(altered(json, path, change))).toEqual(expected);
  });

  test("notices a coordinator that signs a false cost, even in its own log", async () => {
    const { json, grid } = await aReceiptJson();
    const body = receiptBodySchema.parse(altered(JSON.stringify(JSON.parse(json).body), ["costMicroUsd"], plusOne));
    const signature = toHex(grid.keyPair.sign(receiptBytes(body)));
    const withBody = JSON.stringify(altered(json, ["body"], () => body));
    const receipt = altered(withBody, ["coordinatorSignature"], () => signature);
    expect(failing(receipt)).toEqual(["cost", "inclusion"]);
  });

  test("notices a node that signed fewer tokens than it is paid for, or other output", async () => {
    const { json } = await aReceiptJson();
    const statement = nodeStatementSchema.parse(JSON.parse(json).body.attempts[1].statement);
    const fewer = { ...statement, outputTokens: 2 };
    const resigned = toHex(nodeKey(2).sign(statementBytes(fewer)));
    const withStatement = JSON.stringify(altered(json, ["body", "attempts", 1, "statement"], () => fewer));
    const receipt = altered(withStatement, ["body", "attempts", 1, "nodeSignature"], () => resigned);
    expect(failing(receipt)).toEqual(["coordinator-signature", "node-statement", "inclusion"]);
  });

  test("does not take one kind of signature for another", async () => {
    const { json, grid } = await aReceiptJson();
    const body = receiptBodySchema.parse(JSON.parse(json).body);
    const unlabelled = grid.keyPair.sign(receiptBytes(body).slice("fallow-receipt-v1\0".length));
    expect(failing(altered(json, ["coordinatorSignature"], () => toHex(unlabelled)))).toEqual([
      "coordinator-signature",
    ]);
  });

  test("notices the wrong grid's key when told the right one", async () => {
    const { json } = await aReceiptJson();
    expect(failing(JSON.parse(json), toHex(nodeKey(9).publicKey))).toEqual(["coordinator-key"]);
  });

  test.each([
    ["null", null],
    ["text", "receipt"],
    ["an empty object", {}],
    ["an array", []],
  ])("says of %s that it is no receipt", (_, value) => {
    const { isValid, checks } = verifyReceipt(value, tools);
    expect([isValid, checks.map((check) => check.name)]).toEqual([false, ["schema"]]);
  });

  test("says which field is foreign or malformed", async () => {
    const { json } = await aReceiptJson();
    const extra = altered(json, ["body"], (body) => ({ ...jsonSchema.parse(body), tip: 5 }));
    expect(verifyReceipt(extra, tools).checks[0]).toMatchObject({ name: "schema", isPassed: false });
    const floated = verifyReceipt(
      altered(json, ["body", "promptTokens"], () => 0.5),
      tools,
    );
    expect(floated.checks[0]?.detail).toContain("body.promptTokens");
  });
});

describe("a receipt of a chain", () => {
  async function chained(): Promise<string> {
    const grid = await SettlementGrid.start();
    await grid.hold(1, 10_000);
    const stages = [
      [1, 6],
      [2, 4],
      [3, 2],
    ] as const;
    const settled = await grid.settlement.settle(aSettleRequest(1, [{ node: 3, tokens: [1, 2, 3], stages }]));
    return JSON.stringify(await grid.settlement.signedReceipt(settled.receiptId));
  }

  test("lists the stages with their layers, and passes", async () => {
    const json = await chained();
    expect(failing(JSON.parse(json))).toEqual([]);
    const receipt = parseSignedReceipt(JSON.parse(json));
    expect(receipt.ok && receipt.value.body.attempts[0]?.stages?.map(({ layers }) => layers)).toEqual([6, 4, 2]);
    const checks = verifyReceipt(JSON.parse(json), tools).checks.filter(({ name }) => name === "stages");
    expect(checks).toEqual([{ name: "stages", isPassed: true, detail: "1 attempt ran in stages on 3 nodes" }]);
  });

  test("fails when a stage is left out, added or given other layers, and when the stages do not end at the node that signed", async () => {
    const json = await chained();
    const at = ["body", "attempts", 0, "stages"];
    expect(failing(altered(json, [...at, 0, "layers"], plusOne))).toContain("coordinator-signature");
    const turned = altered(json, at, (stages) => (Array.isArray(stages) ? [...stages].reverse() : stages));
    expect(failing(turned)).toContain("stages");
    const twice = altered(json, at, (stages) =>
      Array.isArray(stages) ? [...stages.slice(2), ...stages.slice(2)] : stages,
    );
    expect(failing(twice)).toContain("stages");
  });
});
