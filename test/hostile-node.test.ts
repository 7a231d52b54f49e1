/**
 * Nodes that lie, over real sockets, beside an honest one. Whatever the liar sends: the client's text is the undisturbed one,
 * others are served meanwhile, the breach is told in the log, and the books balance.
 *
 * What a liar claims of itself does not bring it work before others, so requests come in pairs, and load sends one to each node. No
 * prompt comes twice while there is a liar, since the node that knows it would get it; the undisturbed texts are asked for when the
 * liar is gone.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { NodeCrypto } from "../src/adapters/crypto-node/node-crypto.ts";
import { canonicalSignedJson } from "../src/market/canonical-json.ts";
import { toHex } from "../src/market/hex.ts";
import { statementBytes } from "../src/market/receipt.ts";
import { verifyReceipt } from "../src/market/verify-receipt.ts";
import type { AttemptEnd, Chunk } from "../src/wire/agent-link.ts";
import { parseNodeStatement, parseSignedReceipt } from "../src/wire/receipt.ts";
import { exchange, field, list, parsed } from "./support/exchange.ts";
import { type Grid, startGrid } from "./support/grid.ts";
import {
  adminGet,
  askStream,
  askText,
  expectBalanced,
  makeJoinCode,
  type Question,
  type Streamed,
  until,
  untilReady,
} from "./support/grid-console.ts";
import { chunkFrame, endFrame, type Lie, type LyingAgent, startLyingAgent } from "./support/lying-agent.ts";

const TOKENS = 48;
/** Rounds of requests until the liar had one; each asks two more at once, until its slower round trip counts less than the load. */
const ROUNDS_MAX = 12;
const VOCAB_FAR_OUT = 2_000_000_000;
const UNKNOWN_LEASE = "lease_01KA0000000000000000000000";

let grid: Grid;
let asked = 0;

beforeAll(async () => {
  grid = await startGrid();
});
afterAll(async () => {
  await grid.stop();
});

interface Case {
  readonly name: string;
  /** What the log says of it. */
  readonly code: string;
  readonly lie: () => Lie;
}

/** A lie about every frame of chunks; ends pass. */
const aboutChunks = (lie: (chunk: Chunk, frame: string) => readonly string[]): (() => Lie) => {
  return () => (frame, message) => {
    const chunk = message.type === "attempt.chunks" ? message.chunks[0] : undefined;
    return chunk === undefined ? [frame] : lie(chunk, frame);
  };
};
/** A lie about ends; chunks pass, and the last one of each lease is remembered: two answers may come to the liar, and their frames mix. */
const aboutEnds = (lie: (end: AttemptEnd, frame: string, last: Chunk | null) => readonly string[]): (() => Lie) => {
  return () => {
    const last = new Map<string, Chunk>();
    return (frame, message) => {
      if (message.type === "attempt.end") return lie(message, frame, last.get(message.leaseId) ?? null);
      for (const chunk of message.chunks) last.set(chunk.leaseId, chunk);
      return [frame];
    };
  };
};
const again = (chunk: Chunk, change: Partial<Chunk>): string => chunkFrame({ ...chunk, ...change });

const CASES: readonly Case[] = [
  {
    name: "chunks for a lease that nobody granted",
    code: "foreign-lease",
    lie: aboutChunks((chunk, frame) => [again(chunk, { leaseId: UNKNOWN_LEASE }), frame]),
  },
  {
    name: "chunks of a dead epoch",
    code: "dead-epoch",
    lie: aboutChunks((chunk, frame) => [again(chunk, { epoch: chunk.epoch - 1 }), frame]),
  },
  {
    name: "every chunk twice",
    code: "duplicate-seq",
    lie: aboutChunks((_chunk, frame) => [frame, frame]),
  },
  {
    name: "chunks with a gap",
    code: "skipped-seq",
    lie: aboutChunks((chunk) => [again(chunk, { seq: chunk.seq + 1 })]),
  },
  {
    name: "token ids out of the vocabulary",
    code: "token-out-of-vocabulary",
    lie: aboutChunks((chunk) => [again(chunk, { tokenIds: [VOCAB_FAR_OUT] })]),
  },
  {
    name: "more tokens than were asked for",
    code: "too-many-tokens",
    lie: aboutChunks((chunk) => [again(chunk, { tokenIds: Array.from({ length: 200 }, () => 5) })]),
  },
  {
    name: "chunks after the end",
    code: "message-after-end",
    lie: aboutEnds((end, frame, last) => (last === null ? [frame] : [frame, again(last, { seq: end.seq })])),
  },
  {
    name: "an end before the answer is whole",
    code: "false-end",
    lie: aboutChunks((chunk) => [
      endFrame({
        type: "attempt.end",
        leaseId: chunk.leaseId,
        epoch: chunk.epoch,
        seq: chunk.seq,
        reason: "length",
        promptTokens: 1,
        cachedTokens: 0,
        outputTokens: 1,
        statementJson: "{}",
        signature: "00".repeat(64),
      }),
    ]),
  },
];

