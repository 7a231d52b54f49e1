import { createHash } from "node:crypto";
import { mkdtemp, open, readdir, readFile, rm, stat, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { sequenceId, shareOfStage } from "../../domain/chain.ts";
import { sha256Hex } from "../../domain/ids.ts";
import type { Log } from "../../ports/log.ts";
import { byteSourceOf } from "../../weights/byte-source.ts";
import { stageBytes } from "../../weights/stage-plan.ts";
import { readStagePlan } from "../../weights/stage-slice.ts";
import { DiskSpill, emptySpillFolder } from "./disk-spill.ts";
import { DiskStageFiles } from "./disk-stage-files.ts";

const TINY = fileURLToPath(new URL("../../../models/tiny-q8_0.gguf", import.meta.url));
const LAYERS = 4;
const digest = sha256Hex("ab".repeat(32));
const signal = new AbortController().signal;
const nothing = () => undefined;
const log: Log = { debug: nothing, info: nothing, warn: nothing, error: nothing, child: () => log };

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "fallow-stage-files-"));
});
afterEach(() => rm(folder, { recursive: true }));

const want = (first: number, count: number) => ({
  weightsSha256: digest,
  weightsPath: TINY,
  share: shareOfStage({ first, count }, LAYERS),
});

async function cut(first: number, count: number): Promise<string> {
  const source = byteSourceOf(await readFile(TINY));
  const plan = await readStagePlan([source], want(first, count).share);
  if (!plan.ok) throw new Error(plan.reason.message);
  const hash = createHash("sha256");
  for await (const bytes of stageBytes(plan.value, [source])) hash.update(bytes);
  return hash.digest("hex");
}

const digestOf = async (path: string) =>
  createHash("sha256")
    .update(await readFile(path))
    .digest("hex");

const stagesIn = async (path: string) => (await readdir(path)).filter((name) => name.endsWith(".gguf"));

/** One byte of it is another one, and its length and time are what they were. */
async function damage(path: string, at: number): Promise<void> {
  const { atime, mtime } = await stat(path);
  const file = await open(path, "r+");
  const byte = new Uint8Array(1);
  await file.read(byte, 0, 1, at);
  await file.write(Uint8Array.of((byte[0] ?? 0) ^ 0x10), 0, 1, at);
  await file.close();
  await utimes(path, atime, mtime);
}

function watchedLog(): { readonly log: Log; readonly told: unknown[] } {
  const told: unknown[] = [];
  return { log: { ...log, warn: (data) => void told.push(data) }, told };
}

describe("a stage's file with a flipped bit", () => {
  test.each([0, 5_000, 300_000])("at byte %i is named and written anew by the next process", async (at) => {
    const path = await new DiskStageFiles({ folder, log }).ensure(want(1, 2), { signal });
    await damage(path, at);
    const watched = watchedLog();
    const files = new DiskStageFiles({ folder, log: watched.log });
    expect(await digestOf(await files.ensure(want(1, 2), { signal }))).toBe(await cut(1, 2));
    const name = `${digest}-1-2.gguf`;
    expect(watched.told).toEqual([{ name, damage: expect.stringMatching(/^its digest is [0-9a-f]{64}, /) }]);
    await files.ensure(want(1, 2), { signal });
    expect(watched.told).toHaveLength(1);
  });

  test("and touched since it was used is found out by the same process", async () => {
    const watched = watchedLog();
    const files = new DiskStageFiles({ folder, log: watched.log });
    const path = await files.ensure(want(1, 2), { signal });
    await damage(path, 5_000);
    await utimes(path, new Date(), new Date(Date.now() + 5_000));
    expect(await digestOf(await files.ensure(want(1, 2), { signal }))).toBe(await cut(1, 2));
    expect(watched.told).toHaveLength(1);
  });

  test("or without a note of its digest is written anew; a sound one is used as it is", async () => {
    const path = await new DiskStageFiles({ folder, log }).ensure(want(1, 2), { signal });
    const before = await stat(path);
    await new DiskStageFiles({ folder, log }).ensure(want(1, 2), { signal });
    expect((await stat(path)).ino).toBe(before.ino);
    await rm(`${path}.sha256`);
    const watched = watchedLog();
    await new DiskStageFiles({ folder, log: watched.log }).ensure(want(1, 2), { signal });
    expect(watched.told).toEqual([{ name: `${digest}-1-2.gguf`, damage: "there is no note of its digest" }]);
    expect(await digestOf(path)).toBe(await cut(1, 2));
  });
});

