/**
 * Weights of a model on their way to nodes, by the product's own processes in the lab: a coordinator behind the internet, agents on one fast LAN
 * behind one 100 Mbit/s line. All are told at once to load a model of random weights, beside `curl` that downloads the same file over the same
 * line right before and after; then what a second node on the LAN takes over the line, and what a model costs that is added again.
 * What a node takes that runs layers 8 to 15 of 32 is measured between real agents and a coordinator on loopback: no plan orders shares.
 */
import { open, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { modelAnswerSchema } from "../src/coordinator/admin/admin-schemas.ts";
import { linkListSchema, type WeightsRow, weightsListSchema } from "../src/coordinator/admin/weights-schema.ts";
import { CHUNK_BYTES_DEFAULT } from "../src/domain/weights.ts";
import { readGgufHeader } from "../src/weights/gguf-reader.ts";
import { netlabAbsent, startNetlab } from "../test/netlab/netlab.ts";
import { writeRandomModel } from "../test/support/random-model.ts";
import { SwarmGrid } from "../test/support/swarm-grid.ts";
import { openBench } from "./lib/bench-run.ts";
import { type LabAgent, LabGrid, sha256Of } from "./lib/lab-grid.ts";
import { startServer } from "./lib/netlab-pair.ts";

const bench = openBench("weights-swarm");
const NAMES = ["ann", "ben", "cem", "dan", "eve"] as const;
const names = bench.isSmoke ? NAMES.slice(0, 2) : NAMES;
const modelBytes = bench.isSmoke ? 12e6 : 200e6;
const rounds = bench.isSmoke ? 1 : 3;
const LAYERS = 32;
const SHARE = { first: 8, count: 8, hasEmbedding: false, hasOutput: false };
const FILE_SERVER = fileURLToPath(new URL("./lib/file-server-process.ts", import.meta.url));
const CHUNK_BYTES = CHUNK_BYTES_DEFAULT;
const RATE_MBIT = 100;
const DELAY_MS = { coordinator: 5, router: 10 } as const;
const READY_MS_MAX = 300_000;
/** A node tells what it has twice a second. */
const LOOK_MS = 200;
/** As long as nothing may come for a model that is added again. */
const AGAIN_MS = bench.isSmoke ? 1_000 : 5_000;

const replicasSchema = z.object({ replicas: z.array(z.object({ modelId: z.string().nullable(), state: z.string() })) });

const lab = () =>
  startNetlab({
    hosts: {
      coordinator: {},
      ...{
        ann: { lan: "home" },
        ben: { lan: "home" },
        cem: { lan: "home" },
        dan: { lan: "home" },
        eve: { lan: "home" },
      },
    },
    nats: { router: { lan: "home", kind: "cone" } },
    links: {
      coordinator: { delayMs: DELAY_MS.coordinator },
      router: { delayMs: DELAY_MS.router, rateMbit: RATE_MBIT },
    },
    lifeMs: 1_800_000,
  });
type Lab = Awaited<ReturnType<typeof lab>>;

const absent = netlabAbsent();
const share = await layersShare();
bench.say(`layers 8-15 of 32: ${JSON.stringify(share)}`);
if (absent !== null) {
  bench.say(`the rest is left out: ${absent}`);
  process.exit(0);
}
const swarm = await inLab();
const { together, second } = swarm;
const again = together[0]?.again?.lineRatio ?? Number.NaN;
const worst = (of: (round: (typeof together)[number]) => number) => Math.max(...together.map(of));
const middle = (values: readonly number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
bench.keep({
  bars: [
    atMost(
      `bytes from the source for ${names.length} agents, of the model's, worst round`,
      worst((one) => one.sourceRatio),
      1.2,
    ),
    // A small model takes as long to plan as to download.
    ...(bench.isSmoke
      ? []
      : [
          atMost(
            `time until the last of ${names.length} is ready, of one download by curl, median`,
            middle(together.map((one) => one.timeRatio)),
            1.5,
          ),
        ]),
    atMost("bytes over the line for the second node on the LAN, of the model's", second.lineRatio, 0.05),
    atMost("bytes over the line for a model that is added again, of the model's", again, 0.01),
    atMost("bytes for layers 8-15 of 32, of those layers' and their chunks' ends", share.ratio, 1),
    {
      name: "files that are the model's, by sha256sum",
      value: swarm.filesRight,
      wanted: "at-least",
      limit: swarm.files,
    },
  ],
  measured: {
    agents: names.length,
    modelBytes,
    line: { rateMbit: RATE_MBIT, rttMs: 2 * (DELAY_MS.coordinator + DELAY_MS.router) },
    ...swarm,
    share,
  },
});
process.exit(0);

function atMost(name: string, value: number, limit: number) {
  return { name, value: Number(value.toFixed(4)), wanted: "at-most" as const, limit };
}

async function inLab() {
  const net = await lab();
  const grid = await LabGrid.start(net.host("coordinator"));
  try {
    const agents: LabAgent[] = [];
    // In pairs: five that measure the machine at once on two cores wait for each other.
    for (let at = 0; at < names.length; at += 2) {
      agents.push(...(await Promise.all(names.slice(at, at + 2).map((name) => grid.join(net.host(name))))));
    }
    bench.say(`${agents.length} agents are online`);
    const together = [];
    const files = { right: 0, all: 0 };
    for (let round = 0; round < rounds; round++) {
      const one = await allAtOnce(net, { grid, agents, round });
      bench.say(`all at once: ${JSON.stringify(one)}`);
      if (bench.isSmoke && one.sourceRatio > 1.5) throw new Error("the nodes did not fetch from each other");
      together.push(one);
      files.right += one.filesRight;
      files.all += agents.length;
    }
    const second = await secondOfLan(net, { grid });
    bench.say(`second on the LAN: ${JSON.stringify(second)}`);
    const { links } = await grid.json("/grid/v1/links", linkListSchema);
    const carriers = [...new Set(links.map(({ carrier }) => carrier))];
    return { together, second, carriers, filesRight: files.right, files: files.all };
  } finally {
    await grid.stop();
    await net.stop();
  }
}

interface Scene {
  readonly grid: LabGrid;
  readonly agents: readonly LabAgent[];
}

/** `curl`, all agents, `curl`: the line's speed is the mean of the two. */
async function allAtOnce(net: Lab, { grid, agents, round }: Scene & { round: number }) {
  const path = join(grid.folder, `together-${round}.gguf`);
  await writeRandomModel(path, { fileBytes: modelBytes, layerCount: 4, seed: 10 + round });
  const { size } = await stat(path);
  const curlBeforeMs = await curlMs(net, path);
  const before = await lineBytes(net);
  const id = `together-${round}`;
  await add(grid, { path, id, warmReplicas: 0 });
  const startMs = performance.now();
  await add(grid, { path, id, warmReplicas: agents.length });
  const shares: [number, number][] = [];
  const row = await untilHeld(grid, id, agents.length, (now) => {
    shares.push([Math.round(performance.now() - startMs), Math.round((100 * now.sourceBytes) / size)]);
  });
  const readyMs = performance.now() - startMs;
  const line = (await lineBytes(net)) - before;
  await untilServing(grid, id, agents.length);
  const servingMs = performance.now() - startMs;
  const sums = await Promise.all(agents.map(({ home }) => sha256Of(fileOf(home, row.weightsSha256))));
  const filesRight = sums.filter((sum) => sum === row.weightsSha256).length;
  if (filesRight < agents.length)
    throw new Error(`${agents.length - filesRight} nodes have another file than the model`);
  const toldBytes = await grid.metric("fallow_weights_source_bytes_total", `"${id}"`);
  const again = round === 0 ? await addedAgain(net, { grid, agents }) : null;
  if (again === null) await remove(grid, id);
  const curlAfterMs = await curlMs(net, path);
  const curlMeanMs = (curlBeforeMs + curlAfterMs) / 2;
  const rounded = (value: number) => Math.round(value * 1_000) / 1_000;
  return {
    fileBytes: size,
    sourceRatio: rounded(row.sourceBytes / size),
    metricRatio: rounded(toldBytes / size),
    lineRatio: rounded(line / size),
    timeRatio: rounded(readyMs / curlMeanMs),
    readyMs: Math.round(readyMs),
    servingMs: Math.round(servingMs),
    curlMs: [Math.round(curlBeforeMs), Math.round(curlAfterMs)],
    filesRight,
    emulatorLate: (await net.counters()).late,
    progress: everyNth(shares, 12),
    again,
  };
}

/** The first file once more under another name, which takes its place: nothing may come that is there already. */
async function addedAgain(net: Lab, { grid, agents }: Scene) {
  const path = join(grid.folder, "together-0.gguf");
  const { size } = await stat(path);
  const modelsBefore = await folderBytes(join(grid.folder, "grid", "models"));
  const before = await lineBytes(net);
  await add(grid, { path, id: "again", warmReplicas: 0 });
  const storedBytes = (await folderBytes(join(grid.folder, "grid", "models"))) - modelsBefore;
  await remove(grid, "together-0");
  await add(grid, { path, id: "again", warmReplicas: agents.length });
  await untilServing(grid, "again", agents.length);
  await sleep(AGAIN_MS);
  const line = (await lineBytes(net)) - before;
  await remove(grid, "again");
  return { lineBytes: line, lineRatio: line / size, storedBytes };
}

async function secondOfLan(net: Lab, { grid }: Pick<Scene, "grid">) {
  const path = join(grid.folder, "second.gguf");
  await writeRandomModel(path, { fileBytes: modelBytes / 2, layerCount: 4, seed: 77 });
  const { size } = await stat(path);
  await add(grid, { path, id: "second", warmReplicas: 1 });
  await untilHeld(grid, "second", 1);
  await untilServing(grid, "second", 1);
  const before = await lineBytes(net);
  const startMs = performance.now();
  await add(grid, { path, id: "second", warmReplicas: 2 });
  const row = await untilHeld(grid, "second", 2);
  const readyMs = performance.now() - startMs;
  const line = (await lineBytes(net)) - before;
  return {
    fileBytes: size,
    lineRatio: line / size,
    sourceRatioOfBoth: row.sourceBytes / size,
    peerRatio: row.peerBytes / size,
    readyMs: Math.round(readyMs),
  };
}

/** Between agents, stores and links of this process; the node's own file is read back, and what it has of other layers is a hole. */
async function layersShare() {
  const grid = await SwarmGrid.open();
  try {
    const path = join(grid.folder, "layers.gguf");
    await writeRandomModel(path, { fileBytes: modelBytes, layerCount: LAYERS });
    const model = await grid.addModel(path);
    const node = await grid.agent();
    const found = await node.fetch(model, { layers: SHARE });
    const allocatedBytes = (await stat(found)).blocks * 512;
    const { layersBytes, atLeastBytes } = await layersIn(path);
    return {
      fileBytes: model.fileBytes,
      layersBytes,
      sourceBytes: grid.sourceBytes,
      allocatedBytes,
      ratio: grid.sourceBytes / atLeastBytes,
    };
  } finally {
    await grid.close();
  }
}

/** Bytes of the tensors of the share by the file's own header; and with the chunks that they and the header touch. */
async function layersIn(path: string): Promise<{ layersBytes: number; atLeastBytes: number }> {
  const file = await open(path, "r");
  try {
    const { size } = await file.stat();
    const read = async (offset: number, length: number) => {
      const bytes = Buffer.alloc(Math.max(0, Math.min(length, size - offset)));
      await file.read(bytes, 0, bytes.length, offset);
      return bytes;
    };
    const header = await readGgufHeader({ sizeBytes: size, read });
    if (!header.ok) throw new Error(header.reason.message);
    const last = SHARE.first + SHARE.count - 1;
    const own = header.value.tensors.filter(({ name }) => {
      const layer = Number(/^blk\.(\d+)\./.exec(name)?.[1] ?? -1);
      return layer >= SHARE.first && layer <= last;
    });
    const layersBytes = own.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    const chunks = new Set<number>();
    const touch = (from: number, to: number) => {
      for (let chunk = Math.floor(from / CHUNK_BYTES); chunk * CHUNK_BYTES < to; chunk++) chunks.add(chunk);
    };
    touch(0, Math.min(...header.value.tensors.map(({ offset }) => offset)));
    for (const { offset, sizeBytes } of own) touch(offset, offset + sizeBytes);
    const atLeastBytes = [...chunks].reduce((sum, chunk) => sum + Math.min(CHUNK_BYTES, size - chunk * CHUNK_BYTES), 0);
    return { layersBytes, atLeastBytes };
  } finally {
    await file.close();
  }
}

async function add(grid: LabGrid, body: { path: string; id: string; warmReplicas: number }): Promise<void> {
  await grid.json("/admin/v1/models", modelAnswerSchema, { body });
}

async function remove(grid: LabGrid, id: string): Promise<void> {
  await grid.ask(`/admin/v1/models/${id}`, { method: "DELETE" });
}

/** Until so many nodes told that they have all chunks, each of which was verified before it counted. */
async function untilHeld(
  grid: LabGrid,
  id: string,
  nodes: number,
  look?: (row: WeightsRow) => void,
): Promise<WeightsRow> {
  for (const startMs = performance.now(); performance.now() - startMs < READY_MS_MAX; await sleep(LOOK_MS)) {
    const { weights } = await grid.json("/grid/v1/weights", weightsListSchema);
    const row = weights.find(({ modelId }) => modelId === id);
    if (row === undefined) continue;
    look?.(row);
    if (row.nodes.filter((node) => node.share === 1).length >= nodes) return row;
  }
  throw new Error(`${nodes} nodes did not get ${id} in ${READY_MS_MAX} ms`);
}

async function untilServing(grid: LabGrid, id: string, count: number): Promise<void> {
  for (const startMs = performance.now(); performance.now() - startMs < READY_MS_MAX; await sleep(LOOK_MS)) {
    const { replicas } = await grid.json("/admin/v1/replicas", replicasSchema);
    if (replicas.filter(({ modelId, state }) => modelId === id && state === "ready").length >= count) return;
  }
  throw new Error(`${id} was not served by ${count} nodes in ${READY_MS_MAX} ms`);
}

/** What the coordinator's host sent into the internet. */
async function lineBytes(net: Lab): Promise<number> {
  return (await net.link("coordinator").counters()).up.bytes;
}

async function curlMs(net: Lab, path: string): Promise<number> {
  const source = net.host("coordinator");
  const server = await startServer({ host: source, file: FILE_SERVER, args: [path] });
  try {
    const { port } = z.object({ port: z.number() }).parse(server.ready);
    const out = join(tmpdir(), `fallow-curl-${process.pid}`);
    const { code, stdout, stderr } = await net
      .host(names[0] ?? "ann")
      .run("curl", ["-sS", "-o", out, "-w", "%{time_total} %{size_download}", `http://${source.address}:${port}/`], {
        timeoutMs: READY_MS_MAX,
      });
    await rm(out, { force: true });
    const [seconds = 0, bytes = 0] = stdout.split(" ").map(Number);
    if (code !== 0 || bytes !== (await stat(path)).size) throw new Error(`curl ended with ${code}: ${stderr}`);
    return seconds * 1_000;
  } finally {
    await server.stop();
  }
}

function fileOf(home: string, digest: string): string {
  return join(home, "weights", digest, `${digest}.gguf`);
}

async function folderBytes(folder: string): Promise<number> {
  const names = await readdir(folder, { recursive: true });
  const sizes = await Promise.all(names.map(async (name) => (await stat(join(folder, name))).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}

function everyNth<T>(values: readonly T[], wanted: number): readonly T[] {
  const step = Math.max(1, Math.ceil(values.length / wanted));
  return values.filter((_, at) => at % step === 0 || at === values.length - 1);
}
