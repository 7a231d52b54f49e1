/**
 * An agent whose coordinator lies, though it signs with the grid's key, and one whose store somebody tampered with: each is refused by name, and
 * nothing is written outside the store.
 */
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { toHex } from "../src/domain/hex.ts";
import type { WeightsManifest } from "../src/domain/weights.ts";
import type { KeyPair } from "../src/ports/crypto.ts";
import type { WeightsSource } from "../src/ports/weights-source.ts";
import { manifestSigningText, signedManifestBytes } from "../src/wire/weights-manifest.ts";
import { writeRandomModel } from "./support/random-model.ts";
import { SwarmGrid, type SwarmModel } from "./support/swarm-grid.ts";

let models: string;
let path: string;
let grid: SwarmGrid;
let model: SwarmModel;
let world: string;

beforeAll(async () => {
  models = await mkdtemp(join(tmpdir(), "fallow-hostile-model-"));
  path = join(models, "random.gguf");
  await writeRandomModel(path, { fileBytes: 4 * 1024 * 1024, layerCount: 4 });
});
afterAll(() => rm(models, { recursive: true, force: true }));
beforeEach(async () => {
  grid = await SwarmGrid.open();
  model = await grid.addModel(path);
  world = await mkdtemp(join(tmpdir(), "fallow-hostile-world-"));
  await mkdir(join(world, "a", "store"), { recursive: true });
  await writeFile(join(world, "treasure.gguf"), "the owner's");
});
afterEach(async () => {
  await grid.close();
  await rm(world, { recursive: true, force: true });
});

const storeFolder = () => join(world, "a", "store");

/** What lies in the owner's world beside the store. */
async function outside(): Promise<readonly string[]> {
  const found = await readdir(world, { recursive: true, withFileTypes: true });
  return found
    .filter((entry) => entry.isFile())
    .map((entry) => relative(world, join(entry.parentPath, entry.name)))
    .filter((name) => !name.startsWith(join("a", "store")))
    .sort();
}

/** Files of weights in the store, of any name. */
async function stored(): Promise<readonly string[]> {
  const found = await readdir(storeFolder(), { recursive: true });
  return found.filter((name) => name.endsWith(".gguf"));
}

const OTHER = "ab".repeat(32);

type Change = (manifest: WeightsManifest) => unknown;

/** The real source, but for its manifest: changed, and signed like the real one. */
function lying(change: Change, key: () => KeyPair = () => grid.gridKey) {
  return (real: WeightsSource): WeightsSource => ({
    digests: (...of) => real.digests(...of),
    read: (...of) => real.read(...of),
    manifest: async (...of) => {
      const { manifestJson: text } = JSON.parse(Buffer.from(await real.manifest(...of)).toString());
      const changed = JSON.stringify(change(JSON.parse(text)));
      const signature = toHex(key().sign(new TextEncoder().encode(manifestSigningText(changed))));
      return signedManifestBytes({ manifestJson: changed, signature });
    },
  });
}

const named =
  (name: string): Change =>
  (manifest) => ({
    ...manifest,
    files: manifest.files.map((file) => ({ ...file, name })),
  });
const sized =
  (fileBytes: number): Change =>
  (manifest) => ({
    ...manifest,
    files: manifest.files.map((file) => ({ ...file, fileBytes })),
  });

