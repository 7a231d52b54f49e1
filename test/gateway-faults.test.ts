/** What fails in the gateway itself leaves nothing behind: no hold, no running generation, no key that is in use for ever. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { SWEEP_MS } from "../src/coordinator/gateway/callers/hourly-sweep.ts";
import { keepAnswer } from "../src/coordinator/gateway/callers/idempotency.ts";
import { startIdempotencySweep } from "../src/coordinator/gateway/callers/idempotency-sweep.ts";
import { PreparedModels } from "../src/coordinator/gateway/plans/prepared-model.ts";
import { FallowError } from "../src/domain/fault.ts";
import { sha256Hex } from "../src/domain/ids.ts";
import type { Tokenizer } from "../src/ports/tokenizer.ts";
import { simLog } from "../src/sim/sim-log.ts";
import { answering, eventsOf, GatewayFixture } from "./support/gateway-fixture.ts";
import { madeId } from "./support/store-samples.ts";
import { openTiny } from "./support/tokenizer-fixture.ts";

/** Its text cannot be told: the vocabulary fails on it. */
const BAD_TOKEN = 301;
let tiny: Tokenizer;
let closeTokenizer: () => Promise<void>;
let grid: GatewayFixture;
/** How many of the next questions the vocabulary process does not answer. */
let faultsLeft: number;

const crashed = () => new FallowError("tokenizer-crashed", "the vocabulary process ended");

/** The real vocabulary, that fails when the test says so. */
function failing(): Tokenizer {
  return {
    modelId: tiny.modelId,
    vocabSize: tiny.vocabSize,
    bosToken: tiny.bosToken,
    eosToken: tiny.eosToken,
    stopTokenIds: tiny.stopTokenIds,
    specialTexts: tiny.specialTexts,
    piece: (tokenId) => {
      if (tokenId === BAD_TOKEN) throw new Error("this token has no text");
      return tiny.piece(tokenId);
    },
    tokenize: async (parts, options) => {
      faultsLeft -= 1;
      if (faultsLeft >= 0) throw crashed();
      return await tiny.tokenize(parts, options);
    },
    close: () => tiny.close(),
  };
}

test("a client that hangs up in the middle of its body is no fault of ours", async () => {
  const fault = new Error("aborted");
  for (const headers of [{}, { "content-length": "40" }]) {
    const body = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        controller.enqueue(new TextEncoder().encode('{"model": "tiny", '));
        controller.error(fault);
      },
    });
    const request = new Request("http://grid.test/v1/chat/completions", {
      method: "POST",
      headers: { ...headers, authorization: `Bearer ${grid.secret}`, "content-type": "application/json" },
      body,
      duplex: "half",
    });
    expect((await grid.gateway.fetch(request, { remoteAddress: null })).status).toBe(499);
  }
  expect(grid.logged.filter((line) => line.startsWith("error"))).toEqual([]);
});

beforeAll(async () => {
  ({ tokenizer: tiny, close: closeTokenizer } = await openTiny());
});
afterAll(async () => {
  await closeTokenizer();
});
beforeEach(async () => {
  faultsLeft = 0;
  grid = await GatewayFixture.open(failing());
});
afterEach(async () => {
  await grid.close();
});

