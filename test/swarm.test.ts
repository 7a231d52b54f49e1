/** Weights between nodes: a real coordinator, real agents with stores on the disk, real TLS links between them. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { cp, mkdtemp, open, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import type { TransferView } from "../src/agent/cache/swarm/weights-swarm.ts";
import { pause } from "../src/ports/clock.ts";
import type { PeerFetchAnswer } from "../src/ports/peer-link.ts";
import { NO_LIMITS, type TransferLimits } from "../src/scheduler/distribution/transfer-limits.ts";
import { readGgufHeader } from "../src/weights/gguf-reader.ts";
import { writeRandomModel } from "./support/random-model.ts";
import { SwarmGrid, type SwarmModel } from "./support/swarm-grid.ts";

const LAYERS = 32;
const MODEL_BYTES = 48 * 1024 * 1024;

let models: string;
let path: string;
let grid: SwarmGrid;
let model: SwarmModel;

beforeAll(async () => {
  models = await mkdtemp(join(tmpdir(), "fallow-swarm-model-"));
  path = join(models, "random.gguf");
  await writeRandomModel(path, { fileBytes: MODEL_BYTES, layerCount: LAYERS });
});
afterAll(() => rm(models, { recursive: true, force: true }));
beforeEach(async () => {
  grid = await SwarmGrid.open();
  model = await grid.addModel(path);
});
afterEach(() => grid.close());

async function expectWhole(found: string): Promise<void> {
  const hash = createHash("sha256");
  for await (const bytes of createReadStream(found)) hash.update(bytes);
  expect(hash.digest("hex")).toBe(model.weightsSha256);
}

/** The tensors of a layer as they lie in a file. */
async function layerBytes(found: string, layer: number): Promise<Buffer> {
  const file = await open(found, "r");
  try {
    const { size } = await file.stat();
    const read = async (offset: number, length: number) => {
      const bytes = Buffer.alloc(Math.max(0, Math.min(length, size - offset)));
      await file.read(bytes, 0, bytes.length, offset);
      return bytes;
    };
    const header = await readGgufHeader({ sizeBytes: size, read });
    if (!header.ok) throw new Error(header.reason.message);
    const tensors = header.value.tensors.filter(({ name }) => name.startsWith(`blk.${layer}.`));
    expect(tensors.length).toBeGreaterThan(5);
    return Buffer.concat(await Promise.all(tensors.map(({ offset, sizeBytes }) => read(offset, sizeBytes))));
  } finally {
    await file.close();
  }
}

const cappedAt = (bytesPerSecondMax: number): TransferLimits => ({ ...NO_LIMITS, bytesPerSecondMax });

describe("a node's weights", () => {
  test("come from the source when nobody has them, and from the first node for the second", async () => {
    const first = await grid.agent();
    await expectWhole(await first.fetch(model));
    expect(grid.sourceBytes).toBe((await stat(path)).size);
    await grid.heard(first.nodeId, model, (chunks, of) => chunks === of);
    const second = await grid.agent();
    const seen: number[] = [];
    await expectWhole(await second.fetch(model, { onProgress: (doneBytes) => seen.push(doneBytes) }));
    expect(grid.sourceBytes).toBe((await stat(path)).size);
    expect(first.swarm.uploadedBytes).toBe((await stat(path)).size);
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    expect(seen.at(-1)).toBe(model.fileBytes);
  });

  test("come as the bytes of the layers that it runs, and no others", async () => {
    const whole = (await stat(path)).size;
    const node = await grid.agent();
    const layers = { first: 8, count: 8, hasEmbedding: false, hasOutput: false };
    const found = await node.fetch(model, { layers });
    const needed = await node.swarm.bytesOf({ ...model, layers }, { signal: new AbortController().signal });
    expect(grid.sourceBytes).toBe(needed);
    // A quarter of the layers, the header, and what is cut at the ends of the chunks.
    expect(needed).toBeLessThan(whole / 4 + 4 * 1024 * 1024);
    expect(needed).toBeGreaterThan((whole / 4) * 0.85);
    const [mine, right] = await Promise.all([layerBytes(found, 8), layerBytes(path, 8)]);
    expect(mine.equals(right)).toBe(true);
    // The rest of the model, when it is wanted, and nothing twice.
    await expectWhole(await node.fetch(model));
    expect(grid.sourceBytes).toBe(whole);
  });

  test("come once from the source however many nodes start together", { timeout: 60_000 }, async () => {
    const nodes = await Promise.all(Array.from({ length: 4 }, () => grid.agent()));
    const found = await Promise.all(nodes.map((node) => node.fetch(model)));
    for (const one of found) await expectWhole(one);
    expect(grid.sourceBytes / (await stat(path)).size).toBeLessThan(1.2);
  });

  test("are told as they come: how far, from how many nodes, how much from the source", async () => {
    const first = await grid.agent();
    await first.fetch(model);
    await grid.heard(first.nodeId, model, (chunks, of) => chunks === of);
    const second = await grid.agent({ limits: { downloadLimits: () => cappedAt(24e6) } });
    const views: TransferView[] = [];
    await second.fetch(model, { onProgress: () => views.push(...second.swarm.transfers()) });
    expect(views.some(({ peers, neededBytes }) => peers === 1 && neededBytes === model.fileBytes)).toBe(true);
    expect(views.every(({ sourceBytes }) => sourceBytes === 0)).toBe(true);
    expect(second.swarm.transfers()).toEqual([]);
  });
});

