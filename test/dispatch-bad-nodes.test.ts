/** What a node may send about its attempts that it should not, and what comes of it: the client's stream is never touched. */
import { beforeEach, describe, expect, test } from "vitest";
import { BREACHES_MAX } from "../src/coordinator/registry/strikes.ts";
import { EPOCHS_PER_BOOT } from "../src/domain/lease.ts";
import type { NodeStatement } from "../src/domain/receipt.ts";
import { canonicalSignedJson } from "../src/market/canonical-json.ts";
import { toHex } from "../src/market/hex.ts";
import { statementBytes, tokensSha256 } from "../src/market/receipt.ts";
import { SCRIPTED_VOCAB_SIZE } from "../src/sim/engine/scripted-model.ts";
import type { AttemptStart } from "../src/wire/agent-link.ts";
import { type Asked, chunk, DispatchGrid, endings, type HandDrivenNode, startsAt } from "./support/dispatch-grid.ts";
import { GRID_ID } from "./support/membership-grid.ts";

const BOOT = 1;
let grid: DispatchGrid;
let node: HandDrivenNode;

beforeEach(async () => {
  grid = new DispatchGrid();
  await grid.start();
  node = await grid.handDrivenNode();
});

/** A request that the hand-driven node was given. */
async function started(
  change: Parameters<DispatchGrid["ask"]>[0] = {},
): Promise<{ asked: Asked; start: AttemptStart }> {
  const before = startsAt(node).length;
  const asked = grid.ask(change);
  await grid.run(20);
  const start = startsAt(node)[before];
  if (start === undefined) throw new Error("the node was given the attempt");
  return { asked, start };
}

function statementOf(
  start: AttemptStart,
  tokenIds: readonly number[],
  change: Partial<NodeStatement> = {},
): NodeStatement {
  const { terms } = start;
  return {
    v: 1,
    kind: "fallow-attempt",
    gridId: GRID_ID,
    leaseId: start.leaseId,
    epoch: start.epoch,
    attemptId: start.attemptId,
    nodeId: node.nodeId,
    ...terms,
    promptTokens: start.work.kind === "generate" ? start.work.tokenIds.length : 0,
    cachedTokens: 0,
    outputTokens: tokenIds.length,
    outputSha256: tokensSha256(tokenIds, (data) => grid.crypto.sha256(data)),
    numericClass: "by-hand",
    startedAtMs: 1,
    endedAtMs: 2,
    energyMilliJoule: null,
    energyMethod: null,
    reason: "length",
    ...change,
  } as NodeStatement;
}

function endOf(start: AttemptStart, tokenIds: readonly number[], change: Partial<NodeStatement> = {}) {
  const statement = statementOf(start, tokenIds, change);
  const { leaseId, epoch } = start;
  const { promptTokens, cachedTokens, outputTokens, reason } = statement;
  const signature = toHex(node.keyPair.sign(statementBytes(statement)));
  const statementJson = canonicalSignedJson(statement);
  return {
    type: "attempt.end",
    leaseId,
    epoch,
    seq: 1,
    reason,
    promptTokens,
    cachedTokens,
    outputTokens,
    statementJson,
    signature,
  };
}

const NOT_A_NUMBER = Buffer.from(new Float32Array(8).fill(Number.NaN).buffer).toString("base64");
const breaches = () => grid.dispatcher.stats().breaches;
const cancelled = (start: AttemptStart) =>
  node.peer.frames.some((frame) => frame["type"] === "attempt.cancel" && frame["leaseId"] === start.leaseId);