describe("a request that fails in the gateway", () => {
  test("before it runs may be sent again with the same idempotency key", async () => {
    grid.onGenerate = answering(grid, "yes");
    const headers = { "idempotency-key": "one" };
    faultsLeft = 1;
    expect((await grid.chat({}, { headers })).status).toBe(500);
    expect((await grid.chat({}, { headers })).status).toBe(200);
  });

  test("while its answer is made gives its hold back, ends its generation, and may be sent again", async () => {
    grid.onGenerate = (generation) => generation.send([300, BAD_TOKEN]);
    const headers = { "idempotency-key": "one" };
    expect((await grid.chat({}, { headers })).status).toBe(500);
    expect(grid.generations.map(({ finishedBy }) => finishedBy)).toEqual(["cancelled"]);
    expect(await grid.balance()).toMatchObject({ held: 0 });
    expect(grid.gateway.openRequests()).toBe(0);
    grid.onGenerate = answering(grid, "yes");
    expect((await grid.chat({}, { headers })).status).toBe(200);
  });

  test("in mid-stream cuts the stream, gives its hold back, and is no open stream any more", async () => {
    const response = grid.chat({ stream: true });
    const [generation] = await grid.asked(1);
    generation?.send([300]);
    const reader = (await response).body?.getReader();
    const first = await reader?.read();
    expect(eventsOf(new TextDecoder().decode(first?.value)).events).not.toEqual([]);
    generation?.send([BAD_TOKEN]);
    await expect(reader?.read()).rejects.toThrow("this token has no text");
    expect(generation?.finishedBy).toBe("cancelled");
    expect(await grid.balance()).toMatchObject({ held: 0 });
    expect(grid.gateway.openRequests()).toBe(0);
    expect(await grid.registry.getSingleMetricAsString("fallow_streams_open")).toMatch(/^fallow_streams_open 0$/m);
  });

  test("because its messages make no token at all is told so, and no node is asked", async () => {
    const empty = await GatewayFixture.open({ ...failing(), tokenize: () => Promise.resolve([]) });
    try {
      const response = await empty.chat();
      expect(response.status).toBe(400);
      expect(await response.json()).toMatchObject({ error: { param: "messages" } });
      expect(empty.generations).toEqual([]);
    } finally {
      await empty.close();
    }
  });
});

test("bodies that are sent slowly and at once are refused beyond what all of them may hold", async () => {
  const crowded = await GatewayFixture.open(failing(), { bodiesBytesMax: 400 });
  crowded.onGenerate = answering(crowded, "yes");
  const stalled = Promise.withResolvers<void>();
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(new Uint8Array(350).fill(0x20)),
    pull: async (controller) => {
      await stalled.promise;
      controller.close();
    },
  });
  const headers = { authorization: `Bearer ${crowded.secret}` };
  const init = { method: "POST", headers, body, duplex: "half" } as const;
  const request = new Request("http://grid.test/v1/chat/completions", init);
  try {
    const slow = crowded.gateway.fetch(request, { remoteAddress: null });
    await vi.waitFor(async () => {
      const refused = await crowded.chat();
      expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "1"]);
    });
    stalled.resolve();
    expect((await slow).status).toBe(400);
    expect((await crowded.chat()).status).toBe(200);
  } finally {
    await crowded.close();
  }
});

test("a model whose vocabulary process died while it was prepared is prepared again", async () => {
  const models = new PreparedModels();
  const tokenizer = { ...failing(), specialTexts: ["<think>"] };
  const served = { manifest: { ...grid.manifest, chatTemplate: "{{ messages }}<think></think>" }, tokenizer };
  faultsLeft = 1;
  await expect(models.prepare(served)).rejects.toMatchObject({ code: "tokenizer-crashed" });
  const prepared = await models.prepare(served);
  expect(prepared.chat.ok).toBe(true);
});

test("kept answers that expired are removed while the grid runs, until it stops", async () => {
  const { store, clock } = grid;
  const sweep = startIdempotencySweep({ store: store.idempotency, clock, log: simLog(() => undefined) });
  const keep = async (key: string) => {
    const atMs = Math.floor(clock.wallMs());
    const terms = { scope: "s", bodySha256: sha256Hex("11".repeat(32)), atMs, expiresAtMs: atMs + SWEEP_MS };
    await store.idempotency.begin({ ...terms, key });
  };
  const expired = () => store.idempotency.sweep({ nowMs: Math.floor(clock.wallMs()), isStart: false });
  await keep("one");
  await grid.pass(SWEEP_MS * 2);
  expect(await expired()).toBe(0);
  sweep.stop();
  await keep("two");
  await grid.pass(SWEEP_MS * 3);
  expect(await expired()).toBe(1);
});

test("an answer that is paid for is delivered although it cannot be kept for replays", async () => {
  const logged: string[] = [];
  const run = {
    finish: () => Promise.reject(new FallowError("store-full", "no room")),
    forget: () => Promise.resolve(),
  };
  const told = { log: simLog(({ event }) => logged.push(event)), requestId: madeId("req", 1) };
  await keepAnswer(run, { status: 200, headersJson: "{}", body: "" }, told);
  expect(logged).toEqual(["answer not kept for replays"]);
});
