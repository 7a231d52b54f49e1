/** The commands against one real grid: coordinator, agent process, engine. */
import { copyFileSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Grid, makeHome, removeHome, runFallow, startAgent, startGrid } from "./support/grid.ts";

const TINY = fileURLToPath(new URL("../models/tiny-q8_0.gguf", import.meta.url));

let grid: Grid;
let scratch: string;
beforeAll(async () => {
  scratch = makeHome();
  grid = await startGrid();
});
afterAll(async () => {
  await grid.stop();
  removeHome(scratch);
});

const fallow = (...args: readonly string[]) => runFallow(args, { home: grid.home });

describe("fallow up --json", () => {
  test("stdout holds the ready line and nothing else", () => {
    expect(grid.events()).toHaveLength(1);
    const [ready] = grid.events();
    expect(ready).toEqual({
      event: "ready",
      apiUrl: `${grid.baseUrl}/v1`,
      baseUrl: grid.baseUrl,
      apiKey: expect.stringMatching(/^fal_[A-Za-z0-9_-]{43}$/),
      joinCode: expect.stringMatching(/^fallow1_/),
      dashboardUrl: `${grid.baseUrl}/#key=${grid.apiKey}`,
    });
  });

  test("a stock OpenAI client with apiUrl and apiKey gets an answer", async () => {
    const client = new OpenAI({ baseURL: grid.apiUrl, apiKey: grid.apiKey, maxRetries: 0 });
    const answer = await client.chat.completions.create({
      model: "tiny",
      messages: [{ role: "user", content: "In the beginning" }],
      max_completion_tokens: 8,
    });
    expect(answer.choices[0]?.message.content).not.toBe("");
    expect(answer.usage?.completion_tokens).toBeGreaterThan(0);
  });

  test("secrets are readable by their owner only", () => {
    expect(statSync(grid.home).mode & 0o077).toBe(0);
    expect(statSync(join(grid.home, "home.json")).mode & 0o077).toBe(0);
  });

  test("a second up on the same home is refused and names the process and its address", async () => {
    const { code, stderr } = await fallow("up", "--port", "0");
    expect(code).toBe(4);
    expect(stderr).toContain(`process ${grid.pid}, at ${grid.baseUrl}`);
    expect(stderr).toContain("--home");
  });

  test("a port that is taken is refused with the process that holds it", async () => {
    const port = new URL(grid.baseUrl).port;
    const { code, stderr } = await runFallow(["up", "--port", port], { home: join(scratch, "other") });
    expect(code).toBe(1);
    expect(stderr).toContain(`port ${port} is taken by process ${grid.pid}`);
    expect(stderr).toContain("--port");
  });
});

