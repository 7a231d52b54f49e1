/** What lies on a node's disk: staged ahead of need, evicted for a load, told to the coordinator. Virtual time, and a real store at the end. */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { WeightsShelf } from "../src/agent/cache/weights-shelf.ts";
import { type Sha256Hex, sha256Hex } from "../src/domain/ids.ts";
import type { LayerShare } from "../src/domain/weights.ts";
import type { WeightsCache } from "../src/ports/weights-cache.ts";
import { SimDisk, simWeights, type WeightsFault } from "../src/sim/engine/sim-weights.ts";
import { simLog } from "../src/sim/sim-log.ts";
import { Host } from "../src/sim/time/host.ts";
import { Timeline } from "../src/sim/time/timeline.ts";
import { type WeightsState, weightsStateSchema } from "../src/wire/agent-link.ts";
import { type ChunkFolder, chunkFolder, overwrite } from "./support/chunk-folder.ts";
import { type ChunkedModel, chunkedModel, KIB_64 } from "./support/chunked-model.ts";
import { stockedCache } from "./support/stocked-cache.ts";

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
  const { diskBytes, budgetBytes = null } = options;
  const cache = simWeights({
    host: new Host("agent", timeline),
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
  const want = { weightsSha256: digest(index), fileBytes };
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
    const want = { weightsSha256: digest(1), fileBytes: 10 * MB };
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

  test("what the planner had brought stays until a load used it, however little the rest was left alone; it goes before a load is refused", async () => {
    const shelf = shelfOf({ budgetBytes: 30 * MB });
    shelf.stage(order(1));
    await run(2_000);
    for (const index of [2, 3, 2, 3, 2, 3]) await load(shelf, index);
    expect(await load(shelf, 4)).toBe("loaded");
    expect([...disk.files.keys()].sort()).toContain(digest(1));
    pinned = new Set([digest(4), ...[2, 3].map(digest).filter((one) => disk.files.has(one))]);
    expect(await load(shelf, 5)).toBe("loaded");
    expect([...disk.files.keys()]).not.toContain(digest(1));
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
});

describe("a real store of chunks", () => {
  const share = (first: number, count: number) => ({ first, count, hasEmbedding: false, hasOutput: false });
  let on: ChunkFolder;
  let models: readonly ChunkedModel[];
  /** Chunks that may still come; without end at first. */
  let allowed: number;
  let brought: number;
  let wake: () => void;

  beforeEach(async () => {
    on = await chunkFolder();
    models = Array.from({ length: 5 }, () => chunkedModel([10 * KIB_64]));
    allowed = Number.POSITIVE_INFINITY;
    brought = 0;
    wake = () => undefined;
  });
  afterEach(() => on.close());

  function shelfOn(budgetBytes: number | null, more: Partial<WeightsCache> = {}): WeightsShelf {
    const store = on.store();
    const gate = async (_: number, signal: AbortSignal) => {
      brought += 1;
      if (brought <= allowed) return;
      wake();
      await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    };
    const shelf: WeightsShelf = new WeightsShelf(
      {
        cache: { ...stockedCache({ store: () => store, models, gate }), ...more },
        log: simLog(() => undefined),
        pinned: () => pinned,
        sessionToken: () => bearer,
        onChange: () => told.push(weightsStateSchema.parse(shelf.state())),
      },
      { budgetBytes },
    );
    return shelf;
  }
  const model = (at: number): ChunkedModel => {
    const found = models[at];
    if (found === undefined) throw new Error(`there are ${models.length} models`);
    return found;
  };
  const wanted = (at: number, layers: LayerShare | null = null) => ({
    weightsSha256: model(at).weightsSha256,
    fileBytes: 10 * KIB_64,
    layers,
  });
  const ensure = (shelf: WeightsShelf, at: number, layers: LayerShare | null = null) =>
    shelf.ensure(wanted(at, layers), { signal: new AbortController().signal, onProgress: () => undefined });
  const held = async () =>
    new Map(
      (await on.store().list()).map((one) => [
        models.findIndex((any) => any.weightsSha256 === one.weightsSha256),
        one.storedBytes / KIB_64,
      ]),
    );

  /** Orders a copy, and gives way when so many chunks of it came. */
  async function stageInPart(shelf: WeightsShelf, at: number, chunks: number): Promise<void> {
    allowed = brought + chunks;
    const stalled = new Promise<void>((resolve) => {
      wake = resolve;
    });
    shelf.stage({ type: "weights.stage", weightsSha256: model(at).weightsSha256, fileBytes: 10 * KIB_64 });
    await stalled;
    told = [];
    shelf.giveWay(null);
    await vi.waitFor(() => expect(told.at(-1)?.weights.some(({ state }) => state === "staging")).toBe(false));
    allowed = Number.POSITIVE_INFINITY;
  }

  test("staging that stops keeps what came, tells it as a part, and goes on from there", async () => {
    const shelf = shelfOn(null);
    await stageInPart(shelf, 0, 4);
    expect(await held()).toEqual(new Map([[0, 4]]));
    const { weightsSha256 } = model(0);
    expect(told.at(-1)?.parts).toEqual([{ weightsSha256, fileBytes: 10 * KIB_64, storedBytes: 4 * KIB_64 }]);
    const before = brought;
    shelf.stage({ type: "weights.stage", weightsSha256, fileBytes: 10 * KIB_64 });
    await vi.waitFor(() => expect(told.at(-1)?.weights).toMatchObject([{ state: "cached" }]));
    expect(brought - before).toBe(6);
  });

  test("what the disk cannot take is not begun, unless enough of it is here or goes for it", async () => {
    await stageInPart(shelfOn(null), 0, 4);
    const [before, shelf] = [brought, shelfOn(null, { freeBytes: async () => 5 * KIB_64 })];
    const refusal = { code: "disk-full", data: { missingBytes: 10 * KIB_64, freeBytes: 5 * KIB_64 } };
    await expect(ensure(shelf, 1)).rejects.toMatchObject(refusal);
    expect(brought).toBe(before);
    const roomier = shelfOn(null, { freeBytes: async () => 6 * KIB_64 });
    for (const at of [0, 1]) await ensure(roomier, at);
    expect(brought - before).toBe(16);
    expect(await held()).toEqual(new Map([[1, 10]]));
  });

  test("parts count against the budget, over a restart too, and go before anything whole", async () => {
    const budgetBytes = 24 * KIB_64;
    let shelf = shelfOn(budgetBytes);
    await ensure(shelf, 0);
    await stageInPart(shelf, 1, 3);
    shelf = shelfOn(budgetBytes);
    await shelf.open();
    expect(shelf.state().freeBytes).toBe(11 * KIB_64);
    await stageInPart(shelf, 2, 7);
    expect(await held()).toEqual(
      new Map([
        [0, 10],
        [1, 3],
        [2, 7],
      ]),
    );
    // Ten more fit when the parts of others are gone.
    await ensure(shelf, 3);
    expect((await held()).get(0)).toBe(10);
    expect((await held()).get(3)).toBe(10);
    expect([...(await held()).values()].reduce((sum, chunks) => sum + chunks, 0)).toBeLessThanOrEqual(24);
  });

  test("a share takes the room of its chunks only, and a whole model has every share", async () => {
    const shelf = shelfOn(16 * KIB_64);
    for (const at of [0, 1, 2]) await ensure(shelf, at, share(2, 5));
    expect(await held()).toEqual(
      new Map([
        [0, 5],
        [1, 5],
        [2, 5],
      ]),
    );
    const before = brought;
    await ensure(shelf, 0, share(3, 2));
    expect(brought).toBe(before);
    await ensure(shelf, 2);
    expect((await held()).get(2)).toBe(10);
    const whole = brought;
    await ensure(shelf, 2, share(0, 9));
    expect(brought).toBe(whole);
    expect([...(await held()).values()].reduce((sum, chunks) => sum + chunks, 0)).toBeLessThanOrEqual(16);
  });

  test("a share that was staged is kept for the planner, and one that is larger than all room is refused", async () => {
    const shelf = shelfOn(8 * KIB_64);
    const { weightsSha256 } = model(0);
    shelf.stage({ type: "weights.stage", weightsSha256, fileBytes: 10 * KIB_64, layers: share(0, 4) });
    await vi.waitFor(async () => expect(await held()).toEqual(new Map([[0, 4]])));
    await ensure(shelf, 1, share(0, 3));
    await ensure(shelf, 2, share(0, 3));
    expect(await held()).toEqual(
      new Map([
        [0, 4],
        [2, 3],
      ]),
    );
    await expect(ensure(shelf, 3)).rejects.toMatchObject({ code: "disk-full" });
    expect(await held()).toEqual(
      new Map([
        [0, 4],
        [2, 3],
      ]),
    );
  });

  test("what another agent on the machine runs from stays, and the load says that there is no room", async () => {
    const shelf = shelfOn(15 * KIB_64);
    await ensure(shelf, 0);
    const other = await on.open(model(0), on.store());
    await other.path();
    // It counts on: the budget is the disk's.
    await ensure(shelf, 1).catch(() => undefined);
    expect((await held()).get(0)).toBe(10);
    await other.close();
    await ensure(shelf, 2);
    expect((await held()).get(2)).toBe(10);
  });

  test("damage that a scrub found is told, and the next load brings what is missing", async () => {
    const shelf = shelfOn(null);
    await ensure(shelf, 0);
    const weights = await on.open(model(0));
    await overwrite(on.firstFile(model(0)), 3 * KIB_64, Buffer.from("rot"));
    await weights.scrub({ signal: new AbortController().signal });
    await weights.close();
    await shelf.lookAgain();
    expect(told.at(-1)).toMatchObject({ weights: [], parts: [{ storedBytes: 9 * KIB_64 }] });
    const before = brought;
    await ensure(shelf, 0);
    expect(brought - before).toBe(1);
  });
});
