/**
 * Cloud providers by the command line, against a real provider: another grid of ours, which speaks OpenAI's API, as a process of its own. What
 * is shown: keys stay where they are, abilities are found by asking, and what an operator does is told by the metrics.
 */
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { field } from "./support/exchange.ts";
import { type Finished, type Grid, makeHome, removeHome, runFallow, startGrid } from "./support/grid.ts";
import { adminGet } from "./support/grid-console.ts";
import { type HostileUpstream, startHostileUpstream, status, WELL } from "./support/hostile-upstream.ts";

let upstreamHome: string;
let upstream: Grid;
let home: string;
let grid: Grid;
/** Everything that a command or the grid has written. */
const written: string[] = [];

beforeAll(async () => {
  upstreamHome = makeHome();
  home = makeHome();
  upstream = await startGrid({ home: upstreamHome });
  grid = await startGrid({ home, args: ["--no-agent"], env: { UPSTREAM_KEY: upstream.apiKey } });
});
afterAll(async () => {
  await Promise.all([grid.stop(), upstream.stop()]);
  removeHome(home);
  removeHome(upstreamHome);
});

async function providers(args: readonly string[], input?: string): Promise<Finished> {
  const done = await runFallow(["providers", ...args], { home, ...(input === undefined ? {} : { input }) });
  written.push(done.stdout, done.stderr);
  return done;
}

/** By the API that the command asks too. */
async function rowOf(providerId: string): Promise<Row> {
  return field(await adminGet(grid, `/providers/${providerId}`), "provider") as Row;
}
interface Row {
  readonly models: readonly {
    modelId: string;
    price: unknown;
    cost: unknown;
    abilities: Record<string, unknown> | null;
  }[];
  readonly health: { hasCredential: boolean; breaker: string; lastFailure: string | null };
  readonly numbers: { succeeded: number; outputTokens: number; costMicroUsd: number; failed: unknown[] };
  readonly [field: string]: unknown;
}

describe("a provider that is a grid", () => {
  test("is added with its key's name, and what it can do is found by asking", async () => {
    const added = await providers([
      "add",
      "friend",
      upstream.apiUrl,
      ...["--key-env", "UPSTREAM_KEY", "--region", "eu", "--margin", "10"],
      ...["--model", "tiny@1/2", "--model", "far/tiny=tiny@0.5/0.5", "--rpm", "6000"],
    ]);
    expect(added.code, added.stderr).toBe(0);
    expect(added.stderr).toMatch(/costs at most 0\.00\d+ USD/);
    const { models, health, numbers } = await rowOf("friend");
    expect(health).toMatchObject({ hasCredential: true, breaker: "closed" });
    expect(models.map(({ modelId }) => modelId)).toEqual(["tiny", "far/tiny"]);
    expect(models[0]).toMatchObject({
      cost: { inputMicroUsdPerMtok: 1_000_000, outputMicroUsdPerMtok: 2_000_000 },
      price: { inputMicroUsdPerMtok: 1_100_000, outputMicroUsdPerMtok: 2_200_000 },
      abilities: {
        streams: true,
        reportsUsage: true,
        tools: true,
        jsonSchema: true,
        logprobs: true,
        seed: true,
        rawPrompt: true,
      },
    });
    expect(numbers.succeeded).toBeGreaterThan(8);
    expect(numbers.costMicroUsd).toBeGreaterThan(0);
  });

  test("answers a test with text, tokens and what they cost", async () => {
    const { code, json } = await providers(["test", "friend", "In the beginning", "--max-tokens", "8", "--json"]);
    expect(code).toBe(0);
    expect(json).toMatchObject({ modelId: "tiny", failure: null });
    const { usage, costMicroUsd } = json as {
      usage: { promptTokens: number; completionTokens: number };
      costMicroUsd: number;
    };
    expect(usage.completionTokens).toBeLessThanOrEqual(8);
    expect(costMicroUsd).toBe(usage.promptTokens + 2 * usage.completionTokens);
  });

  test("is changed in what is named, and keeps the rest", async () => {
    const change = ["--rpm", "none", "--margin", "50", "--zero-retention", "--remove-model", "far/tiny"];
    expect((await providers(["set", "friend", ...change])).code).toBe(0);
    const row = await rowOf("friend");
    expect(row).toMatchObject({
      requestsPerMinuteMax: null,
      regions: ["eu"],
      dataPolicy: { isZeroRetention: true },
      credential: { kind: "environment", variable: "UPSTREAM_KEY" },
      models: [{ modelId: "tiny", price: { inputMicroUsdPerMtok: 1_500_000 } }],
    });
    expect(row.models[0]?.abilities).not.toBeNull();
  });

  test("is disabled, enabled, listed and removed by name; an unknown one is refused", async () => {
    const unknownRemoved = providers(["remove", "stranger"]);
    expect((await providers(["disable", "friend"])).code).toBe(0);
    expect(await rowOf("friend")).toMatchObject({ isEnabled: false });
    expect((await providers(["enable", "friend"])).code).toBe(0);
    const unknown = await unknownRemoved;
    expect(unknown).toMatchObject({ code: 4 });
    expect(unknown.stderr).toContain("there is no provider called");
    expect(unknown.stderr).toContain("fallow providers list");
  });
});

