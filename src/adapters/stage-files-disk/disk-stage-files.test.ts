import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
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
    expect(await readdir(folder)).toHaveLength(1);
    await truncate(one ?? "", 100);
    const again = new DiskStageFiles({ folder, log });
    expect(await digestOf(await again.ensure(want(0, 2), { signal }))).toBe(await cut(0, 2));
  });

  test("that a killed process left half done are taken away", async () => {
    await writeFile(join(folder, `${digest}-0-2.gguf.part`), "half");
    const files = new DiskStageFiles({ folder, log });
    await files.ensure(want(1, 2), { signal });
    expect(await readdir(folder)).toEqual([`${digest}-1-2.gguf`]);
  });

  test("go when nobody uses them and they are too many, the one that rested longest first", async () => {
    const first = new DiskStageFiles({ folder, log });
    const size = (await readFile(await first.ensure(want(1, 2), { signal }))).length;
    const files = new DiskStageFiles({ folder, log, restingBytesMax: size });
    await files.ensure(want(1, 2), { signal });
    await files.ensure(want(1, 1), { signal });
    await files.ensure(want(2, 1), { signal });
    expect(await readdir(folder)).toHaveLength(3); // all in use
    files.rest(want(1, 2));
    files.rest(want(2, 1));
    await expect.poll(() => readdir(folder)).toEqual([`${digest}-1-1.gguf`, `${digest}-2-1.gguf`]);
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
