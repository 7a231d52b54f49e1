/**
 * `fallow models add` of files that are cut, altered or made to harm. Each is refused with a reason (or, where only weights were
 * altered, taken for what it is), and the grid serves on.
 */
import { execFileSync } from "node:child_process";
import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SeededRandom } from "../src/sim/time/random.ts";
import { exchange, field, parsed, readWhole } from "./support/exchange.ts";
import { type Grid, makeHome, removeHome, runFallow, startGrid } from "./support/grid.ts";
import { askText } from "./support/grid-console.ts";
import { TINY_MODEL } from "./support/lying-agent.ts";
import { canReadMemory, forgetPeak, peakBytes, residentBytes } from "./support/process-memory.ts";

const QUESTION = { prompt: "In the beginning", tokens: 16, seed: 4 } as const;
const GGUF_MAGIC = 0x46554747;
const GGUF_VERSION = 3;
const TYPE = { uint32: 4, string: 8, array: 9 } as const;
/** Header, metadata and tensor list of the bundled model end before this. */
const HEAD_BYTES = 60_000;
const FLIPS = 60;
/** What the coordinator may take to refuse a file of a few hundred bytes. */
const GROWTH_MAX_BYTES = 64 * 1024 * 1024;

const whole = readFileSync(TINY_MODEL);
let grid: Grid;
let folder: string;
let text: string;

beforeAll(async () => {
  folder = makeHome();
  grid = await startGrid();
  text = await askText(grid, QUESTION);
});
afterAll(async () => {
  await grid.stop();
  removeHome(folder);
});

function file(name: string, bytes: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

const add = (path: string) => runFallow(["models", "add", path, "--json", "--warm", "0"], { home: grid.home });

async function expectRefused(path: string, reason: RegExp): Promise<void> {
  const added = await add(path);
  expect(added.code, `${path}: ${added.stdout}${added.stderr}`).not.toBe(0);
  expect(`${added.stdout}${added.stderr}`, path).toMatch(reason);
}

const u32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
};
const u64 = (value: bigint) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
};
const text64 = (value: string) => Buffer.concat([u64(BigInt(Buffer.byteLength(value))), Buffer.from(value)]);
const gguf = (counts: { tensors: bigint; keys: bigint }, ...rest: readonly Uint8Array[]) =>
  Buffer.concat([u32(GGUF_MAGIC), u32(GGUF_VERSION), u64(counts.tensors), u64(counts.keys), ...rest]);