describe("chunks", () => {
  test("in order reach the client", async () => {
    const { asked, start } = await started({ tokensMax: 3 });
    await node.peer.say(chunk(start, { seq: 0, tokenIds: [5, 6] }));
    await node.peer.say(chunk(start, { seq: 1, tokenIds: [7] }));
    expect(asked.tokenIds()).toEqual([5, 6, 7]);
    expect(breaches()).toBe(0);
  });

  test("a seq that came before is dropped and the stream goes on", async () => {
    const { asked, start } = await started();
    await node.peer.say(chunk(start, { seq: 0, tokenIds: [5] }));
    await node.peer.say(chunk(start, { seq: 0, tokenIds: [9] }));
    await node.peer.say(chunk(start, { seq: 1, tokenIds: [6] }));
    expect(asked.tokenIds()).toEqual([5, 6]);
    expect(breaches()).toBe(1);
    expect(asked.servedBy()).toHaveLength(1);
  });

  test.each([
    ["a skipped seq", { seq: 2, tokenIds: [6] }],
    ["a token outside the vocabulary", { seq: 1, tokenIds: [SCRIPTED_VOCAB_SIZE] }],
    ["more tokens than were asked for", { seq: 1, tokenIds: [1, 2, 3, 4] }],
  ])("%s spoils the attempt: it is cancelled and moves with the tokens so far", async (_name, bad) => {
    const { asked, start } = await started({ tokensMax: 4 });
    await node.peer.say(chunk(start, { seq: 0, tokenIds: [5] }));
    await node.peer.say(chunk(start, bad));
    expect(breaches()).toBe(1);
    expect(cancelled(start)).toBe(true);
    await grid.run(700);
    const again = startsAt(node).at(-1);
    expect(again?.leaseId).not.toBe(start.leaseId);
    expect(again?.epoch).toBeGreaterThan(start.epoch);
    expect(again?.work).toMatchObject({ generatedCount: 1, tokensMax: 3 });
    expect(asked.tokenIds()).toEqual([5]);
    expect(asked.generation.attempts()).toMatchObject([{ ending: "failed", acknowledgedTokens: 1 }]);
  });

  test("details of other tokens than the chunk's own spoil the attempt", async () => {
    const { asked, start } = await started({ topLogprobs: 1 });
    const details = [{ tokenId: 9, logprob: -1, top: [] }];
    await node.peer.say({ type: "attempt.chunks", chunks: [{ ...start, seq: 0, tokenIds: [5], details }] });
    expect(asked.tokenIds()).toEqual([]);
    expect(breaches()).toBe(1);
  });
});

describe("leases", () => {
  test("a lease that was never granted is a breach", async () => {
    const { asked, start } = await started();
    await node.peer.say(chunk(start, { leaseId: "lease_01KA0000000000000000000000" }));
    expect(asked.tokenIds()).toEqual([]);
    expect(breaches()).toBe(1);
  });

  test("another node's lease is a breach, and that node's stream is untouched", async () => {
    const { asked, start } = await started();
    const other = await grid.handDrivenNode({ replicaId: "rep_01KA0000000000000000000001" });
    await other.peer.say(chunk(start, { tokenIds: [9] }));
    await other.peer.say({
      type: "attempt.failed",
      leaseId: start.leaseId,
      epoch: start.epoch,
      code: "yield",
      message: "",
    });
    await node.peer.say(chunk(start, { tokenIds: [5] }));
    expect(asked.tokenIds()).toEqual([5]);
    expect(asked.servedBy()).toEqual([node.nodeId]);
    expect(breaches()).toBe(2);
  });

  test("another epoch under a lease's name is a breach", async () => {
    const { asked, start } = await started();
    await node.peer.say(chunk(start, { epoch: start.epoch - 1 }));
    await node.peer.say(chunk(start, { epoch: start.epoch + 1 }));
    expect(asked.tokenIds()).toEqual([]);
    expect(breaches()).toBe(2);
  });

  test("an unknown lease of an earlier life of the coordinator is only late", async () => {
    const { start } = await started();
    const old = { leaseId: "lease_01KA0000000000000000000000", epoch: (BOOT - 1) * EPOCHS_PER_BOOT + 3 };
    await node.peer.say(chunk(start, old));
    expect(breaches()).toBe(0);
  });

  test("epochs carry the boot number", async () => {
    const { start } = await started();
    expect(Math.floor(start.epoch / EPOCHS_PER_BOOT)).toBe(BOOT);
  });

  test("what comes under a lease that was revoked is late, and reaches nobody", async () => {
    const { asked, start } = await started();
    await grid.settled(asked.generation.finish("cancelled"));
    await node.peer.say(chunk(start, { tokenIds: [5] }));
    expect(asked.tokenIds()).toEqual([]);
    expect(breaches()).toBe(0);
    expect(grid.dispatcher.stats().lateMessages).toBe(1);
  });
});

