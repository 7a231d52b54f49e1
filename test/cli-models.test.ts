/** `fallow models` as an operator uses it: a real grid, a real hub on this machine, kills and Ctrl-C in the middle. */
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TINY_PATH } from "./support/engine-fixture.ts";
import { exchange, field, list, parsed } from "./support/exchange.ts";
import { type Grid, MAIN, makeHome, removeHome, runFallow, startGrid } from "./support/grid.ts";
import { adminGet, until } from "./support/grid-console.ts";
import { type HubServer, startHubServer } from "./support/hub-server.ts";
import { findSharedData } from "./support/shared-data.ts";

const shared = findSharedData();
const TINY = readFileSync(TINY_PATH);
const CHUNK = 1024 * 1024;
const KILLS = 3;

let hub: HubServer;
let home: string;
let grid: Grid;
let scratch: string;
let env: Record<string, string>;
beforeAll(async () => {
  hub = await startHubServer();
  home = makeHome();
  scratch = mkdtempSync(join(tmpdir(), "fallow-cli-models-"));
  env = {
    HF_ENDPOINT: hub.url,
    HF_TOKEN_PATH: join(scratch, "no-token"),
    FALLOW_HUB_HOSTS: hub.contentHost,
  };
  grid = await startGrid({ home, env, args: ["--no-agent"] });
});
afterAll(async () => {
  await grid.stop();
  await hub[Symbol.asyncDispose]();
  removeHome(home);
  rmSync(scratch, { recursive: true });
});

const fallow = (...args: string[]) => runFallow(["models", ...args], { home });
const jobs = async () => list(field(await adminGet(grid, "/model-jobs"), "jobs"));
const bytesOf = (fill: number) => Buffer.concat([TINY, Buffer.alloc(32, fill)]);

/** Resolves when a job has so many bytes. */
async function untilBytes(bytes: number): Promise<void> {
  await until(`${bytes} bytes came`, async () =>
    (await jobs()).some((job) => Number(field(job, "doneBytes")) >= bytes && field(job, "state") === "running"),
  );
}

