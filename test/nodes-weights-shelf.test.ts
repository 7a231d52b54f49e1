/** What lies on a node's disk: staged ahead of need, evicted for a load, told to the coordinator. Virtual time, and a real folder at the end. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { HttpWeightsCache } from "../src/adapters/weights-http/http-weights-cache.ts";
import { WeightsShelf } from "../src/agent/cache/weights-shelf.ts";
import { type Sha256Hex, sha256Hex } from "../src/domain/ids.ts";
import { SimDisk, simWeights, type WeightsFault } from "../src/sim/engine/sim-weights.ts";
import { simLog } from "../src/sim/sim-log.ts";
import { Host } from "../src/sim/time/host.ts";
import { Timeline } from "../src/sim/time/timeline.ts";
import { WEIGHTS_PATH, type WeightsState, weightsStateSchema } from "../src/wire/agent-link.ts";

const MB = 1_000_000;
const digest = (index: number): Sha256Hex => sha256Hex(index.toString(16).padStart(64, "0"));
const order = (index: number, fileBytes = 10 * MB) => ({
  type: "weights.stage" as const,
  weightsSha256: digest(index),
  fileBytes,
});

let timeline: Timeline;
let disk: SimDisk;
let pinned: Set<string>;
let told: WeightsState[];
let bearer: string | null;
let faults: WeightsFault[];

beforeEach(() => {
  timeline = new Timeline();
  disk = new SimDisk();
  pinned = new Set();
  told = [];
  bearer = "s".repeat(32);
  faults = [];
});

function shelfOf(options: { budgetBytes?: number; diskBytes?: number } = {}): WeightsShelf {
  const host = new Host("agent", timeline);
  const { diskBytes, budgetBytes = null } = options;
  const cache = simWeights({
    host,
    disk,
    bytesPerMs: 10_000,
    fault: () => faults.shift() ?? null,
    ...(diskBytes === undefined ? {} : { diskBytes }),
  });
  const shelf = new WeightsShelf(
    {
      cache,
      log: simLog(() => undefined),
      pinned: () => pinned,
      sessionToken: () => bearer,
      onChange: () => told.push(weightsStateSchema.parse(shelf.state())),
    },
    { budgetBytes },
  );
  return shelf;
}

/** Ten megabytes take a second. */
async function run(forMs: number): Promise<void> {
  await timeline.run(timeline.nowMs + forMs, () => true);
}

async function load(shelf: WeightsShelf, index: number, fileBytes = 10 * MB): Promise<"loaded" | string> {
  const want = { weightsSha256: digest(index), fileBytes, path: `${WEIGHTS_PATH}${digest(index)}`, bearer: "b" };
  const loading = shelf.ensure(want, { signal: new AbortController().signal, onProgress: () => undefined }).then(
    () => "loaded",
    (thrown: unknown) => (thrown instanceof Error && "code" in thrown ? String(thrown.code) : "?"),
  );
  await run(20_000);
  return loading;
}

const cached = () =>
  (told.at(-1)?.weights ?? []).map((file) => `${Number.parseInt(file.weightsSha256, 16)} ${file.state}`);

describe("staging", () => {
  test("a file that is ordered comes, is told while it comes and when it is there, and a load of it then takes no time", async () => {
    const shelf = shelfOf();
    shelf.stage(order(1));
    await run(500);
    expect(cached()).toEqual(["1 staging"]);
    await run(600);
    expect(cached()).toEqual(["1 cached"]);
    const before = timeline.nowMs;
    let doneAtMs = 0;
    const want = { weightsSha256: digest(1), fileBytes: 10 * MB, path: "/x", bearer: "b" };
    void shelf.ensure(want, { signal: new AbortController().signal, onProgress: () => undefined }).then(() => {
      doneAtMs = timeline.nowMs;
    });
    await run(1);
    expect(doneAtMs - before).toBeLessThanOrEqual(1);
  });

  test("files come one after the other, and a load of another file stops them all", async () => {
    const shelf = shelfOf();
    for (const index of [1, 2, 3]) shelf.stage(order(index));
    await run(1_500);
    expect([...disk.files.keys()]).toEqual([digest(1)]);
    expect(await load(shelf, 9)).toBe("loaded");
    expect([...disk.files.keys()].sort()).toEqual([digest(1), digest(9)].sort());
    expect(cached().every((file) => file.endsWith("cached"))).toBe(true);
  });

  test("a load of the very file that is being staged does not stop it", async () => {
    const shelf = shelfOf();
    shelf.stage(order(1));
    await run(500);
    expect(await load(shelf, 1)).toBe("loaded");
    expect(cached()).toEqual(["1 cached"]);
  });

  test("staging ends when the owner comes or the link is lost, and begins again when it is ordered again", async () => {
    const shelf = shelfOf();
    shelf.stage(order(1));
    await run(500);
    shelf.giveWay(null);
    await run(5_000);
    expect(cached()).toEqual([]);
    shelf.stage(order(1));
    await run(2_000);
    expect(cached()).toEqual(["1 cached"]);
  });

  test("without a session there is nobody to fetch from", async () => {
    bearer = null;
    const shelf = shelfOf();
    shelf.stage(order(1));
    await run(5_000);
    expect(disk.files.size).toBe(0);
  });

  test("what does not fit the free room is not staged, and nothing goes for it", async () => {
    const shelf = shelfOf({ budgetBytes: 25 * MB });
    for (const index of [1, 2, 3]) shelf.stage(order(index));
    await run(10_000);
    expect([...disk.files.keys()]).toEqual([digest(1), digest(2)]);
    expect(told.at(-1)?.freeBytes).toBe(5 * MB);
    const full = shelfOf({ diskBytes: 25 * MB });
    full.stage(order(4));
    await run(10_000);
    expect(disk.files.has(digest(4))).toBe(false);
  });

  test("a copy that fails leaves no trace, and the next one comes", async () => {
    faults = ["weights-unreachable"];
    const shelf = shelfOf();
    shelf.stage(order(1));
    shelf.stage(order(2));
    await run(5_000);
    expect(cached()).toEqual(["2 cached"]);
  });
});