describe("ends", () => {
  test("a right one finishes the request, with its statement", async () => {
    const { asked, start } = await started({ tokensMax: 2 });
    await node.peer.say(chunk(start, { tokenIds: [5, 6] }));
    await node.peer.say(endOf(start, [5, 6]));
    expect(asked.outcome()).toEqual({ kind: "end", reason: "length" });
    expect(asked.generation.attempts()).toMatchObject([{ ending: "finished", statementJson: expect.any(String) }]);
    expect(breaches()).toBe(0);
  });

  test("a chunk after it is a breach that reaches nobody", async () => {
    const { asked, start } = await started({ tokensMax: 2 });
    await node.peer.say(chunk(start, { tokenIds: [5, 6] }));
    await node.peer.say(endOf(start, [5, 6]));
    await node.peer.say(chunk(start, { seq: 1, tokenIds: [7] }));
    expect(asked.tokenIds()).toEqual([5, 6]);
    expect(breaches()).toBe(1);
  });

  test.each([
    ["before the length is reached", "length"],
    ["with a stop token that is none", "stop-token"],
    ["with a stop string where none was given", "stop-string"],
    ["with the end of a grammar where none was given", "grammar-end"],
    ["cancelled without being asked", "cancelled"],
    ["as an embedding", "embedded"],
  ] as const)("one that comes %s spoils the attempt: an answer is never cut short", async (_name, reason) => {
    const { asked, start } = await started({ tokensMax: 5, ignoreStopTokens: false });
    await node.peer.say(chunk(start, { tokenIds: [5, 6] }));
    await node.peer.say(endOf(start, [5, 6], { reason }));
    expect(asked.outcome()).toBeNull();
    expect(breaches()).toBe(1);
    expect(endings(asked.generation.attempts())).toEqual(["failed"]);
  });

  test("one that claims another number of chunks spoils the attempt", async () => {
    const { asked, start } = await started({ tokensMax: 2 });
    await node.peer.say(chunk(start, { tokenIds: [5, 6] }));
    await node.peer.say({ ...endOf(start, [5, 6]), seq: 2 });
    expect(breaches()).toBe(1);
    expect(asked.outcome()).toEqual({ kind: "end", reason: "length" });
    expect(asked.generation.attempts()).toMatchObject([{ statementJson: null, acknowledgedTokens: 2 }]);
  });
});

describe("a statement that does not say what was seen is dropped, and the tokens count all the same", () => {
  const lies: [string, Partial<NodeStatement>][] = [
    ["more tokens", { outputTokens: 3 }],
    ["other tokens", { outputSha256: "33".repeat(32) as NodeStatement["outputSha256"] }],
    ["another prompt length", { promptTokens: 1 }],
    ["another price", { outputMicroUsdPerMtok: 1 }],
    ["other weights", { weightsSha256: "44".repeat(32) as NodeStatement["weightsSha256"] }],
    ["another grid", { gridId: "grid-other" }],
    ["another epoch", { epoch: 1 }],
    ["more cached than given", { cachedTokens: 1_000_000 }],
  ];
  test.each(lies)("%s", async (_name, lie) => {
    const { asked, start } = await started({ tokensMax: 2 });
    await node.peer.say(chunk(start, { tokenIds: [5, 6] }));
    await node.peer.say(endOf(start, [5, 6], lie));
    expect(asked.outcome()).toEqual({ kind: "end", reason: "length" });
    expect(asked.generation.attempts()).toMatchObject([
      { statementJson: null, signatureHex: null, acknowledgedTokens: 2 },
    ]);
    expect(breaches()).toBe(1);
  });

  test("a signature of another key", async () => {
    const { asked, start } = await started({ tokensMax: 2 });
    await node.peer.say(chunk(start, { tokenIds: [5, 6] }));
    const signature = toHex(grid.crypto.generateKeyPair().sign(statementBytes(statementOf(start, [5, 6]))));
    await node.peer.say({ ...endOf(start, [5, 6]), signature });
    expect(asked.generation.attempts()).toMatchObject([{ statementJson: null, acknowledgedTokens: 2 }]);
  });

  const texts: [string, (start: AttemptStart) => string][] = [
    ["no JSON", () => "{"],
    ["JSON that is not canonical", () => JSON.stringify({ v: 1 })],
    ["half a character", (start) => JSON.stringify({ ...statementOf(start, [5, 6]), numericClass: "\ud800" })],
    [
      "half a character elsewhere",
      (start) => JSON.stringify({ ...statementOf(start, [5, 6]), energyMethod: "\udc00" }),
    ],
  ];
  test.each(texts)("%s", async (_name, text) => {
    const { asked, start } = await started({ tokensMax: 2 });
    await node.peer.say(chunk(start, { tokenIds: [5, 6] }));
    await node.peer.say({ ...endOf(start, [5, 6]), statementJson: text(start) });
    expect(asked.generation.attempts()).toMatchObject([{ statementJson: null, acknowledgedTokens: 2 }]);
    expect(breaches()).toBe(1);
  });
});