describe("a model file", () => {
  it("that is cut anywhere is refused with where it ends", async () => {
    for (const bytes of [0, 3, 4, 16, 24, 100, 5_000, 40_000, Math.floor(whole.length / 2), whole.length - 1]) {
      await expectRefused(
        file(`cut-${bytes}.gguf`, whole.subarray(0, bytes)),
        /cut|ends|short|bytes|empty|GGUF|truncated/i,
      );
    }
    expect(await askText(grid, QUESTION)).toBe(text);
  });

  it("that is no GGUF at all is refused by its name", async () => {
    await expectRefused(file("text.gguf", Buffer.from("Once upon a time".repeat(1_000))), /GGUF/i);
    await expectRefused(file("zeros.gguf", Buffer.alloc(100_000)), /GGUF/i);
    await expectRefused(file("old.gguf", Buffer.concat([u32(GGUF_MAGIC), u32(1), Buffer.alloc(100)])), /version/i);
    await expectRefused(file("new.gguf", Buffer.concat([u32(GGUF_MAGIC), u32(999), Buffer.alloc(100)])), /version/i);
    await expectRefused(join(folder, "nowhere.gguf"), /not|no such|cannot/i);
    expect(await askText(grid, QUESTION)).toBe(text);
  });

  it("that is no plain file is refused, and the coordinator does not hang on it", async () => {
    const directory = join(folder, "folder.gguf");
    mkdirSync(directory);
    await expectRefused(directory, /file|directory|folder/i);
    const loop = join(folder, "loop.gguf");
    symlinkSync(loop, loop);
    await expectRefused(loop, /link|loop|cannot|read/i);
    const pipe = join(folder, "pipe.gguf");
    execFileSync("mkfifo", [pipe]);
    await expectRefused(pipe, /file|pipe|read/i);
    await expectRefused("/dev/zero", /file|device|read/i);
    expect(await askText(grid, QUESTION)).toBe(text);
  });

  it("that lies about its counts and lengths is refused without the memory it asks for", async () => {
    const most = 2n ** 64n - 1n;
    const hostile: readonly (readonly [string, Uint8Array])[] = [
      ["keys", gguf({ tensors: 0n, keys: most })],
      ["tensors", gguf({ tensors: most, keys: 0n })],
      ["both", gguf({ tensors: 2n ** 62n, keys: 2n ** 62n }, Buffer.alloc(1_000))],
      ["long-key", gguf({ tensors: 0n, keys: 1n }, u64(most), Buffer.alloc(100))],
      ["long-string", gguf({ tensors: 0n, keys: 1n }, text64("general.name"), u32(TYPE.string), u64(2n ** 60n))],
      [
        "long-array",
        gguf(
          { tensors: 0n, keys: 1n },
          text64("a"),
          u32(TYPE.array),
          u32(TYPE.uint32),
          u64(2n ** 61n),
          Buffer.alloc(64),
        ),
      ],
      [
        "deep-array",
        gguf(
          { tensors: 0n, keys: 1n },
          text64("a"),
          u32(TYPE.array),
          ...Array.from({ length: 100_000 }, () => Buffer.concat([u32(TYPE.array), u64(1n)])),
        ),
      ],
      ["unknown-type", gguf({ tensors: 0n, keys: 1n }, text64("a"), u32(4_000), Buffer.alloc(64))],
      ["zero-alignment", gguf({ tensors: 0n, keys: 1n }, text64("general.alignment"), u32(TYPE.uint32), u32(0))],
      [
        "large-tensor",
        gguf(
          { tensors: 1n, keys: 0n },
          text64("token_embd.weight"),
          u32(4),
          u64(2n ** 40n),
          u64(2n ** 40n),
          u64(2n ** 40n),
          u64(2n ** 40n),
          u32(0),
          u64(0n),
          Buffer.alloc(64),
        ),
      ],
      [
        "far-tensor",
        gguf({ tensors: 1n, keys: 0n }, text64("w"), u32(1), u64(32n), u32(0), u64(2n ** 63n), Buffer.alloc(256)),
      ],
    ];
    const before = canReadMemory ? residentBytes(grid.pid) : 0;
    if (canReadMemory) forgetPeak(grid.pid);
    for (const [name, bytes] of hostile) await expectRefused(file(`${name}.gguf`, bytes), /"message":"[^"]{20,}/);
    if (canReadMemory) expect(peakBytes(grid.pid) - before).toBeLessThan(GROWTH_MAX_BYTES);
    expect(await askText(grid, QUESTION)).toBe(text);
  });

  it("that is sparse and claims to be huge is refused by what it holds", async () => {
    const path = join(folder, "sparse.gguf");
    const handle = openSync(path, "w");
    ftruncateSync(handle, 2 ** 40);
    closeSync(handle);
    await expectRefused(path, /GGUF/i);
  });

  it("with flipped bits in its head is refused with a reason or taken, and never takes the coordinator down", async () => {
    const random = new SeededRandom("flips");
    let refused = 0;
    for (let flip = 0; flip < FLIPS; flip++) {
      const bytes = Buffer.from(whole);
      for (let bits = random.between(1, 4); bits > 0; bits--) {
        const at = random.between(0, HEAD_BYTES);
        bytes[at] = (bytes[at] ?? 0) ^ (1 << random.between(0, 7));
      }
      const path = file("flipped.gguf", bytes);
      const answer = await exchange({
        url: `${grid.baseUrl}/admin/v1/models`,
        key: grid.apiKey,
        body: { path, id: `flipped-${flip}`, warmReplicas: 0 },
      });
      expect([201, 400, 422], answer.body).toContain(answer.status);
      if (answer.status === 201) {
        const id = `flipped-${flip}`;
        await exchange({ url: `${grid.baseUrl}/admin/v1/models/${id}`, key: grid.apiKey, method: "DELETE" });
        continue;
      }
      refused += 1;
      expect(readWhole(answer.body).error?.message.length, answer.body).toBeGreaterThan(10);
    }
    expect(refused).toBeGreaterThan(0);
    expect(await askText(grid, QUESTION)).toBe(text);
  });

  it("with weights of garbage is loaded apart, and what it cannot answer ends in an error, not in a lie", async () => {
    const bytes = Buffer.from(whole);
    bytes.fill(0xff, Math.floor(whole.length / 2));
    const path = file("garbage-weights.gguf", bytes);
    const added = await exchange({
      url: `${grid.baseUrl}/admin/v1/models`,
      key: grid.apiKey,
      body: { path, id: "garbage", warmReplicas: 0 },
    });
    expect(added.status, added.body).toBe(201);
    const answer = await exchange({
      url: `${grid.apiUrl}/completions`,
      key: grid.apiKey,
      body: { model: "garbage", prompt: "And", max_tokens: 4 },
    });
    expect(answer.status, answer.body).not.toBe(200);
    expect(field(field(parsed(answer.body), "error"), "message"), answer.body).toMatch(/NaN|logits|engine|node/);
    expect(await askText(grid, QUESTION)).toBe(text);
  });
});