describe("a holder that breaks the rules", () => {
  type Lie = (chunk: Uint8Array) => PeerFetchAnswer;
  const answerOf = (
    totalBytes: number,
    read: (offset: number, length: number) => Promise<Uint8Array>,
  ): PeerFetchAnswer => ({
    ok: true,
    totalBytes,
    read,
    close: () => undefined,
  });
  const flipped: Lie = (chunk) => {
    const bad = chunk.slice();
    bad[1_000] = (bad[1_000] ?? 0) ^ 1;
    return answerOf(bad.length, async (offset, length) => bad.slice(offset, offset + length));
  };
  const short: Lie = (chunk) =>
    answerOf(chunk.length - 1, async (offset, length) => chunk.slice(offset, offset + length));
  const endless: Lie = (_chunk) => answerOf(2 ** 40, async (_offset, length) => new Uint8Array(length));
  const drip: Lie = (chunk) =>
    answerOf(chunk.length, async (offset, length) => {
      await pause(grid.clock, 30_000);
      return chunk.slice(offset, offset + length).subarray(0, length);
    });
  const broken: Lie = () =>
    answerOf(1_048_576, async () => {
      throw new Error("no disk");
    });

  test.each([
    ["flips a bit", flipped, "bad-chunk"],
    // Its own link refuses to send what was not asked for; what a link does with a peer that sends it all the same is its own test.
    ["has less than the chunk", short, "unreachable"],
    ["has bytes without an end", endless, "unreachable"],
    ["drips", drip, "too-slow"],
    ["says that it has what it cannot read", broken, null],
  ] as const)("and %s is asked no more, and the fetch completes", { timeout: 120_000 }, async (_, lie, code) => {
    const liar = await grid.liar(model, path, lie);
    await grid.heard(liar.nodeId, model, (chunks, of) => chunks === of);
    const node = await grid.agent();
    await expectWhole(await node.fetch(model));
    const reports = node.sent.filter((message) => message.type === "peer.report");
    if (code !== null) expect(reports).toContainEqual(expect.objectContaining({ nodeId: liar.nodeId, code }));
    // A chunk is asked for in parts; all of the model's would be some hundred.
    expect(liar.asked()).toBeLessThan(60);
  });
});