describe("a node that sends", () => {
  for (const { name, code, lie } of CASES) {
    it(`${name} is found out, and no client sees it`, async () => {
      await using liar = await startLiar();
      await expectHarmless(liar, lie(), () =>
        until(`the log tells of ${code}`, () => grid.log().includes(`"code":"${code}"`)),
      );
    });
  }

  it("10,000 chunks a second is cut off, and no client waits for it", async () => {
    await using liar = await startLiar();
    const flood: Lie = (frame, message) => {
      const chunk = message.type === "attempt.chunks" ? message.chunks[0] : undefined;
      return chunk === undefined ? [frame] : [frame, ...Array.from({ length: 10_000 }, () => frame)];
    };
    await expectHarmless(liar, flood, () =>
      until("the link of the flooding node was closed", () => liar.closes.length > 0),
    );
    expect(liar.closes[0]?.code).toBe(4000);
  });

  it("garbage is cut off at once", async () => {
    for (const garbage of [
      "not json",
      "[]",
      '{"type":"nonsense"}',
      '{"type":"hello"}',
      "\u0000",
      '{"type":"heartbeat","seq":-1}',
    ]) {
      await using liar = await startLiar();
      liar.sendRaw(garbage);
      await until(`the link was closed after ${JSON.stringify(garbage)}`, () => liar.closes.length > 0);
      expect(liar.closes[0]?.code).toBe(4000);
    }
    await askText(grid, nextQuestion());
  });

  it("a frame of 16 MB that is no message is cut off, and the coordinator serves on", async () => {
    await using liar = await startLiar();
    liar.sendRaw(JSON.stringify({ type: "nonsense", text: "x".repeat(15 * 1024 * 1024) }));
    await until("the link was closed", () => liar.closes.length > 0);
    await askText(grid, nextQuestion());
  });

  it("nothing at all once it has work loses the work to the honest node", async () => {
    await using liar = await startLiar();
    const swallow: Lie = () => {
      liar.fallSilent();
      return [];
    };
    await expectHarmless(liar, swallow, () =>
      until("the silent node is out of every plan", async () => {
        const nodes = list(field(await adminGet(grid, "/nodes"), "nodes"));
        return nodes.some((node) => field(node, "nodeId") === liar.nodeId && field(node, "state") !== "online");
      }),
    );
  });
});

describe("a node's statement", () => {
  const forge = (change: (end: AttemptEnd, liar: LyingAgent) => AttemptEnd) => async () => {
    await using liar = await startLiar();
    const forged = aboutEnds((end) => [endFrame(change(end, liar))])();
    const answers = await expectHarmless(liar, forged, () =>
      until("the log tells of it", () => grid.log().includes('"code":"statement-differs"')),
    );
    let forgedCount = 0;
    for (const { usage, requestId } of answers) {
      expect(usage?.completionTokens).toBe(TOKENS);
      const [attempt] = list(field(field(await receiptOf(requestId), "body"), "attempts"));
      expect(field(attempt, "acknowledgedTokens")).toBe(TOKENS);
      if (field(attempt, "nodeId") !== liar.nodeId) continue;
      expect(field(attempt, "statement")).toBe(null);
      forgedCount += 1;
    }
    expect(forgedCount, "the liar served a request").toBeGreaterThan(0);
  };

  it(
    "with inflated counts is not in the receipt, and nobody is charged for it",
    forge((end, liar) => {
      const statement = parseNodeStatement(end.statementJson);
      if (!statement.ok) throw new Error(statement.reason.join("; "));
      const inflated = { ...statement.value, outputTokens: statement.value.outputTokens * 10 };
      const signature = toHex(liar.keyPair.sign(statementBytes(inflated)));
      return {
        ...end,
        outputTokens: inflated.outputTokens,
        statementJson: canonicalSignedJson(inflated),
        signature,
      };
    }),
  );

  it(
    "with a wrong signature is not in the receipt",
    forge((end) => ({ ...end, signature: toHex(new Uint8Array(64).fill(7)) })),
  );

  it(
    "that is no JSON is not in the receipt",
    forge((end) => ({ ...end, statementJson: "{".repeat(4_000) })),
  );
});

async function startLiar(): Promise<LyingAgent> {
  const liar = await startLyingAgent(await makeJoinCode(grid));
  await untilReady(grid, liar.nodeId);
  return liar;
}

function nextQuestion(): Question {
  asked += 1;
  return { prompt: `${asked} ${"And it came to pass".slice(asked % 10)}`, tokens: TOKENS, seed: asked };
}

/** The liar gets a request while another client asks too; both get what they get without a liar, and what the lie leads to comes. */
async function expectHarmless(
  liar: LyingAgent,
  lie: Lie,
  consequence: () => Promise<void>,
): Promise<readonly Streamed[]> {
  liar.tell(lie);
  const answers: { readonly question: Question; readonly streamed: Streamed }[] = [];
  for (let round = 1; round <= ROUNDS_MAX && liar.lies() === 0; round++) {
    // More at once each time: the more the honest node has, the more a slow link to the liar is worth.
    const questions = Array.from({ length: 2 * round }, nextQuestion);
    const streams = await Promise.all(questions.map((question) => askStream(grid, question)));
    for (const [at, streamed] of streams.entries()) answers.push({ question: questions[at] ?? {}, streamed });
  }
  expect(liar.lies(), "the liar had work to lie about").toBeGreaterThan(0);
  await consequence();
  await expectBalanced(grid);
  await liar.stop();
  for (const { question, streamed } of answers) {
    expect(streamed.error, streamed.body.slice(-500)).toBe(null);
    expect(streamed.texts[0]).toBe(await askText(grid, question));
  }
  return answers.map(({ streamed }) => streamed);
}

async function receiptOf(requestId: string | null): Promise<unknown> {
  const answer = await exchange({ url: `${grid.baseUrl}/v1/grid/receipts/${requestId}`, key: grid.apiKey });
  expect(answer.status, answer.body).toBe(200);
  const receipt = parsed(answer.body);
  const verdict = verifyReceipt(receipt, { parse: parseSignedReceipt, crypto: new NodeCrypto() });
  expect(verdict.checks.filter(({ isPassed }) => !isPassed)).toEqual([]);
  return receipt;
}