describe("embeddings", () => {
  test.each([
    ["too few vectors", ["AAAA"]],
    ["vectors of another length", ["AAAA", "AAAA"]],
    ["vectors that are no numbers", [NOT_A_NUMBER, NOT_A_NUMBER]],
    ["no base64", ["?!", "?!"]],
  ])("%s are refused and the request moves", async (_name, vectors) => {
    const abort = new AbortController();
    const embedding = grid.dispatcher.embed({ terms: grid.terms(), inputs: [[1, 2], [3]] }, abort.signal);
    await grid.run(20);
    const start = startsAt(node).at(-1);
    await node.peer.say({ type: "attempt.embedding", leaseId: start?.leaseId, epoch: start?.epoch, vectors });
    abort.abort();
    const outcome = await grid.settled(embedding);
    expect(outcome).toMatchObject({ ok: false, reason: { code: "cancelled" } });
    expect(endings(outcome.attempts)).toContain("failed");
  });

  test("vectors for a request that generates are a breach", async () => {
    const { asked, start } = await started();
    await node.peer.say({ type: "attempt.embedding", leaseId: start.leaseId, epoch: start.epoch, vectors: ["AAAA"] });
    expect(breaches()).toBe(1);
    expect(asked.tokenIds()).toEqual([]);
  });
});

test("a node that breaks the protocol again and again is cut off, and its streams move", async () => {
  const agent = await grid.addAgent();
  const { asked, start } = await started();
  for (let count = 0; count <= BREACHES_MAX; count++) {
    await node.peer.say(chunk(start, { leaseId: "lease_01KA0000000000000000000000" }));
  }
  expect(node.peer.closed).not.toBeNull();
  await grid.untilOver(asked);
  expect(asked.servedBy().at(-1)).toBe(agent.nodeId);
  expect(asked.tokenIds()).toEqual(grid.undisturbed(asked.request));
});

test("a reported replica of unknown weights is unloaded, and gets no work", async () => {
  const stranger = await grid.handDrivenNode({
    replicaId: "rep_01KA0000000000000000000002",
    weightsSha256: "55".repeat(32),
  });
  await grid.run(50);
  expect(stranger.peer.frames).toContainEqual(expect.objectContaining({ type: "replica.unload" }));
  expect(grid.dispatcher.pool.replicas().filter(({ nodeId }) => nodeId === stranger.nodeId)).toEqual([]);
});

test.each([
  ["slots", { slots: 1_000_000 }],
  ["context", { contextTokens: 1_000_000 }],
])("a reported replica with more %s than was ever ordered is unloaded, and gets no work", async (_, claim) => {
  const greedy = await grid.handDrivenNode({ replicaId: "rep_01KA0000000000000000000002", ...claim });
  await grid.run(50);
  expect(greedy.peer.frames).toContainEqual(expect.objectContaining({ type: "replica.unload" }));
  expect(grid.dispatcher.pool.replicas().filter(({ nodeId }) => nodeId === greedy.nodeId)).toEqual([]);
});