describe("a fetch", () => {
  test("goes on when the holder dies in the middle", async () => {
    const first = await grid.agent({ limits: { uploadLimits: () => cappedAt(20e6) } });
    await first.fetch(model);
    await grid.heard(first.nodeId, model, (chunks, of) => chunks === of);
    const second = await grid.agent();
    let stopping: Promise<void> | null = null;
    const onProgress = (doneBytes: number) => {
      if (doneBytes > MODEL_BYTES / 4) stopping ??= first.stop();
    };
    await expectWhole(await second.fetch(model, { onProgress }));
    await stopping;
    const fromSource = grid.sourceBytes - (await stat(path)).size;
    expect(fromSource).toBeGreaterThan(0);
    expect(fromSource).toBeLessThan((await stat(path)).size * 0.8);
  });

  test("goes on over a restart of the coordinator: from peers meanwhile, from the source again", {
    timeout: 60_000,
  }, async () => {
    const node = await grid.agent({ limits: { downloadLimits: () => cappedAt(12e6) } });
    const half = Promise.withResolvers<void>();
    const fetching = node.fetch(model, {
      onProgress: (doneBytes) => {
        if (doneBytes > MODEL_BYTES / 4) half.resolve();
      },
    });
    await half.promise;
    await grid.stopCoordinator();
    await grid.startCoordinator();
    await expectWhole(await fetching);
  });

  test("of one store by two agents is one fetch, and the second takes over when the first stops", async () => {
    const folder = join(grid.folder, "shared");
    const slow = { limits: { downloadLimits: () => cappedAt(12e6) } };
    const [one, two] = [await grid.agent({ folder, ...slow }), await grid.agent({ folder })];
    const giveUp = new AbortController();
    const first = one.fetch(model, {
      signal: giveUp.signal,
      onProgress: (doneBytes) => {
        if (doneBytes > MODEL_BYTES / 4) giveUp.abort(new Error("the first agent ends"));
      },
    });
    const second = two.fetch(model);
    await expect(first).rejects.toThrow("the first agent ends");
    await expectWhole(await second);
    // Chunks that were under way when the first gave up are fetched again; those that it kept are not.
    expect(grid.sourceBytes).toBeLessThan((await stat(path)).size + 16 * 1024 * 1024);
  });

  test("of what turned out damaged is from another node, though it was told to be here", async () => {
    const first = await grid.agent();
    const whole = await first.fetch(model);
    await grid.heard(first.nodeId, model, (chunks, of) => chunks === of);
    const folder = join(grid.folder, "copied");
    await cp(first.folder, folder, { recursive: true });
    const copied = await open(whole.replace(first.folder, folder), "r+");
    await copied.write(Buffer.from("damage"), 0, 6, MODEL_BYTES / 2);
    await copied.close();
    const second = await grid.agent({ folder });
    await grid.heard(second.nodeId, model, (chunks, of) => chunks === of);
    await expectWhole(await second.fetch(model));
    expect(first.swarm.uploadedBytes).toBe(1024 * 1024);
    expect(grid.sourceBytes).toBe((await stat(path)).size);
  });

  test("ahead of need stands still while somebody waits for another model", { timeout: 60_000 }, async () => {
    const otherPath = join(grid.folder, "other.gguf");
    await writeRandomModel(otherPath, { fileBytes: 16 * 1024 * 1024, layerCount: 2, seed: 7 });
    const other = await grid.addModel(otherPath);
    const node = await grid.agent({ limits: { downloadLimits: () => cappedAt(16e6) } });
    const order: string[] = [];
    const idle = node.fetch(model, { isIdle: true }).then(() => order.push("staged"));
    await vi.waitFor(() => expect(node.swarm.transfers()).toHaveLength(1), 10_000);
    await node.fetch(other).then(() => order.push("loaded"));
    const views = node.swarm.transfers();
    expect(views[0]?.doneBytes ?? 0).toBeLessThan(MODEL_BYTES / 2);
    await idle;
    expect(order).toEqual(["loaded", "staged"]);
  });

  test("stops at once when the owner comes, and goes on when he leaves", { timeout: 60_000 }, async () => {
    const node = await grid.agent({ limits: { downloadLimits: () => cappedAt(16e6) } });
    let doneBytes = 0;
    const fetching = node.fetch(model, { onProgress: (bytes) => (doneBytes = bytes) });
    await vi.waitFor(() => expect(doneBytes).toBeGreaterThan(2e6), 10_000);
    node.swarm.onYield(true);
    const { sourceBytes } = grid;
    const kept = doneBytes;
    await new Promise((resolve) => setImmediate(resolve));
    expect(node.swarm.transfers()[0]?.peers).toBe(0);
    await pause(grid.clock, 500);
    // What a write had begun is kept; a request that was under way at the coordinator ends a moment later.
    expect(doneBytes - kept).toBeLessThanOrEqual(2 * 1024 * 1024);
    expect(grid.sourceBytes - sourceBytes).toBeLessThanOrEqual(12 * 1024 * 1024);
    node.swarm.onYield(false);
    await expectWhole(await fetching);
  });

  test("goes on elsewhere when a holder's owner comes, and the holder is accused of nothing", async () => {
    const first = await grid.agent({ limits: { uploadLimits: () => cappedAt(20e6) } });
    await first.fetch(model);
    await grid.heard(first.nodeId, model, (chunks, of) => chunks === of);
    const second = await grid.agent();
    const onProgress = (doneBytes: number) => {
      if (doneBytes > MODEL_BYTES / 4) first.swarm.onYield(true);
    };
    await expectWhole(await second.fetch(model, { onProgress }));
    expect(second.sent.filter(({ type }) => type === "peer.report")).toEqual([]);
    expect(first.swarm.uploadedBytes).toBeLessThan((MODEL_BYTES * 3) / 4);
  });

  test("on a disk without room fails with what is needed, and keeps nothing that is used", async () => {
    const node = await grid.agent({ headroomBytes: 2 ** 50 });
    await expect(node.fetch(model)).rejects.toMatchObject({ code: "disk-full" });
    expect(await node.swarm.has(model.weightsSha256)).toBe(false);
    const other = await grid.agent();
    await expectWhole(await other.fetch(model));
  });

  test("in quiet hours is refused with the reason, and nothing is sent to others either", async () => {
    const quiet = { ...NO_LIMITS, quietHours: [{ fromMinute: 0, toMinute: 10_079 }], quietBytesPerSecondMax: 0 };
    const node = await grid.agent({ limits: { downloadLimits: () => quiet } });
    await expect(node.fetch(model)).rejects.toMatchObject({ code: "downloads-shut", message: /quiet hours/ });
    expect(grid.sourceBytes).toBe(0);
  });

  test("under a cap of 0 is refused too: the grid would wait for it for ever", async () => {
    const node = await grid.agent({ limits: { downloadLimits: () => cappedAt(0) } });
    await expect(node.fetch(model)).rejects.toMatchObject({ code: "downloads-shut", message: /a cap of 0/ });
  });
});
