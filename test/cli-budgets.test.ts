/** `fallow keys`, `fallow tenants` and `fallow usage` against one real grid, which is killed in the middle of spending. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Grid, makeHome, removeHome, runFallow, startGrid } from "./support/grid.ts";

const STREAMS = 32;
const TOKENS_MAX = 16;

let home: string;
let grid: Grid;
beforeAll(async () => {
  home = makeHome();
  grid = await startGrid({ home, args: ["--tier-price", "flex=0.25"] });
});
afterAll(async () => {
  await grid.stop();
  removeHome(home);
});

const fallow = (...args: readonly string[]) => runFallow(args, { home });

interface Chat {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

async function chat(secret: string, fields: object = {}): Promise<Chat> {
  const messages = [{ role: "user", content: "In the beginning" }];
  const response = await fetch(`${grid.apiUrl}/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
    body: JSON.stringify({ model: "tiny", messages, max_tokens: TOKENS_MAX, ...fields }),
  });
  return { status: response.status, headers: response.headers, text: await response.text() };
}

async function keyRow(keyId: string) {
  const { json } = await fallow("keys", "list", "--json");
  const row = (json as { keys: { keyId: string; spentMicroUsd: number; [name: string]: unknown }[] }).keys.find(
    (one) => one.keyId === keyId,
  );
  if (row === undefined) throw new Error(`${keyId} is in the list`);
  return row;
}

async function makeKey(...options: readonly string[]): Promise<{ keyId: string; secret: string }> {
  const { json } = await fallow("keys", "create", "test", "--json", ...options);
  const made = json as { key: { keyId: string }; secret: string };
  return { keyId: made.key.keyId, secret: made.secret };
}

test("a tenant is made, capped, given credit and a key, and its usage is told apart", async () => {
  const made = await fallow("tenants", "create", "lab", "--monthly", "5", "--rpm", "100");
  expect(made).toMatchObject({ code: 0, stderr: expect.stringContaining("no money yet") });
  const tenant = made.stdout.trim();
  expect(tenant).toMatch(/^ten_/);
  expect((await fallow("ledger", "credit", "1", "--tenant", tenant)).code).toBe(0);
  const { secret } = await makeKey("--tenant", tenant);
  const answer = await chat(secret, { service_tier: "flex" });
  expect([answer.status, answer.headers.get("x-grid-tier"), answer.headers.get("x-grid-node-class")]).toEqual([
    200,
    "flex",
    "cpu",
  ]);
  expect(answer.headers.get("x-grid-queue-ms")).toMatch(/^\d+$/);
  expect((await fallow("tenants", "set", tenant, "--monthly", "none", "--rpm", "7")).stderr).toContain(": 7 rpm");
  const csv = await fallow("usage", "--by", "tenant,tier", "--tenant", tenant, "--csv");
  expect(csv.stdout).toMatch(/^tenant_id,service_tier,requests,prompt_tokens,completion_tokens,cost_usd\r?\n/);
  expect(csv.stdout).toContain(`${tenant},flex,1,`);
  expect((await fallow("usage", "--by", "colour")).stderr).toContain("group_by");
});

test("a key's rules and defaults are set, kept and refused by name", async () => {
  const { keyId, secret } = await makeKey("--region", "mars", "--max-cost", "0.01");
  const refused = await chat(secret);
  expect([refused.status, JSON.parse(refused.text).error.param]).toEqual([503, "grid.regions"]);
  expect((await chat(secret, { grid: { regions: ["eu"] } })).status).toBe(400);
  await fallow("keys", "set", keyId, "--provider-ignore", "far", "--as-default", "--budget", "2", "--budget", "none");
  expect(await keyRow(keyId)).toMatchObject({
    budgetMicroUsd: null,
    preferences: {
      defaults: { provider: { ignore: ["far"] } },
      rules: { grid: { regions: ["mars"], max_cost_usd: 0.01 } },
    },
  });
  await fallow("keys", "set", keyId, "--clear-preferences");
  expect((await keyRow(keyId))["preferences"]).toBeNull();
  expect((await chat(secret)).status).toBe(200);
  expect((await fallow("keys", "create", "--hybrid", "nowhere")).code).toBe(2);
});

test("what a key spent of its month survives a kill of the grid in the middle of spending, to the last micro-dollar", async () => {
  const { keyId, secret } = await makeKey("--monthly", "0.0003");
  const rounds = async (count: number) => {
    const answers: Chat[] = [];
    for (let round = 0; round < count; round++) {
      answers.push(...(await Promise.all(Array.from({ length: STREAMS }, () => chat(secret, { stream: true })))));
    }
    return answers;
  };
  await rounds(1);
  const dying = Promise.allSettled(Array.from({ length: STREAMS }, () => chat(secret, { stream: true })));
  grid.killGroup("SIGKILL");
  await dying;
  await grid.exited;
  grid = await startGrid({ home });
  const answers = await rounds(3);
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200, 429]));
  const last = await chat(secret, { max_tokens: 200 });
  expect([last.status, JSON.parse(last.text).error.code]).toEqual([429, "budget_exceeded"]);
  expect(Number(last.headers.get("retry-after"))).toBeGreaterThan(60);
  const { spentMicroUsd } = await keyRow(keyId);
  expect(spentMicroUsd).toBeLessThanOrEqual(300);
  expect(spentMicroUsd).toBeGreaterThan(300 - 10);
  const usage = await fallow("usage", "--by", "key", "--all", "--json");
  const rows = (usage.json as { usage: { key_id: string; cost_usd: string }[] }).usage;
  expect(rows.find((row) => row.key_id === keyId)?.cost_usd).toBe((spentMicroUsd / 1e6).toFixed(6));
});
