/** Holds that answers do not wait for, and what happens when one fails after all. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { HoldRequest } from "../src/coordinator/settlement/settlement.ts";
import { FallowError } from "../src/domain/fault.ts";
import { microUsd } from "../src/domain/money.ts";
import type { Tokenizer } from "../src/ports/tokenizer.ts";
import { answering, eventsOf, GatewayFixture } from "./support/gateway-fixture.ts";
import { openTiny } from "./support/tokenizer-fixture.ts";

let tokenizer: Tokenizer;
let closeTokenizer: () => Promise<void>;
let grid: GatewayFixture;

beforeAll(async () => {
  ({ tokenizer, close: closeTokenizer } = await openTiny());
});
afterAll(async () => {
  await closeTokenizer();
});
beforeEach(async () => {
  grid = await GatewayFixture.open(tokenizer);
});
afterEach(async () => {
  await grid.close();
});

/** A key that was served before, by a tenant whose balance was read. */
async function known(): Promise<void> {
  grid.onGenerate = answering(grid, "yes");
  for (let asked = 0; asked < 2; asked++) expect((await grid.chat({ max_tokens: 10 })).status).toBe(200);
  await grid.pass(1_001);
  expect((await grid.chat({ max_tokens: 10 })).status).toBe(200);
}

/** Holds that wait until the test lets them go on, or fails them. */
function gated(): { open: () => void; break: () => void } {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  grid.onHold = async (request: HoldRequest) => {
    await promise;
    return grid.settlement.hold(request);
  };
  return { open: resolve, break: () => reject(new FallowError("store-unavailable", "the disk is gone")) };
}

/** Whatever can go on without the test has gone on by then. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 200; turn++) await new Promise((resolve) => setImmediate(resolve));
}

describe("a hold", () => {
  test("of a key that nobody knows yet comes before its generation", async () => {
    const gate = gated();
    grid.onGenerate = answering(grid, "yes");
    const response = grid.chat();
    await turns();
    expect(grid.generations).toHaveLength(0);
    gate.open();
    expect((await response).status).toBe(200);
  });

  test("that the balance surely covers is not waited for, but for the end of the answer", async () => {
    await known();
    const gate = gated();
    const response = await grid.chat({ stream: true, max_tokens: 10 });
    const reader = response.body?.getReader();
    const first = await reader?.read();
    expect(new TextDecoder().decode(first?.value)).toContain("yes");
    const leaves = await grid.store.receipts.leafCount();
    const rest = reader?.read();
    gate.open();
    expect(new TextDecoder().decode((await rest)?.value)).toContain("[DONE]");
    expect(await grid.store.receipts.leafCount()).toBe(leaves + 1);
    expect((await grid.balance()).held).toBe(0);
  });

  test("that cannot be written after all ends the stream in an error, and nothing is charged", async () => {
    await known();
    const spent = await grid.spent();
    const gate = gated();
    grid.onGenerate = (generation) => generation.send([300, 301]);
    const response = await grid.chat({ stream: true, max_tokens: 10 });
    gate.break();
    const { events, isDone } = eventsOf(await response.text());
    expect(isDone).toBe(false);
    expect(events.at(-1)?.error).toMatchObject({ code: "storage_unavailable" });
    expect(grid.generations.at(-1)?.finishedBy).toBe("cancelled");
    expect(await grid.spent()).toBe(spent);
    // The next one waits for its hold again.
    grid.onHold = (request) => grid.settlement.hold(request);
    grid.onGenerate = answering(grid, "yes");
    expect((await grid.chat({ max_tokens: 10 })).status).toBe(200);
  });

  test("beyond what the balance surely covers is waited for before the first byte", async () => {
    await known();
    const { available } = await grid.balance();
    const gate = gated();
    grid.onGenerate = (generation) => generation.send([300]);
    // Each asks for all that is left: the first is covered, the second could not be.
    const tokens = 900;
    const each = 2 * tokens * 8;
    const asked = Array.from({ length: Math.floor(available / each) + 2 }, () =>
      grid.chat({ stream: true, max_tokens: tokens, n: 8 }).then((response) => response.status),
    );
    let isAnswered = false;
    void asked.at(-1)?.then(() => (isAnswered = true));
    await turns();
    expect(isAnswered).toBe(false);
    gate.open();
    const statuses = await Promise.all(asked);
    expect(statuses[0]).toBe(200);
    expect(statuses.at(-1)).toBe(429);
    expect((await grid.balance()).available).toBeGreaterThanOrEqual(0);
  });

  test("that is refused cancels what was begun, and the key waits from then on", async () => {
    grid.onGenerate = answering(grid, "yes");
    await grid.addKey(31, "fal_small-budget", { budgetMicroUsd: microUsd(2_500) });
    const headers = { authorization: "Bearer fal_small-budget" };
    expect((await grid.chat({ max_tokens: 900 }, { headers })).status).toBe(200);
    grid.onGenerate = (generation) => generation.send([300]);
    const asked = [0, 1].map(() => grid.chat({ max_tokens: 900, stream: true }, { headers }));
    expect((await Promise.all(asked)).map((response) => response.status)).toEqual([200, 429]);
    expect(grid.generations.map((generation) => generation.finishedBy)).toEqual([null, null, "cancelled"]);
    expect((await grid.chat({ max_tokens: 900 }, { headers })).status).toBe(429);
    expect(grid.generations).toHaveLength(3);
    await (await asked[0])?.body?.cancel();
  });
});