describe("eviction", () => {
  test("a load takes the room of the file of least use, and never of one that a replica runs from", async () => {
    const shelf = shelfOf({ budgetBytes: 30 * MB });
    for (const index of [1, 2, 3, 2, 3]) expect(await load(shelf, index)).toBe("loaded");
    pinned.add(digest(1));
    expect(await load(shelf, 4)).toBe("loaded");
    expect([...disk.files.keys()]).toEqual([1, 3, 4].map(digest));
  });

  test("a load that cannot get room says so, and nothing went for it", async () => {
    const shelf = shelfOf({ budgetBytes: 20 * MB });
    for (const index of [1, 2]) await load(shelf, index);
    pinned = new Set([digest(1), digest(2)]);
    expect(await load(shelf, 3)).toBe("disk-full");
    expect(disk.files.size).toBe(2);
  });

  test("without a budget files go when the disk is full", async () => {
    const shelf = shelfOf({ diskBytes: 20 * MB });
    for (const index of [1, 2, 3]) expect(await load(shelf, index)).toBe("loaded");
    expect([...disk.files.keys()]).toEqual([digest(2), digest(3)]);
  });

  test("what an earlier life left on the disk is known, in the order of its last use", async () => {
    const before = shelfOf();
    for (const index of [1, 2, 3, 1]) await load(before, index);
    const shelf = shelfOf({ budgetBytes: 30 * MB });
    await load(shelf, 4);
    expect([...disk.files.keys()]).toEqual([3, 1, 4].map(digest));
  });
});