describe("a manifest that the grid's key signed", () => {
  test.each<[string, Change, string]>([
    ["whose file leads out of the folder", named("../../treasure.gguf"), "manifest-file-name"],
    ["whose file has an absolute path", named("/tmp/treasure.gguf"), "manifest-file-name"],
    ["whose file is the store's own", named(".journal"), "manifest-file-name"],
    ["of a billion chunks", sized(65_536 * 1e9), "manifest-too-many-chunks"],
    ["whose file is shorter than its ranges", sized(1024 * 1024), "manifest-range-outside"],
    [
      "whose ranges overlap",
      (manifest) => ({
        ...manifest,
        parts: manifest.parts.map((part) => ({
          ...part,
          ranges: part.ranges.map((range) => ({ ...range, bytes: range.bytes + (part.layer === 0 ? 1 : 0) })),
        })),
      }),
      "manifest-ranges-overlap",
    ],
    [
      "of other weights",
      (manifest) => ({ ...manifest, weightsSha256: OTHER, files: [{ ...manifest.files[0], sha256: OTHER }] }),
      "manifest-other-weights",
    ],
    ["with a field that nobody knows", (manifest) => ({ ...manifest, run: "rm" }), "manifest-malformed"],
  ])("%s is refused by name, and nothing is written outside the store", async (_, change, refusal) => {
    const node = await grid.agent({ folder: storeFolder(), source: lying(change) });
    const before = await outside();
    await expect(node.fetch(model)).rejects.toMatchObject({ code: "weights-manifest-refused", data: { refusal } });
    expect(await outside()).toEqual(before);
    expect(await stored()).toEqual([]);
    expect(await node.swarm.has(model.weightsSha256)).toBe(false);
  });

  test("with another length than its digests have is refused, and nothing of it is kept", async () => {
    const longer = (manifest: WeightsManifest) =>
      sized((manifest.files[0]?.fileBytes ?? 0) + 64 * 1024 * 1024)(manifest);
    const node = await grid.agent({ folder: storeFolder(), source: lying(longer) });
    await expect(node.fetch(model)).rejects.toMatchObject({ code: /^weights-(manifest-refused|unreachable)$/ });
    expect(await stored()).toEqual([]);
  });
});

test("a manifest that another key signed is refused, whatever it says", async () => {
  const other = grid.crypto.generateKeyPair();
  const node = await grid.agent({
    folder: storeFolder(),
    source: lying(
      (manifest) => manifest,
      () => other,
    ),
  });
  const expected = { code: "weights-manifest-refused", data: { refusal: "manifest-bad-signature" } };
  await expect(node.fetch(model)).rejects.toMatchObject(expected);
  expect(await stored()).toEqual([]);
});

describe("a link that somebody planted in the store", () => {
  test("in place of the file of weights is refused, and what it leads to stays as it was", async () => {
    const folder = join(storeFolder(), model.weightsSha256);
    await mkdir(folder);
    await symlink(join(world, "treasure.gguf"), join(folder, `${model.weightsSha256}.gguf`));
    const node = await grid.agent({ folder: storeFolder() });
    await expect(node.fetch(model)).rejects.toMatchObject({ code: "weights-foreign-file" });
    expect(await readFile(join(world, "treasure.gguf"), "utf8")).toBe("the owner's");
  });

  test("in place of the model's folder is refused, and nothing is written where it leads", async () => {
    const elsewhere = join(world, "elsewhere");
    await mkdir(elsewhere);
    await symlink(elsewhere, join(storeFolder(), model.weightsSha256));
    const node = await grid.agent({ folder: storeFolder() });
    await expect(node.fetch(model)).rejects.toMatchObject({ code: "weights-foreign-file" });
    expect(await readdir(elsewhere)).toEqual([]);
  });

  test("in place of its journal, lock, manifest or digests is refused, and what it leads to stays as it was", async () => {
    const folder = join(storeFolder(), model.weightsSha256);
    const places = ["journal", "manifest.json", "digests"].map((name) => join(folder, name));
    for (const place of [...places, join(storeFolder(), `${model.weightsSha256}.lock`)]) {
      await rm(storeFolder(), { recursive: true, force: true });
      await mkdir(folder, { recursive: true });
      await symlink(join(world, "treasure.gguf"), place);
      const node = await grid.agent({ folder: storeFolder() });
      await expect(node.fetch(model), place).rejects.toMatchObject({ code: "weights-foreign-file" });
      expect(await readFile(join(world, "treasure.gguf"), "utf8"), place).toBe("the owner's");
      await node.stop();
    }
  });
});
