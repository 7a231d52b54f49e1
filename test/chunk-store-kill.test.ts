/** Processes that write one store of chunks and are killed in the middle, and disks that are full. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { randomBytes, randomInt } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { DiskChunkStore } from "../src/adapters/chunk-store-disk/disk-chunk-store.ts";
import { type ChunkedModel, chunkedModel } from "./support/chunked-model.ts";

const MIB = 1024 * 1024;
const KILLS = 20;
const CHUNKS = 64;
/** Large enough that a kill often falls into the writing of one. */
const CHUNK_BYTES = 2 * MIB;
/** About as long as one takes to be hashed, written and noted. */
const KILL_MICROSECONDS_MAX = 6_000;
const TEST_MS_MAX = 180_000;
const signal = new AbortController().signal;

let home: string;
let folder: string;
let source: string;
const running = new Set<ChildProcess>();
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "fallow-chunk-kill-"));
  folder = join(home, "weights");
  source = join(home, "model");
});
afterEach(async () => {
  for (const child of running) child.kill("SIGKILL");
  running.clear();
  await rm(home, { recursive: true, force: true });
});

async function makeModel(bytes: number, chunkBytes: number): Promise<ChunkedModel> {
  const content = randomBytes(bytes);
  await writeFile(source, content);
  return chunkedModel([], { from: [content], chunkBytes });
}

interface Writer {
  readonly lines: readonly string[];
  kill(): void;
  readonly ended: Promise<void>;
}

function startWriter(options: { chunkBytes: number; onLine?: (line: string, writer: Writer) => void }): Writer {
  const script = fileURLToPath(new URL("./support/chunk-writer.ts", import.meta.url));
  const child = spawn(process.execPath, [script, folder, source, String(options.chunkBytes)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  running.add(child);
  const lines: string[] = [];
  const writer: Writer = {
    lines,
    kill: () => child.kill("SIGKILL"),
    ended: once(child, "close").then(() => undefined),
  };
  let rest = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    const parts = (rest + text).split("\n");
    rest = parts.pop() ?? "";
    for (const line of parts) {
      lines.push(line);
      options.onLine?.(line, writer);
    }
  });
  return writer;
}

const numbers = (writer: Writer, word: string) =>
  writer.lines.filter((line) => line.startsWith(`${word} `)).map((line) => Number(line.split(" ")[1]));

describe("kill -9", () => {
  test(`${KILLS} times in the middle of writing costs at most the chunk that was being written each time, and damages none`, {
    timeout: TEST_MS_MAX,
  }, async () => {
    const model = await makeModel(CHUNKS * CHUNK_BYTES - 1_000, CHUNK_BYTES);
    const tries = new Map<number, number>();
    const kept = new Set<number>();
    const reader = new DiskChunkStore({ folder, headroomBytes: 0 });
    for (let kill = 0; kill <= KILLS; kill++) {
      // The kill falls while one of the next three chunks is hashed, written or noted; the last one lives.
      let left = kill === KILLS ? Number.POSITIVE_INFINITY : randomInt(1, 4);
      const onLine = (line: string, writer: Writer) => {
        if (!line.startsWith("try ") || --left !== 0) return;
        const atMs = performance.now() + randomInt(KILL_MICROSECONDS_MAX) / 1_000;
        while (performance.now() < atMs); // a timer is not exact enough
        writer.kill();
      };
      const writer = startWriter({ chunkBytes: CHUNK_BYTES, onLine });
      await writer.ended;
      const [had = ""] = writer.lines.filter((line) => line.startsWith("have ")).map((line) => line.slice(5));
      const have = new Set(had.split(",").filter(Boolean).map(Number));
      for (const chunk of kept) expect(have.has(chunk), `chunk ${chunk} was kept before kill ${kill}`).toBe(true);
      for (const chunk of numbers(writer, "try")) tries.set(chunk, (tries.get(chunk) ?? 0) + 1);
      for (const chunk of numbers(writer, "kept")) kept.add(chunk);
      const weights = await reader.open(model, { signal });
      expect(await weights.scrub({ signal }), `damaged after kill ${kill}`).toEqual([]);
      await weights.close();
      if (kill < KILLS) expect(kept.size).toBeLessThan(CHUNKS);
    }
    const fetched = [...tries.values()].reduce((sum, count) => sum + count, 0);
    expect(tries.size).toBe(CHUNKS);
    expect(fetched - CHUNKS).toBeLessThanOrEqual(KILLS);
    const weights = await reader.open(model, { signal });
    expect((await readFile(await weights.path())).equals(model.files[0] ?? Buffer.alloc(0))).toBe(true);
    await weights.close();
  });

  test("of the one that writes lets the one that waits go on from there", { timeout: TEST_MS_MAX }, async () => {
    const model = await makeModel(120 * MIB, MIB);
    let second: Writer | null = null;
    const first = startWriter({
      chunkBytes: MIB,
      onLine: (line, writer) => {
        if (line === "kept 3") {
          const onLine = (theirs: string) => {
            if (theirs === "waiting") writer.kill();
          };
          second = startWriter({ chunkBytes: MIB, onLine });
        }
      },
    });
    await first.ended;
    const other = second as Writer | null;
    await other?.ended;
    const written = [...numbers(first, "kept"), ...(other === null ? [] : numbers(other, "kept"))];
    expect(new Set(written).size, "each chunk was written by one of them only").toBe(written.length);
    const missing = Array.from({ length: 120 }, (_, at) => at).filter((chunk) => !written.includes(chunk));
    // The one that was on disk and in the journal, and not yet told, when the kill came.
    expect(missing.length).toBeLessThanOrEqual(1);
    const weights = await new DiskChunkStore({ folder, headroomBytes: 0 }).open(model, { signal });
    expect((await readFile(await weights.path())).equals(model.files[0] ?? Buffer.alloc(0))).toBe(true);
    await weights.close();
  });

  test("what another process has open is not removed until it ends", { timeout: TEST_MS_MAX }, async () => {
    const model = await makeModel(400 * MIB, MIB);
    const store = new DiskChunkStore({ folder, headroomBytes: 0 });
    const outcomes: unknown[] = [];
    const writer = startWriter({
      chunkBytes: MIB,
      onLine: (line, self) => {
        if (line !== "kept 1") return;
        const removing = store.remove(model.weightsSha256).catch((thrown: unknown) => thrown);
        void removing.then((outcome) => {
          outcomes.push(outcome);
          self.kill();
        });
      },
    });
    await writer.ended;
    expect(outcomes).toMatchObject([{ code: "weights-in-use" }]);
    await store.remove(model.weightsSha256);
    expect(await store.list()).toEqual([]);
  });
});