describe("a coordinator that wants the disk", () => {
  test("loads that come at once do not each take the whole budget", async () => {
    const shelf = shelfOf({ budgetBytes: 25 * MB });
    const outcomes = await Promise.all([1, 2, 3, 4].map((index) => load(shelf, index)));
    expect(outcomes.filter((outcome) => outcome === "loaded")).toHaveLength(2);
    expect(outcomes.filter((outcome) => outcome === "disk-full")).toHaveLength(2);
    expect([...disk.files.values()].reduce((sum, bytes) => sum + bytes, 0)).toBeLessThanOrEqual(25 * MB);
  });

  test("files that it never finishes stay within the budget, over a restart too, and go when a load needs the room", async () => {
    const budgetBytes = 1_000_000;
    const whole = Buffer.alloc(700_000, "a whole file of weights, ");
    const wholeSha256 = sha256Hex(createHash("sha256").update(whole).digest("hex"));
    const server = createServer((request, response) => {
      response.writeHead(200);
      if (request.url?.endsWith(wholeSha256)) response.end(whole);
      // Half a file, and then nothing more.
      else response.write(Buffer.alloc(400_000));
    });
    const folder = await mkdtemp(join(tmpdir(), "fallow-shelf-"));
    const open = (url: string) =>
      new WeightsShelf(
        {
          cache: new HttpWeightsCache({ folder, target: { url, certificateSha256: null } }),
          log: simLog(() => undefined),
          pinned: () => pinned,
          sessionToken: () => bearer,
          onChange: () => told.push(shelf.state()),
        },
        { budgetBytes },
      );
    const sizes = async () => {
      const names = await readdir(folder);
      return (await Promise.all(names.map((name) => stat(join(folder, name))))).map(({ size }) => size);
    };
    let shelf = open("http://127.0.0.1:1");
    try {
      await once(server.listen(0, "127.0.0.1"), "listening");
      const address = server.address();
      const url = `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
      for (let index = 1; index <= 6; index++) {
        // Every other time the agent was killed in between.
        if (index % 2 === 1) shelf = open(url);
        told = [];
        shelf.stage(order(index, 800_000));
        await vi.waitFor(
          async () => expect(await stat(join(folder, `${digest(index)}.partial`))).toMatchObject({ size: 400_000 }),
          {
            timeout: 20_000,
          },
        );
        expect((await sizes()).reduce((sum, bytes) => sum + bytes, 0)).toBeLessThanOrEqual(budgetBytes);
        shelf.giveWay(null);
        await vi.waitFor(() => expect(told.at(-1)?.weights).toEqual([]), { timeout: 20_000 });
      }
      const want = {
        weightsSha256: wholeSha256,
        fileBytes: whole.length,
        path: `${WEIGHTS_PATH}${wholeSha256}`,
        bearer: "b",
      };
      await shelf.ensure(want, { signal: new AbortController().signal, onProgress: () => undefined });
      expect((await sizes()).filter((bytes) => bytes > 0)).toEqual([whole.length]);
    } finally {
      server.closeAllConnections();
      server.close();
      await rm(folder, { recursive: true });
    }
  });
});

describe("a real folder", () => {
  test("takes a staged file over HTTP, keeps what came when the owner is back, and goes on from there", async () => {
    const content = Buffer.alloc(1_000_000, "weights of a model, ");
    const weightsSha256 = sha256Hex(createHash("sha256").update(content).digest("hex"));
    const ranges: (string | undefined)[] = [];
    const server = createServer((request, response) => {
      const { range } = request.headers;
      ranges.push(range);
      const from = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
      const part = { "content-range": `bytes ${from}-${content.length - 1}/${content.length}` };
      response.writeHead(range === undefined ? 200 : 206, range === undefined ? {} : part);
      // The first time the line stalls in the middle.
      if (ranges.length === 1) response.write(content.subarray(0, 600_000));
      else response.end(content.subarray(from));
    });
    const folder = await mkdtemp(join(tmpdir(), "fallow-shelf-"));
    try {
      await once(server.listen(0, "127.0.0.1"), "listening");
      const address = server.address();
      const url = `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
      const shelf = new WeightsShelf(
        {
          cache: new HttpWeightsCache({ folder, target: { url, certificateSha256: null } }),
          log: simLog(() => undefined),
          pinned: () => pinned,
          sessionToken: () => bearer,
          onChange: () => told.push(shelf.state()),
        },
        { budgetBytes: null },
      );
      const ordered = { type: "weights.stage" as const, weightsSha256, fileBytes: content.length };
      const bytesOf = async (kind: string) =>
        (await stat(join(folder, `${weightsSha256}.${kind}`)).catch(() => null))?.size;
      shelf.stage(ordered);
      await vi.waitFor(async () => expect(await bytesOf("partial")).toBe(600_000), { timeout: 20_000 });
      shelf.giveWay(null);
      await vi.waitFor(() => expect(told.at(-1)?.weights).toEqual([]), { timeout: 20_000 });
      shelf.stage(ordered);
      await vi.waitFor(() => expect(told.at(-1)?.weights).toMatchObject([{ state: "cached" }]), { timeout: 20_000 });
      expect(ranges).toEqual([undefined, "bytes=600000-"]);
      expect((await readFile(join(folder, `${weightsSha256}.gguf`))).equals(content)).toBe(true);
    } finally {
      server.closeAllConnections();
      server.close();
      await rm(folder, { recursive: true });
    }
  });

  test("lists its verified files by last use, tells its room, and removes a file with what there is of it in part", async () => {
    const folder = await mkdtemp(join(tmpdir(), "fallow-shelf-"));
    try {
      const content = Buffer.from("weights");
      const sha = (text: string) => sha256Hex(createHash("sha256").update(text).digest("hex"));
      const [first, second] = [sha("a"), sha("b")];
      for (const [at, name] of [`${second}.gguf`, `${first}.gguf`, `${first}.partial`, "notes.txt"].entries()) {
        await writeFile(join(folder, name), content);
        await utimes(join(folder, name), 1_000 + at, 1_000 + at);
      }
      const cache = new HttpWeightsCache({ folder, target: { url: "http://127.0.0.1:1", certificateSha256: null } });
      expect((await cache.list()).map((file) => file.weightsSha256)).toEqual([second, first]);
      expect(await cache.freeBytes()).toBeGreaterThan(0);
      await cache.remove(first);
      expect((await readdir(folder)).sort()).toEqual([`${second}.gguf`, "notes.txt"].sort());
      await cache.remove(first);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test("a folder that is not there yet holds nothing", async () => {
    const cache = new HttpWeightsCache({
      folder: join(tmpdir(), "fallow-no-such-folder"),
      target: { url: "http://127.0.0.1:1", certificateSha256: null },
    });
    expect(await cache.list()).toEqual([]);
    expect(await cache.freeBytes()).toBeNull();
  });
});