describe("keys", () => {
  test("come from secrets.json too, seen at once, and nobody else can read that file", async () => {
    expect((await providers(["set", "friend", "--key-secret", "friend"])).stderr).toContain("has no key yet");
    expect((await rowOf("friend")).health.hasCredential).toBe(false);
    const failed = await providers(["test", "friend"]);
    expect(failed.code).toBe(5);
    expect(failed.stderr).toContain("secrets.json of the grid's home has no key called friend");
    expect((await providers(["secret", "set", "friend"], `${upstream.apiKey}\n`)).code).toBe(0);
    expect(statSync(join(home, "secrets.json")).mode & 0o777).toBe(0o600);
    expect((await providers(["test", "friend", "--max-tokens", "2"])).code).toBe(0);
  });

  test("stand in no output, no log and no file but secrets.json", () => {
    const { apiKey } = upstream;
    expect(written.join("\n")).not.toContain(apiKey.slice(-12));
    expect(grid.log()).not.toContain(apiKey.slice(-12));
    const holding = readdirSync(home, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .filter((path) => readFileSync(path).includes(apiKey.slice(-12)));
    expect(holding).toEqual([join(home, "secrets.json")]);
  });
});

describe("a provider that fails", () => {
  let hostile: HostileUpstream;
  beforeAll(async () => {
    hostile = await startHostileUpstream();
  });
  afterAll(() => hostile.stop());

  test("is added all the same, with exit code 5 and the reason, and says later why it is left alone", async () => {
    hostile.act(status(401, { error: { message: "no such key" } }));
    const added = await providers(["add", "broken", hostile.baseUrl, "--model", "m@0/0"]);
    expect(added.code).toBe(5);
    expect(added.stderr).toContain("it answered 401: no such key");
    const { health } = await rowOf("broken");
    expect(health).toMatchObject({ breaker: "open" });
    expect(health.lastFailure).toContain("401");
    expect((await providers(["list"])).stdout).toMatch(/broken +failing until/);
    hostile.act(WELL);
    expect((await providers(["test", "broken"])).stdout).toBe("Hello there\n");
    expect((await rowOf("broken")).health).toMatchObject({ breaker: "closed", lastFailure: null });
  });

  test.each([
    [["add", "x", "http://api.example.com/v1", "--model", "m@0/0"], 4, "in the clear"],
    [["add", "friend", "https://api.example.com/v1", "--model", "m@0/0"], 4, "already"],
  ])("%j is refused with the reason", async (args, code, why) => {
    const refused = await providers(args);
    expect(refused.code, refused.stderr).toBe(code);
    expect(refused.stderr).toContain(why);
  });
});

test("a file in TOML makes the grid's providers what it says, and says first what would change", async () => {
  const file = join(home, "providers.toml");
  writeFileSync(
    file,
    `[[providers]]
id = "acme"
base_url = "https://api.acme.example/v1"
key_env = "ACME_KEY"
regions = ["us"]
margin_percent = 20
[[providers.models]]
id = "acme/large"
upstream = "large-2"
cost_in_usd = 0.15
cost_out_usd = 0.6
context_tokens = 128000
`,
  );
  const dry = await providers(["apply", file, "--prune", "--dry-run", "--json"]);
  const changes = [
    { providerId: "acme", action: "add" },
    { providerId: "broken", action: "remove" },
    { providerId: "friend", action: "remove" },
  ];
  expect(dry.json).toEqual({ changes, isDryRun: true });
  expect((await providers(["apply", file])).stderr).toContain("ACME_KEY is not set");
  expect((await providers(["apply", file, "--json"])).json).toMatchObject({ changes: [{ action: "keep" }] });
  expect((await rowOf("acme")).models[0]).toMatchObject({
    price: { inputMicroUsdPerMtok: 180_000, outputMicroUsdPerMtok: 720_000 },
    contextTokensMax: 128_000,
  });
  writeFileSync(file, readFileSync(file, "utf8").replace("0.15", '"cheap"'));
  const wrong = await providers(["apply", file]);
  expect(wrong.code).toBe(2);
  expect(wrong.stderr).toContain("providers[0].models[0].cost_in_usd");
});

test("metrics tell of requests, tokens, cost and breakers", async () => {
  const metrics = await (
    await fetch(`${grid.baseUrl}/metrics`, { headers: { authorization: `Bearer ${grid.apiKey}` } })
  ).text();
  const { succeeded, outputTokens, costMicroUsd } = (await rowOf("friend")).numbers;
  expect(succeeded).toBeGreaterThan(8);
  expect(metrics).toContain(`fallow_cloud_requests_total{provider="friend",outcome="succeeded"} ${succeeded}`);
  expect(metrics).toContain(`fallow_cloud_tokens_total{provider="friend",direction="output"} ${outputTokens}`);
  expect(metrics).toContain(`fallow_cloud_cost_usd_total{provider="friend"} ${costMicroUsd / 1e6}`);
  expect(metrics).toContain('fallow_cloud_breakers{provider="friend",state="closed"} 1');
});