const MOUNT = ["--mount", "--propagation", "private", "sh", "-c"];
const canMount =
  process.platform === "linux" && spawnSync("unshare", [...MOUNT, "mount -t tmpfs tmpfs /mnt"]).status === 0;

describe.skipIf(!canMount)(`a full disk${canMount ? "" : " (left out: needs root on Linux)"}`, () => {
  /** The writer twice on a small disk of its own: over the edge, and again after the filler is gone. */
  function onSmallDisk(options: { sizeMib: number; fillerMib: number; headroom: string }): Promise<readonly string[]> {
    const script = fileURLToPath(new URL("./support/chunk-writer.ts", import.meta.url));
    const write = `"${process.execPath}" "${script}" "$1" "$2" ${MIB} ${options.headroom}`;
    const steps = [
      `mkdir -p "$1"`,
      `mount -t tmpfs -o size=${options.sizeMib}m tmpfs "$1"`,
      `head -c ${options.fillerMib * MIB} /dev/zero > "$1/filler"`,
      write,
      `echo "free $(df --output=avail -B1 "$1" | tail -1)"`,
      `rm "$1/filler"`,
      write,
    ];
    const child = spawn("unshare", [...MOUNT, steps.join(" && "), "sh", folder, source], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    running.add(child);
    let text = "";
    child.stdout.setEncoding("utf8").on("data", (part: string) => {
      text += part;
    });
    return once(child, "close").then(() => text.split("\n"));
  }
  const fullOf = (lines: readonly string[]) =>
    lines.filter((line) => line.startsWith("full ")).map((line) => JSON.parse(line.slice(5)));

  test("is told with path and sizes, nothing partial is used, and all goes on when there is room", async () => {
    const model = await makeModel(20 * MIB, MIB);
    const lines = await onSmallDisk({ sizeMib: 32, fillerMib: 20, headroom: "0" });
    const [full, ...more] = fullOf(lines);
    expect(more).toEqual([]);
    expect(full).toMatchObject({ code: "disk-full", neededBytes: MIB, isReadable: true });
    expect(full.path).toContain(`${model.weightsSha256}.gguf`);
    expect(full.freeBytes).toBeLessThan(MIB);
    expect(full.kept).toBeGreaterThan(8);
    // The second life starts with all that the first kept, and with nothing else.
    const haves = lines
      .filter((line) => line.startsWith("have "))
      .map((line) => line.slice(5).split(",").filter(Boolean));
    expect(haves.map((have) => have.length)).toEqual([0, full.kept]);
    expect(lines.filter((line) => line.startsWith("path "))).toHaveLength(1);
  });

  test("never comes to be: of a small disk half is left to its owner", async () => {
    await makeModel(48 * MIB, MIB);
    const lines = await onSmallDisk({ sizeMib: 64, fillerMib: 4, headroom: "default" });
    const [first, second] = fullOf(lines);
    expect(first).toMatchObject({ code: "disk-full", isReadable: true });
    const free = Number(lines.find((line) => line.startsWith("free "))?.slice(5));
    expect(free).toBeGreaterThanOrEqual(29 * MIB);
    expect(free).toBeLessThanOrEqual(32 * MIB);
    // With four more free, two more are for weights.
    expect(second.kept - first.kept).toBeGreaterThanOrEqual(1);
    expect(second.kept).toBeLessThanOrEqual(32);
  });
});