describe("status, nodes and models", () => {
  test("status shows the node, the replica and the model", async () => {
    const { code, json } = await fallow("status", "--json");
    expect(code).toBe(0);
    expect(json).toMatchObject({
      nodes: [{ state: "online", devices: expect.arrayContaining([expect.objectContaining({ deviceId: "cpu" })]) }],
      replicas: [{ modelId: "tiny", state: "ready" }],
      models: [{ modelId: "tiny", architecture: "llama", quantisation: "Q8_0", replicasReady: 1 }],
    });
    const people = await fallow("status");
    expect(people.stdout).toContain("tiny");
    expect(people.stdout).toContain("online");
  });

  test("status --explain tells why a request went where it went, and of an unknown one that it is not known", async () => {
    const client = new OpenAI({ baseURL: grid.apiUrl, apiKey: grid.apiKey, maxRetries: 0 });
    const call = { model: "tiny", messages: [{ role: "user", content: "Explain" } as const], max_completion_tokens: 4 };
    const { response } = await client.chat.completions.create(call).withResponse();
    const requestId = response.headers.get("x-request-id") ?? "";
    const { code, json } = await fallow("status", "--explain", requestId, "--json");
    expect(code).toBe(0);
    expect(json).toMatchObject({
      requestId,
      modelId: "tiny",
      constraints: null,
      choices: [{ choice: 0, state: "done", decisions: [{ kind: "leased", candidates: [{ parts: { load: 0 } }] }] }],
    });
    const people = await fallow("status", "--explain", requestId);
    expect(people.stdout).toContain("Choice 0: done");
    expect(people.stdout).toMatch(/leased on node_[0-9a-f]{32} \(lease_/);
    const unknown = await fallow("status", "--explain", "req_00000000000000000000000000");
    expect(unknown.code).toBe(4);
    expect(unknown.stderr).toContain("req_00000000000000000000000000");
    expect(unknown.stderr).toContain("among the last 1000");
    expect((await fallow("status", "--explain", "nonsense")).code).toBe(4);
  });

  test("plan shows where the model is held, what the plan is worth and its gap, and takes no options of a cluster file", async () => {
    const { code, json } = await fallow("plan", "--json");
    expect(code).toBe(0);
    expect(json).toMatchObject({
      plan: {
        nodes: 1,
        gap: expect.any(Number),
        boundMicroUsdPerHour: expect.any(Number),
        models: [{ modelId: "tiny", replicas: [{ kind: "whole", isHeld: true, quantisation: "Q8_0" }] }],
      },
    });
    const { stdout } = await fallow("plan");
    expect(stdout).toMatch(/ago, in \d+ ms, over 1 node\n/);
    expect(stdout).toMatch(/tiny\nNODES .*\nnode_[0-9a-f]+ +whole +Q8_0/);
    expect(await fallow("plan", "--html", join(scratch, "plan.html"))).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("--html belongs to planning a cluster file"),
    });
  });

  test("a drained node takes no request, and works again after undrain", async () => {
    const { json } = await fallow("nodes", "list", "--json");
    const { nodes } = json as { nodes: { nodeId: string; name: string }[] };
    const node = nodes[0]?.nodeId ?? "";
    expect((await fallow("nodes", "drain", node)).code).toBe(0);
    const drained = (await fallow("nodes", "--json")).json as { nodes: { state: string }[] };
    expect(drained.nodes[0]?.state).toBe("draining");
    expect((await fallow("nodes", "undrain", nodes[0]?.name ?? "")).code).toBe(0);
    expect((await fallow("chat", "hello", "--max-tokens", "4")).code).toBe(0);
  });

  test("an unknown node is exit code 4", async () => {
    const { code, stderr } = await fallow("nodes", "drain", "nobody");
    expect(code).toBe(4);
    expect(stderr).toContain("nobody");
  });

  test("a good GGUF is registered with the facts in the file, shown, and removed", async () => {
    const file = join(scratch, "second.gguf");
    copyFileSync(TINY, file);
    const added = await fallow(
      "models",
      "add",
      file,
      "--id",
      "second",
      "--price-out",
      "500000",
      "--warm",
      "0",
      "--json",
    );
    expect(added.stderr).toBe("");
    expect(added.json).toMatchObject({
      model: {
        modelId: "second",
        layerCount: 4,
        vocabSize: 2048,
        contextTokensMax: 1024,
        outputMicroUsdPerMtok: 500_000,
      },
    });
    expect((await fallow("models", "show", "second")).stdout).toContain("Q8_0");
    expect((await fallow("models", "rm", "second")).code).toBe(0);
    expect((await fallow("models", "show", "second")).code).toBe(4);
  });

  test.each([
    ["truncated", (file: string) => writeFileSync(file, readFileSync(TINY).subarray(0, 1_000_000))],
    ["not GGUF at all", (file: string) => writeFileSync(file, "PNG or something")],
    ["empty", (file: string) => writeFileSync(file, "")],
    ["missing", () => undefined],
  ])("a file that is %s is refused with the reason, exit code 4", async (name, make) => {
    const file = join(scratch, `${name.replaceAll(" ", "-")}.gguf`);
    make(file);
    const { code, stderr } = await fallow("models", "add", file, "--id", "broken");
    expect(stderr).not.toBe("");
    expect(code).toBe(4);
    expect((await fallow("models", "show", "broken")).code).toBe(4);
  });
});

describe("keys", () => {
  test("a created key works, a revoked one is met with 401", async () => {
    const made = await fallow("keys", "create", "test", "--json");
    const { key, secret } = made.json as { key: { keyId: string; scopes: string[] }; secret: string };
    expect(key.scopes).toEqual(["inference", "usage"]);
    const models = () => fetch(`${grid.apiUrl}/models`, { headers: { authorization: `Bearer ${secret}` } });
    expect((await models()).status).toBe(200);
    expect((await fallow("keys", "revoke", key.keyId)).code).toBe(0);
    expect((await models()).status).toBe(401);
    expect((await fallow("keys", "revoke", key.keyId)).code).toBe(4);
    const { stdout } = await fallow("keys");
    expect(stdout).toContain("revoked");
    expect(stdout).not.toContain(secret);
  });

  test("a key without the scope admin is exit code 4", async () => {
    const { secret } = (await fallow("keys", "create", "plain", "--json")).json as { secret: string };
    const { code, stderr } = await fallow("nodes", "--key", secret);
    expect(code).toBe(4);
    expect(stderr).toContain("admin");
  });

  test("a wrong key is exit code 4 and says where a right one comes from", async () => {
    const { code, stderr } = await fallow("status", "--key", "fal_wrong");
    expect(code).toBe(4);
    expect(stderr).toContain("--key");
  });
});