describe("models", () => {
  test("add of a hub's model shows progress, says what was chosen and registers it", async () => {
    hub.put("owner/a", { files: { "a-Q8_0.gguf": bytesOf(1), "a-Q4_K_M.gguf": bytesOf(2) }, licence: "mit" });
    const added = await fallow("add", "hf:owner/a", "--warm", "0");
    expect(added.code, added.stderr).toBe(0);
    expect(added.stderr).toMatch(/a-Q4_K_M\.gguf is taken \(Q4_K_M\) of 2/);
    expect(added.stderr).toMatch(/a-q4_k_m is registered \(3\.0 MiB fetched\)/);
    const shown = await fallow("show", "a-q4_k_m");
    expect(shown.stdout).toMatch(/licence +mit/);
    expect(shown.stdout).toMatch(new RegExp(`source +hf:owner/a@${hub.commit}:a-Q4_K_M\\.gguf`));
    expect(shown.stdout).toMatch(/chunks +3 of 1\.0 MiB/);
    expect(shown.stdout).toMatch(/parts .*4 layers of/);
  });

  test("add with --json prints progress and the result, one value per line; again it costs nothing", async () => {
    hub.put("owner/b", { files: { "b-Q8_0.gguf": bytesOf(3) } });
    const added = await fallow("add", "hf:owner/b", "--warm", "0", "--json");
    const lines = added.stdout.trim().split("\n").map(parsed);
    expect(lines.slice(0, -1).every((line) => field(line, "event") === "progress")).toBe(true);
    expect(added.json).toMatchObject({
      model: { modelId: "b-q8_0" },
      job: { state: "done", fetchedBytes: TINY.length + 32 },
    });
    expect(added.stderr).toBe("");
    const sent = hub.bytesSent();
    const again = await fallow("add", "hf:owner/b", "--id", "other-name", "--warm", "0", "--json");
    expect(again.json).toMatchObject({ model: { modelId: "other-name" }, job: { fetchedBytes: 0 } });
    expect(hub.bytesSent()).toBe(sent);
  });

  test.skipIf(shared === null)("a draft is named when a model is added, shown, changed and taken away", async () => {
    const draft = join(shared ?? "", "models/tiny-draft-q8_0.gguf");
    expect(await fallow("add", draft, "--id", "small", "--warm", "0")).toMatchObject({ code: 0 });
    const added = await fallow("add", TINY_PATH, "--id", "drafted", "--warm", "0", "--draft", "small");
    expect(added.code, added.stderr).toBe(0);
    expect((await fallow("show", "drafted")).stdout).toMatch(/draft model +small/);
    expect((await fallow("draft", "drafted", "none")).stdout).toMatch(/no model drafts for drafted/);
    expect((await fallow("draft", "drafted", "--json")).json).toEqual({ modelId: "drafted", draftModelId: null });
    expect((await fallow("draft", "drafted", "small")).stdout).toMatch(/small drafts for drafted/);
    const models = list(field((await fallow("list", "--json")).json, "models"));
    expect(models.find((model) => field(model, "modelId") === "drafted")).toMatchObject({ draftModelId: "small" });
    const refused = await fallow("draft", "small", "drafted");
    expect(refused.code).toBe(4);
    expect(refused.stderr).toMatch(/drafted cannot draft for small: it has \d+ parameters, at most/);
  });

  test("what the hub refuses is told in its words with exit code 4", async () => {
    const refused = await fallow("add", "hf:owner/none");
    expect(refused).toMatchObject({ code: 4, stderr: expect.stringMatching(/Repository not found.*HF_TOKEN/s) });
    const choice = await fallow("add", "hf:owner/a:Q2_K");
    expect(choice).toMatchObject({
      code: 4,
      stderr: expect.stringMatching(/it has a-Q4_K_M\.gguf \(Q4_K_M\), a-Q8_0/),
    });
  });

  test("verify names damaged chunks with exit code 5, pull fetches those and no others", async () => {
    hub.put("owner/c", { files: { "c-Q8_0.gguf": bytesOf(4) } });
    expect((await fallow("pull", "hf:owner/c", "--json")).json).toMatchObject({
      model: { modelId: "c-q8_0", warmReplicas: 0 },
    });
    expect(await fallow("verify", "c-q8_0")).toMatchObject({
      code: 0,
      stderr: expect.stringMatching(/is whole: 3 chunks/),
    });
    const sha256 = String(field(field((await fallow("show", "c-q8_0", "--json")).json, "model"), "weightsSha256"));
    const path = join(home, "models", `${sha256}.gguf`);
    const bytes = bytesOf(4);
    bytes[500_000] = (bytes[500_000] ?? 0) ^ 1;
    writeFileSync(path, bytes);
    const damaged = await fallow("verify", "c-q8_0");
    expect(damaged).toMatchObject({
      code: 5,
      stderr: expect.stringMatching(/damaged \(1 chunk\): c-Q8_0\.gguf: chunks 0/),
    });
    expect((await fallow("pull", "c-q8_0", "--json")).json).toMatchObject({
      isWhole: true,
      mendedChunks: 1,
      fetchedBytes: CHUNK,
    });
    expect(readFileSync(path).equals(bytesOf(4))).toBe(true);
  });

  test("Ctrl-C keeps what came and says how to go on; the same command does", async () => {
    hub.put("owner/d", { files: { "d-Q8_0.gguf": bytesOf(5) } });
    hub.plans.push({ kind: "hold", afterBytes: 2 * CHUNK + 10 });
    const child = spawn(process.execPath, [MAIN, "models", "add", "hf:owner/d", "--warm", "0"], {
      env: { ...process.env, FALLOW_HOME: home },
      stdio: "pipe",
    });
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    const code = new Promise((resolve) => child.once("close", resolve));
    await untilBytes(2 * CHUNK + 10);
    await until("the command shows it", () => stderr.includes("fetching"));
    child.kill("SIGINT");
    expect(await code).toBe(130);
    expect(stderr).toMatch(/2\.0 MiB are kept: run the same command again/);
    const listed = await fallow("jobs");
    expect(listed.stdout).toMatch(/paused +2\.0 MiB +3\.0 MiB .*hf:owner\/d/);
    const again = await fallow("add", "hf:owner/d", "--warm", "0", "--json");
    expect(again.json).toMatchObject({
      model: { modelId: "d-q8_0" },
      job: { fetchedBytes: TINY.length + 32 - 2 * CHUNK },
    });
  });

  test("a job goes on by itself when nobody waits, and is cancelled without a trace", async () => {
    hub.put("owner/e", { files: { "e-Q8_0.gguf": bytesOf(6) } });
    hub.plans.push({ kind: "hold", afterBytes: CHUNK });
    const begun = await fallow("add", "hf:owner/e", "--detach", "--json");
    expect(begun.code).toBe(0);
    await untilBytes(CHUNK);
    const jobId = String(field(field(begun.json, "job"), "jobId"));
    expect((await fallow("cancel", jobId)).code).toBe(0);
    expect((await fallow("cancel", jobId)).code).toBe(4);
    expect(readdirSync(join(home, "models", "incoming"))).toEqual([]);
    expect((await fallow("show", "e-q8_0")).code).toBe(4);
  });
});

test("up takes a reference for its model, and is ready when the model came", async () => {
  hub.put("owner/up", { files: { "up-Q8_0.gguf": bytesOf(8) } });
  const own = await startGrid({ env, args: ["--no-agent", "--model", "hf:owner/up"] });
  try {
    const models = list(field(await adminGet(own, "/models"), "models"));
    expect(models.map((model) => field(model, "modelId"))).toContain("up-q8_0");
  } finally {
    await own.stop();
  }
});

test("a coordinator that is killed in the middle goes on at its next start, and fetches no more than a chunk twice", async () => {
  const file = bytesOf(7);
  hub.put("owner/k", { files: { "k-Q8_0.gguf": file } });
  const sent = hub.bytesSent();
  let refetched = 0;
  hub.plans.push({ kind: "hold", afterBytes: CHUNK + 700_000 });
  await fallow("add", "hf:owner/k", "--warm", "0", "--detach");
  let there = CHUNK + 700_000;
  for (let kill = 0; kill < KILLS; kill++) {
    await untilBytes(there);
    grid.killGroup("SIGKILL");
    await grid.exited;
    refetched += there % CHUNK;
    const kept = there - (there % CHUNK);
    const more = kill < KILLS - 1 ? 900_000 : file.length - kept;
    if (kill < KILLS - 1) hub.plans.push({ kind: "hold", afterBytes: more });
    there = kept + more;
    grid = await startGrid({ home, env, args: ["--no-agent"] });
  }
  await until("it is registered", async () =>
    list(field(await adminGet(grid, "/models"), "models")).some((model) => field(model, "modelId") === "k-q8_0"),
  );
  expect(hub.bytesSent() - sent).toBe(file.length + refetched);
  expect(refetched).toBeLessThanOrEqual(KILLS * CHUNK);
  expect(await fallow("verify", "k-q8_0")).toMatchObject({ code: 0 });
  expect((await exchange({ url: `${grid.baseUrl}/v1/models`, key: grid.apiKey })).body).toContain("k-q8_0");
});
