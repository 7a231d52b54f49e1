/** Models on their way into a grid: real downloads from a real hub on this machine, the real vocabulary process, real files. */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SystemClock } from "../src/adapters/clock-system/system-clock.ts";
import { SystemRandom } from "../src/adapters/clock-system/system-random.ts";
import { NodeCrypto } from "../src/adapters/crypto-node/node-crypto.ts";
import { engineEnvironment } from "../src/adapters/engine-llama/child-environment.ts";
import { DiskIncomingModels } from "../src/adapters/model-files-disk/disk-incoming-models.ts";
import { DiskModelFiles } from "../src/adapters/model-files-disk/disk-model-files.ts";
import { NetModelSources } from "../src/adapters/model-source/model-sources.ts";
import { sourceSettings } from "../src/adapters/model-source/source-settings.ts";
import { LlamaTokenizerHost } from "../src/adapters/tokenizer-llama/tokenizer-host.ts";
import type { CheckEvent } from "../src/coordinator/admin/model-schemas.ts";
import type { JobView } from "../src/coordinator/models/intake-job.ts";
import { ModelCatalogue } from "../src/coordinator/models/model-catalogue.ts";
import { ModelDesk } from "../src/coordinator/models/model-desk.ts";
import { ModelIntake } from "../src/coordinator/models/model-intake.ts";
import { modelId } from "../src/domain/ids.ts";
import { simLog } from "../src/sim/sim-log.ts";
import { MemoryStore } from "../src/sim/store/memory-store.ts";
import { TINY_PATH } from "./support/engine-fixture.ts";
import { type HubServer, startHubServer } from "./support/hub-server.ts";
import { splitModel } from "./support/split-model.ts";

const clock = new SystemClock();
const crypto = new NodeCrypto();
const gridKey = crypto.keyPairFrom(new Uint8Array(32).fill(3));
const TINY = readFileSync(TINY_PATH);
const CHUNK = 1024 * 1024;