describe("chat, receipts and ledger", () => {
  test("one question gets its answer on stdout, and tokens, node and cost on stderr", async () => {
    const { code, stdout, stderr } = await fallow("chat", "Who made the heaven?", "--max-tokens", "24", "--seed", "7");
    expect(code).toBe(0);
    expect(stdout.trim()).not.toBe("");
    expect(stderr).toMatch(/\[\d+ tokens \| .*tokens\/s \| first after .* \| on .* \| 0\.\d{6} USD \| rcpt_/);
  });

  test("the same seed gives the same answer", async () => {
    const ask = () => fallow("chat", "Say something", "--max-tokens", "16", "--seed", "11", "--json");
    const [first, second] = [await ask(), await ask()];
    expect((first.json as { text: string }).text).toBe((second.json as { text: string }).text);
  });

  test("lines on stdin are a conversation", async () => {
    const { code, stdout } = await runFallow(["chat", "--max-tokens", "8", "--json"], {
      home: grid.home,
      input: "first\n/new\nsecond\n/exit\n",
    });
    expect(code).toBe(0);
    expect(stdout.trim().split("\n")).toHaveLength(2);
  });

  test("an unknown model is exit code 4", async () => {
    expect((await fallow("chat", "hello", "--model", "nothing")).code).toBe(4);
  });

  test("a receipt verifies offline, and one with a changed price does not", async () => {
    const { requestId, costMicroUsd } = (await fallow("chat", "hello", "--max-tokens", "8", "--json")).json as {
      requestId: string;
      costMicroUsd: number;
    };
    const file = join(scratch, "receipt.json");
    expect((await fallow("receipts", "get", requestId, "--out", file)).code).toBe(0);
    const good = await runFallow(["receipts", "verify", file, "--json"]);
    expect(good.json).toMatchObject({ isValid: true });
    expect(good.code).toBe(0);
    const { publicKeyHex } = (await fallow("status", "--json")).json as { publicKeyHex: string };
    expect((await runFallow(["receipts", "verify", file, "--coordinator-key", publicKeyHex])).code).toBe(0);
    const foreign = await runFallow(["receipts", "verify", file, "--coordinator-key", "00".repeat(32)]);
    expect(foreign.stdout).toMatch(/FAILED {2}coordinator-key/);
    expect(foreign.code).toBe(5);
    const receipt = JSON.parse(readFileSync(file, "utf8"));
    expect(receipt.body.costMicroUsd).toBe(costMicroUsd);
    receipt.body.costMicroUsd += 1;
    writeFileSync(file, JSON.stringify(receipt));
    const bad = await runFallow(["receipts", "verify", file]);
    expect(bad.code).toBe(5);
    expect(bad.stdout).toMatch(/FAILED {2}coordinator-signature/);
  });

  test("a key with the scope usage lists its tenant's receipts, and one without it is refused", async () => {
    const { receiptId } = (await fallow("chat", "hello", "--max-tokens", "4", "--json")).json as { receiptId: string };
    const keyWith = async (scopes: string) =>
      ((await fallow("keys", "create", "--scopes", scopes, "--json")).json as { secret: string }).secret;
    const listed = await fallow("receipts", "list", "--limit", "1", "--key", await keyWith("usage"), "--json");
    expect(listed.code).toBe(0);
    expect(listed.json).toMatchObject({ receipts: [{ id: receiptId, model: "tiny", completion_tokens: 4 }] });
    const shown = await fallow("receipts", "--key", await keyWith("usage"));
    expect(shown.stdout).toMatch(new RegExp(`${receiptId}.*tiny`));
    expect((await fallow("receipts", "list", "--key", await keyWith("inference"))).code).toBe(4);
  });

  test("the books balance, and credit reaches the tenant once per reference", async () => {
    expect((await fallow("ledger", "check")).code).toBe(0);
    const balance = async () => {
      const { accounts } = (await fallow("ledger", "accounts", "--json")).json as {
        accounts: { accountId: string; availableMicroUsd: number }[];
      };
      return accounts.find(({ accountId }) => accountId.startsWith("tenant:"))?.availableMicroUsd ?? 0;
    };
    const before = await balance();
    expect((await fallow("ledger", "credit", "2.5", "--reference", "gift-1")).code).toBe(0);
    await fallow("ledger", "credit", "2.5", "--reference", "gift-1");
    expect(await balance()).toBe(before + 2_500_000);
    expect((await fallow("ledger", "transfers", "--limit", "1")).stdout).toContain("house-credit");
  });
});

describe("join", () => {
  test("another home joins, serves, shows up, and comes back without a code", async () => {
    const home = join(scratch, "agent-home");
    mkdirSync(home, { mode: 0o700 });
    const first = await startAgent(grid.joinCode, { home, args: ["--name", "second-node"], until: "online" });
    const names = async () =>
      ((await fallow("nodes", "--json")).json as { nodes: { name: string; nodeId: string; state: string }[] }).nodes;
    expect((await names()).find(({ name }) => name === "second-node")).toMatchObject({
      state: "online",
      nodeId: first.nodeId,
    });
    expect(await first.stop()).toBe(0);
    const again = await startAgent(null, { home, until: "online" });
    expect(again.nodeId).toBe(first.nodeId);
    expect((await fallow("nodes", "remove", again.nodeId)).code).toBe(0);
    expect(await again.exited).toBe(4);
    await again.stop();
    const removed = await runFallow(["join"], { home });
    expect(removed.code).toBe(4);
  });

  test("a code for one machine is refused to the second, exit code 4", async () => {
    const { joinCode } = (await fallow("join-code", "--uses", "1", "--json")).json as { joinCode: string };
    const first = await startAgent(joinCode, { until: "online" });
    const second = await runFallow(["join", joinCode], { home: join(scratch, "late-home") });
    expect(second.code).toBe(4);
    expect(second.stderr).toContain("used by as many nodes as it allows");
    await first.stop();
  });
});

describe("the operator's API", () => {
  const ask = (method: string, path: string, body?: string) =>
    fetch(`${grid.baseUrl}/admin/v1/${path}`, {
      method,
      headers: { authorization: `Bearer ${grid.apiKey}`, "content-type": "application/json" },
      ...(body === undefined ? {} : { body }),
    });

  test.each([
    ["POST", "keys", "{", 400],
    ["POST", "keys", "[]", 400],
    ["POST", "keys", '{"name":"x","scopes":["root"]}', 400],
    ["POST", "keys", '{"name":"x","budget":5}', 400],
    ["POST", "models", '{"path":7}', 400],
    ["POST", "models", `{"path":"${"x".repeat(70_000)}"}`, 413],
    ["POST", "join-codes", '{"usesMax":0}', 400],
    ["POST", "ledger/credit", '{"amountMicroUsd":-5}', 400],
    ["POST", "ledger/credit", '{"amountMicroUsd":1.5}', 400],
    ["POST", "ledger/credit", '{"amountMicroUsd":5,"tenantId":"ten_00000000000000000000000000"}', 404],
    ["GET", "ledger/transfers?account=../../etc", undefined, 404],
    ["DELETE", "keys/%00", undefined, 404],
    ["DELETE", "models/%2e%2e%2fx", undefined, 404],
    ["POST", "nodes/node_0/drain", undefined, 404],
  ])("%s %s with %j is %d with an error object", async (method, path, body, status) => {
    const answer = await ask(method, path, body);
    expect(answer.status).toBe(status);
    expect(await answer.json()).toMatchObject({ error: { message: expect.any(String), type: expect.any(String) } });
  });

  test("without a key it is 401, and what is answered may not be read by another site", async () => {
    const answer = await fetch(`${grid.baseUrl}/admin/v1/status`, { headers: { origin: "https://elsewhere.example" } });
    expect(answer.status).toBe(401);
    expect(answer.headers.get("access-control-allow-origin")).toBeNull();
  });

  test("a list asked for without sense has the usual length", async () => {
    for (const limit of ["-1", "x", "1e9", ""]) expect((await ask("GET", `requests?limit=${limit}`)).status).toBe(200);
  });
});