describe("files of stages", () => {
  test.each([
    [0, 2],
    [1, 2],
    [2, 2],
  ])("hold layers %i + %i as the plan has them", async (first, count) => {
    const files = new DiskStageFiles({ folder, log });
    expect(await digestOf(await files.ensure(want(first, count), { signal }))).toBe(await cut(first, count));
  });

  test("are made once for all who ask at the same time, and again when one is short", async () => {
    const files = new DiskStageFiles({ folder, log });
    const [one, two] = await Promise.all([1, 2].map(() => files.ensure(want(0, 2), { signal })));
    expect(one).toBe(two);
    expect(await readdir(folder)).toEqual([`${digest}-0-2.gguf`, `${digest}-0-2.gguf.sha256`]);
    await truncate(one ?? "", 100);
    const again = new DiskStageFiles({ folder, log });
    expect(await digestOf(await again.ensure(want(0, 2), { signal }))).toBe(await cut(0, 2));
  });

  test("that a killed process left half done are taken away", async () => {
    await writeFile(join(folder, `${digest}-0-2.gguf.part`), "half");
    await writeFile(join(folder, `${digest}-0-2.gguf.sha256`), "of a file that was not put there any more");
    const files = new DiskStageFiles({ folder, log });
    await files.ensure(want(1, 2), { signal });
    expect(await readdir(folder)).toEqual([`${digest}-1-2.gguf`, `${digest}-1-2.gguf.sha256`]);
  });

  test("go when nobody uses them and they are too many, the one that rested longest first", async () => {
    const first = new DiskStageFiles({ folder, log });
    const size = (await readFile(await first.ensure(want(1, 2), { signal }))).length;
    const files = new DiskStageFiles({ folder, log, restingBytesMax: size });
    await files.ensure(want(1, 2), { signal });
    await files.ensure(want(1, 1), { signal });
    await files.ensure(want(2, 1), { signal });
    expect(await stagesIn(folder)).toHaveLength(3); // all in use
    files.rest(want(1, 2));
    files.rest(want(2, 1));
    await expect.poll(() => stagesIn(folder)).toEqual([`${digest}-1-1.gguf`, `${digest}-2-1.gguf`]);
    await expect.poll(async () => (await readdir(folder)).length).toBe(4); // a note for each
  });

  test("are refused by name where the layers are not the model's, and nothing is left of them", async () => {
    const files = new DiskStageFiles({ folder, log });
    const wrong = { ...want(0, 2), share: { first: 3, count: 4, hasEmbedding: false, hasOutput: true } };
    await expect(files.ensure(wrong, { signal })).rejects.toMatchObject({ code: "stage-refused" });
    await writeFile(join(folder, "model"), "no model at all");
    const none = { ...want(0, 2), weightsPath: join(folder, "model") };
    await expect(files.ensure(none, { signal })).rejects.toMatchObject({ code: "stage-refused" });
    expect(await readdir(folder)).toEqual(["model"]);
  });
});

describe("what goes to disk of activations", () => {
  const ONE = sequenceId("0000000000000001");

  test("is read back from where it was put, and gone with the sequence and with the stage", async () => {
    const spill = new DiskSpill(join(folder, "spill"));
    expect(await spill.append(ONE, Uint8Array.of(1, 2, 3))).toBe(0);
    expect(await spill.append(ONE, Uint8Array.of(4, 5))).toBe(3);
    expect(await spill.read(ONE, { offset: 1, length: 3 })).toEqual(Uint8Array.of(2, 3, 4));
    await expect(spill.read(ONE, { offset: 4, length: 9 })).rejects.toMatchObject({ code: "spill-short" });
    await spill.drop(ONE);
    await expect(spill.read(ONE, { offset: 0, length: 1 })).rejects.toMatchObject({ code: "spill-short" });
    await spill.append(ONE, Uint8Array.of(9));
    await spill.close();
    await spill.close();
    expect(await readdir(folder)).toEqual([]);
    await expect(spill.append(ONE, Uint8Array.of(9))).rejects.toMatchObject({ code: "spill-closed" });
  });

  test("does not outlive an agent that was killed, though the next one's stages have other names", async () => {
    const killed = new DiskSpill(join(folder, "spill", "rep_1"));
    await killed.append(ONE, Uint8Array.of(1, 2, 3));
    await emptySpillFolder(join(folder, "spill"));
    expect(await readdir(folder)).toEqual([]);
    await emptySpillFolder(join(folder, "spill"));
    const next = new DiskSpill(join(folder, "spill", "rep_2"));
    await next.append(ONE, Uint8Array.of(4));
    expect(await readdir(join(folder, "spill"))).toEqual(["rep_2"]);
    await killed.close();
    await next.close();
  });
});