let hub: HubServer;
let folder: string;
let kept: string;
let store: MemoryStore;
let tokenizers: LlamaTokenizerHost;
let grids: Grid[];
beforeEach(async () => {
  hub = await startHubServer();
  folder = mkdtempSync(join(tmpdir(), "fallow-intake-"));
  kept = join(folder, "models");
  store = new MemoryStore({ writeLatencyMs: 0 }, { clock });
  tokenizers = new LlamaTokenizerHost({ libraryDirectory: null, environment: engineEnvironment(process.env) });
  grids = [];
  hub.put("owner/tiny", { files: { "tiny-Q8_0.gguf": TINY }, licence: "apache-2.0" });
});
afterEach(async () => {
  for (const { intake } of grids) await intake.stop();
  await tokenizers.close();
  await hub[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

interface Grid {
  readonly catalogue: ModelCatalogue;
  readonly intake: ModelIntake;
  readonly desk: ModelDesk;
  readonly modelFiles: DiskModelFiles;
}

/** A coordinator's models over the same home: a second one is what comes after a restart. */
async function opened(more: { headroomBytes?: number } = {}): Promise<Grid> {
  const modelFiles = new DiskModelFiles({ folder: kept, bundled: [] });
  const log = simLog(() => undefined);
  const catalogue = new ModelCatalogue({ store, tokenizers, modelFiles, crypto, gridKey, clock, log });
  const settings = sourceSettings({
    HF_ENDPOINT: hub.url,
    HF_TOKEN_PATH: join(folder, "no-token"),
    FALLOW_HUB_HOSTS: hub.contentHost,
    FALLOW_PRIVATE_SOURCES: hub.contentHost,
  });
  const sources = new NetModelSources({ settings, patience: { delaysMs: [1, 1], retryAfterMsMax: 1_000 } });
  const incoming = new DiskIncomingModels({ folder: join(kept, "incoming"), headroomBytes: 0, ...more });
  const random = new SystemRandom();
  const ports = { sources, incoming, modelFiles, catalogue, crypto, gridKey, clock, random, log };
  const intake = new ModelIntake(ports);
  const desk = new ModelDesk({ modelFiles, crypto, gridKey, catalogue, intake, sources });
  await catalogue.start();
  await intake.start();
  const grid = { catalogue, intake, desk, modelFiles };
  grids.push(grid);
  return grid;
}

const signal = () => AbortSignal.timeout(30_000);

async function rested(intake: ModelIntake, jobId: string): Promise<JobView> {
  const view = await intake.whenResting(jobId, signal());
  if (view === null) throw new Error("the job is there");
  return view;
}

async function bring({ intake }: Grid, reference: string, terms = {}): Promise<JobView> {
  const job = await intake.add({ reference, terms });
  if (!job.ok) throw new Error(job.reason.message);
  return await rested(intake, job.value.jobId);
}

/** Resolves when so many bytes of the job are there. */
async function untilBytes(intake: ModelIntake, jobId: string, bytes: number): Promise<void> {
  for (let seen = 0; ; ) {
    const next = await intake.viewAfter(jobId, seen, { withinMs: 10_000, signal: signal() });
    if (next === null || next.view.doneBytes >= bytes) return;
    seen = next.version;
  }
}

const byteRequests = () => hub.requests.filter(({ at }) => at === "content");

describe("a model from the hub", () => {
  test("comes with its licence, its commit and a manifest that the grid signed, and leaves no partial files", async () => {
    const grid = await opened();
    const job = await bring(grid, "hf:owner/tiny", { warmReplicas: 0 });
    expect(job).toMatchObject({
      state: "done",
      modelId: "tiny-q8_0",
      fetchedBytes: TINY.length,
      doneBytes: TINY.length,
    });
    const record = await store.models.get(modelId("tiny-q8_0"));
    expect(record?.manifest).toMatchObject({
      licence: "apache-2.0",
      source: `hf:owner/tiny@${hub.commit}:tiny-Q8_0.gguf`,
      warmReplicas: 0,
      architecture: "llama",
    });
    if (record === null) throw new Error("it is registered");
    const weights = await grid.desk.weights(record);
    expect(weights).toMatchObject({
      chunkBytes: CHUNK,
      chunks: Math.ceil(TINY.length / CHUNK),
      files: [{ name: "tiny-Q8_0.gguf", fileBytes: TINY.length }],
      source: `hf:owner/tiny@${hub.commit}`,
      licence: "apache-2.0",
    });
    expect(weights?.parts.find(({ kind }) => kind === "layer")).toMatchObject({ layers: 4 });
    expect(readdirSync(join(kept, "incoming"))).toEqual([]);
  });

  test("that is kept already costs no byte, under the same id and under another", async () => {
    const grid = await opened();
    await bring(grid, "hf:owner/tiny");
    const before = hub.bytesSent();
    expect(await bring(grid, "hf:owner/tiny")).toMatchObject({ state: "done", fetchedBytes: 0 });
    expect(await bring(grid, "hf:owner/tiny:Q8_0", { id: "second" })).toMatchObject({
      state: "done",
      modelId: "second",
    });
    expect(hub.bytesSent()).toBe(before);
    const files = readdirSync(kept).filter((name) => name.endsWith(".gguf"));
    expect(files).toHaveLength(1);
    expect(await grid.catalogue.remove(modelId("tiny-q8_0"))).toBe(true);
    expect(readdirSync(kept).filter((name) => name.endsWith(".gguf"))).toEqual(files);
  });

  test("that was added from a file of the operator before costs no byte either", async () => {
    const grid = await opened();
    expect(await bring(grid, TINY_PATH, { id: "own" })).toMatchObject({ state: "done" });
    expect(await bring(grid, "hf:owner/tiny")).toMatchObject({ state: "done", fetchedBytes: 0 });
    expect(byteRequests()).toEqual([]);
  });

  test("whose id other weights have is refused before a byte of it is fetched", async () => {
    const other = join(folder, "other.gguf");
    copyFileSync(TINY_PATH, other);
    writeFileSync(other, Buffer.alloc(32), { flag: "a" });
    const grid = await opened();
    await bring(grid, other, { id: "tiny-q8_0" });
    const job = await bring(grid, "hf:owner/tiny");
    expect(job).toMatchObject({
      state: "failed",
      error: { message: expect.stringMatching(/other weights.*choose another id/) },
    });
    expect(byteRequests()).toEqual([]);
  });

  test("with other bytes than its digest says is refused, and nothing of it stays", async () => {
    const lying = Buffer.from(TINY);
    lying[2_000_000] = (lying[2_000_000] ?? 0) ^ 1;
    hub.putPlain("/m.gguf", lying);
    const grid = await opened();
    const digest = Buffer.from(crypto.sha256(TINY)).toString("hex");
    const job = await bring(grid, `${hub.contentUrl}/m.gguf#sha256=${digest}`);
    expect(job).toMatchObject({ state: "failed", error: { code: "model-source-changed" } });
    expect(readdirSync(join(kept, "incoming"))).toEqual([]);
    expect(readdirSync(kept)).toEqual(["incoming"]);
  });

  test("that this engine cannot run is refused after its head, while the rest has not come", async () => {
    const foreign = Buffer.from(TINY);
    foreign.write("lxama", foreign.indexOf("llama"));
    hub.put("owner/foreign", { files: { "m-Q8_0.gguf": foreign } });
    hub.plans.push({ kind: "hold", afterBytes: 2 * CHUNK + 500_000 });
    const job = await bring(await opened(), "hf:owner/foreign");
    expect(job).toMatchObject({
      state: "failed",
      error: { code: "model-source-refused", message: expect.stringMatching(/unknown-architecture/) },
    });
    expect(hub.bytesSent()).toBe(2 * CHUNK + 500_000);
    expect(readdirSync(join(kept, "incoming"))).toEqual([]);
  });

  test("that is no model of this engine is refused with the reason", async () => {
    hub.put("owner/broken", { files: { "m-Q8_0.gguf": TINY.subarray(0, 500_000) } });
    const job = await bring(await opened(), "hf:owner/broken");
    expect(job).toMatchObject({ state: "failed", error: { code: "invalid-request" } });
    expect(readdirSync(kept)).toEqual(["incoming"]);
  });

  test("that does not fit the disk is refused before a byte of it is fetched, and goes on when there is room", async () => {
    const full = await opened({ headroomBytes: 2 ** 50 });
    const job = await bring(full, "hf:owner/tiny");
    expect(job).toMatchObject({ state: "failed", error: { code: "disk-full" } });
    expect(byteRequests()).toEqual([]);
    const roomy = await opened();
    expect(roomy.intake.get(job.jobId)).toMatchObject({ state: "failed", error: { code: "disk-full" } });
    expect(await bring(roomy, "hf:owner/tiny")).toMatchObject({ jobId: job.jobId, state: "done" });
  });
});

describe("a split set", () => {
  const NAMES = [1, 2, 3].map((number) => `set-Q8_0-0000${number}-of-00003.gguf`);

  test("from the hub is one model whose vocabulary opens, kept by the names that an engine looks for", async () => {
    const parts = await splitModel(TINY, 3);
    hub.put("owner/set", { files: Object.fromEntries(NAMES.map((name, at) => [name, parts[at] ?? TINY])) });
    const grid = await opened();
    hub.plans.push({ kind: "cut", afterBytes: 100_000 });
    const job = await bring(grid, "hf:owner/set");
    expect(job, JSON.stringify(job.error)).toMatchObject({ state: "done", files: 3, modelId: "set-q8_0" });
    const entry = grid.catalogue.get(modelId("set-q8_0"));
    expect(entry?.tokenizer.vocabSize).toBe(2048);
    const { weightsSha256 = "" } = entry?.manifest ?? {};
    expect(entry?.weightsPath).toBe(join(kept, weightsSha256, NAMES[0] ?? ""));
    expect(readdirSync(join(kept, weightsSha256)).sort()).toEqual(NAMES);
    const sent = hub.bytesSent();
    expect(await bring(grid, "hf:owner/set", { id: "again" })).toMatchObject({ state: "done", fetchedBytes: 0 });
    expect(hub.bytesSent()).toBe(sent);
  });

  test("from a folder is one model, and has the weights' digest that the hub's has", async () => {
    const parts = await splitModel(TINY, 3);
    const set = join(folder, "set");
    mkdirSync(set);
    for (const [at, name] of NAMES.entries()) writeFileSync(join(set, name), parts[at] ?? TINY);
    hub.put("owner/set", { files: Object.fromEntries(NAMES.map((name, at) => [name, parts[at] ?? TINY])) });
    const grid = await opened();
    expect(await bring(grid, set, { id: "local" })).toMatchObject({ state: "done", files: 3 });
    expect(await bring(grid, "hf:owner/set")).toMatchObject({ state: "done", fetchedBytes: 0 });
    expect(byteRequests()).toEqual([]);
    expect(existsSync(join(set, NAMES[0] ?? ""))).toBe(true);
  });
});

describe("a download that was stopped", () => {
  test("goes on after a restart from the chunk that was under way, also when the disk lost what was written last", async () => {
    hub.plans.push({ kind: "hold", afterBytes: 2 * CHUNK + 500_000 });
    const first = await opened();
    const job = await first.intake.add({ reference: "hf:owner/tiny", terms: {} });
    if (!job.ok) throw new Error(job.reason.message);
    const { jobId } = job.value;
    await untilBytes(first.intake, jobId, 2 * CHUNK + 500_000);
    await first.intake.stop();
    // A power cut: the file's end was never written, though its chunk's digest was.
    truncateSync(join(kept, "incoming", jobId, "0.part"), 2 * CHUNK - 10);
    const second = await opened();
    expect(await rested(second.intake, jobId)).toMatchObject({ state: "done", fetchedBytes: TINY.length - CHUNK });
    expect(byteRequests().map(({ range }) => range)).toEqual([null, `bytes=${CHUNK}-`]);
    const record = await store.models.get(modelId("tiny-q8_0"));
    expect(readFileSync(record?.weightsPath ?? "").equals(TINY)).toBe(true);
  });

  test("is paused and asked for again by the same reference; cancelled it leaves nothing", async () => {
    hub.plans.push({ kind: "hold", afterBytes: CHUNK + 5 });
    const { intake } = await opened();
    const job = await intake.add({ reference: "hf:owner/tiny", terms: {} });
    if (!job.ok) throw new Error(job.reason.message);
    const { jobId } = job.value;
    await untilBytes(intake, jobId, CHUNK + 5);
    expect(await intake.pause(jobId)).toBe(true);
    expect(intake.get(jobId)).toMatchObject({ state: "paused" });
    const restarted = await opened();
    expect(restarted.intake.get(jobId)).toMatchObject({ state: "paused" });
    hub.plans.push({ kind: "hold", afterBytes: 5 });
    const again = await restarted.intake.add({ reference: "hf:owner/tiny", terms: {} });
    expect(again).toMatchObject({ ok: true, value: { jobId } });
    await untilBytes(restarted.intake, jobId, CHUNK + 5);
    expect(await restarted.intake.cancel(jobId)).toBe(true);
    expect(restarted.intake.get(jobId)).toBe(null);
    expect(readdirSync(join(kept, "incoming"))).toEqual([]);
  });

  test("of a file that changed meanwhile begins anew", async () => {
    const other = Buffer.concat([TINY, Buffer.alloc(32)]);
    hub.putPlain("/m.gguf", TINY);
    hub.plans.push({ kind: "ignore-range" }, { kind: "hold", afterBytes: CHUNK + 5 });
    const first = await opened();
    const job = await first.intake.add({ reference: `${hub.contentUrl}/m.gguf`, terms: {} });
    if (!job.ok) throw new Error(job.reason.message);
    await untilBytes(first.intake, job.value.jobId, CHUNK + 5);
    await first.intake.stop();
    hub.putPlain("/m.gguf", other);
    const second = await opened();
    expect(await rested(second.intake, job.value.jobId)).toMatchObject({ state: "done", fetchedBytes: other.length });
  });
});

describe("files", () => {
  const events = async (run: AsyncIterable<CheckEvent>) => {
    const all: CheckEvent[] = [];
    for await (const event of run) all.push(event);
    return all.at(-1);
  };

  test("that were damaged are named by their chunks, and only those are fetched again", async () => {
    const grid = await opened();
    await bring(grid, "hf:owner/tiny");
    const record = await store.models.get(modelId("tiny-q8_0"));
    if (record === null) throw new Error("it is registered");
    const whole = await events(grid.desk.check(record, { isMending: false, signal: signal() }));
    expect(whole).toMatchObject({ event: "result", isWhole: true, damagedChunks: 0 });
    const bytes = Buffer.from(TINY);
    bytes[CHUNK + 7] = (bytes[CHUNK + 7] ?? 0) ^ 255;
    writeFileSync(record.weightsPath, bytes.subarray(0, TINY.length - 3));
    const damaged = await events(grid.desk.check(record, { isMending: false, signal: signal() }));
    expect(damaged).toMatchObject({ isWhole: false, damagedChunks: 2, files: [{ damaged: [[1, 2]] }] });
    const mended = await events(grid.desk.check(record, { isMending: true, signal: signal() }));
    expect(mended).toMatchObject({ isWhole: true, mendedChunks: 2, fetchedBytes: TINY.length - CHUNK });
    expect(readFileSync(record.weightsPath).equals(TINY)).toBe(true);
    expect(byteRequests().at(-1)?.range).toBe(`bytes=${CHUNK}-`);
  });

  test("that are lost are fetched whole; the operator's own have to be given again", async () => {
    const grid = await opened();
    await bring(grid, "hf:owner/tiny");
    const record = await store.models.get(modelId("tiny-q8_0"));
    if (record === null) throw new Error("it is registered");
    rmSync(record.weightsPath);
    const job = await grid.desk.fetchAnew(record);
    if (job === null || !job.ok) throw new Error("a job fetches it");
    expect(await rested(grid.intake, job.value.jobId)).toMatchObject({ state: "done", modelId: "tiny-q8_0" });
    expect(existsSync(record.weightsPath)).toBe(true);
    const own = { ...record, manifest: { ...record.manifest, source: undefined } };
    const { source: _, ...manifest } = own.manifest;
    rmSync(record.weightsPath);
    expect(await grid.desk.fetchAnew({ ...record, manifest })).toMatchObject({ ok: false });
  });

  test("of an older home get their manifest after the start, and no node is told to load them before", async () => {
    const first = await opened();
    await bring(first, TINY_PATH, { id: "old" });
    for (const name of readdirSync(kept)) if (/\.(manifest|digests)$/.test(name)) rmSync(join(kept, name));
    const second = await opened();
    const record = await store.models.get(modelId("old"));
    if (record === null) throw new Error("it is registered");
    expect(await second.desk.weights(record)).toBe(null);
    expect(second.catalogue.get(modelId("old"))).toMatchObject({ isDescribed: false });
    await second.catalogue.describeOlder();
    expect(second.catalogue.get(modelId("old"))).toMatchObject({ isDescribed: true });
    expect(await second.desk.weights(record)).toMatchObject({ files: [{ name: "old.gguf" }], source: "local" });
  });
});
