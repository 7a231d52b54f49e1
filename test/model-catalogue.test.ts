/** Registering, opening and removing models: real files, the real vocabulary process, the simulator's store. */
import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SystemClock } from "../src/adapters/clock-system/system-clock.ts";
import { NodeCrypto } from "../src/adapters/crypto-node/node-crypto.ts";
import { engineEnvironment } from "../src/adapters/engine-llama/child-environment.ts";
import { DiskModelFiles } from "../src/adapters/model-files-disk/disk-model-files.ts";
import { LlamaTokenizerHost } from "../src/adapters/tokenizer-llama/tokenizer-host.ts";
import { draftOf } from "../src/coordinator/models/draft-model.ts";
import { idFromPath, ModelCatalogue } from "../src/coordinator/models/model-catalogue.ts";
import { FallowError } from "../src/domain/fault.ts";
import { modelId } from "../src/domain/ids.ts";
import { simLog } from "../src/sim/sim-log.ts";
import { MemoryStore } from "../src/sim/store/memory-store.ts";
import { TINY_PATH } from "./support/engine-fixture.ts";
import { findSharedData } from "./support/shared-data.ts";

const shared = findSharedData();

let folder: string;
let kept: string;
let store: MemoryStore;
let tokenizers: LlamaTokenizerHost;
const clock = new SystemClock();
const crypto = new NodeCrypto();
const gridKey = crypto.keyPairFrom(new Uint8Array(32).fill(3));
/** The weights, their digests and their manifest. */
const FILES_OF_ONE = 3;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "fallow-catalogue-"));
  kept = join(folder, "models");
  store = new MemoryStore({ writeLatencyMs: 0 }, { clock });
  tokenizers = new LlamaTokenizerHost({ libraryDirectory: null, environment: engineEnvironment(process.env) });
});
afterEach(async () => {
  await tokenizers.close();
  rmSync(folder, { recursive: true });
});

async function opened(
  bundled: readonly { modelId: ReturnType<typeof modelId>; path: string }[] = [],
): Promise<ModelCatalogue> {
  const modelFiles = new DiskModelFiles({ folder: kept, bundled });
  const log = simLog(() => undefined);
  const catalogue = new ModelCatalogue({ store, tokenizers, modelFiles, crypto, gridKey, clock, log });
  await catalogue.start();
  return catalogue;
}

describe("add", () => {
  test("reads the file's facts, keeps the file under its digest and opens the vocabulary", async () => {
    const catalogue = await opened();
    const added = await catalogue.add({ path: TINY_PATH, id: "mine", warmReplicas: 3, inputMicroUsdPerMtok: 7 });
    expect(added).toMatchObject({
      ok: true,
      value: {
        manifest: {
          modelId: "mine",
          architecture: "llama",
          quantisation: "Q8_0",
          layerCount: 4,
          vocabSize: 2048,
          contextTokensMax: 1024,
          warmReplicas: 3,
          price: { inputMicroUsdPerMtok: 7 },
        },
      },
    });
    const entry = catalogue.get(modelId("mine"));
    expect(entry?.tokenizer.vocabSize).toBe(2048);
    expect(entry?.weightsPath).toBe(join(kept, `${entry?.manifest.weightsSha256}.gguf`));
    expect(existsSync(entry?.weightsPath ?? "")).toBe(true);
  });

  test("takes the id from the file's name when none is given", async () => {
    const path = join(folder, "Some Model (v2).Q8_0.gguf");
    copyFileSync(TINY_PATH, path);
    const catalogue = await opened();
    await catalogue.add({ path });
    expect(catalogue.list().map(({ manifest }) => manifest.modelId)).toEqual(["some-model-v2-.q8_0"]);
    expect(idFromPath("C:\\models\\Qwen2.5-7B.gguf")).toBe("qwen2.5-7b");
  });

  test("of the same file again changes its terms and nothing else", async () => {
    const catalogue = await opened();
    const first = await catalogue.add({ path: TINY_PATH, id: "mine", inputMicroUsdPerMtok: 7 });
    const second = await catalogue.add({ path: TINY_PATH, id: "mine", warmReplicas: 5 });
    expect(second).toMatchObject({
      ok: true,
      value: { manifest: { warmReplicas: 5, price: { inputMicroUsdPerMtok: 7 } } },
    });
    expect(second.ok && second.value.manifest.addedAtMs).toBe(first.ok && first.value.manifest.addedAtMs);
    expect(readdirSync(kept)).toHaveLength(FILES_OF_ONE);
  });

  test("of another file under a known id is refused", async () => {
    const other = join(folder, "other.gguf");
    copyFileSync(TINY_PATH, other);
    writeFileSync(other, Buffer.alloc(32), { flag: "a" });
    const catalogue = await opened();
    await catalogue.add({ path: TINY_PATH, id: "mine" });
    const refused = await catalogue.add({ path: other, id: "mine" });
    expect(refused).toMatchObject({ ok: false, reason: { code: "invalid-request", param: "id" } });
    expect(readdirSync(kept)).toHaveLength(FILES_OF_ONE);
  });

  test.each([
    ["a file that is not there", () => join(folder, "missing.gguf"), /missing\.gguf/],
    [
      "a file that is no GGUF",
      () => {
        const path = join(folder, "text.gguf");
        writeFileSync(path, "In the beginning");
        return path;
      },
      /not-gguf|truncated/,
    ],
  ])("of %s is refused with the reason, and leaves nothing", async (_name, make, why) => {
    const catalogue = await opened();
    const refused = await catalogue.add({ path: make() });
    expect(refused).toMatchObject({ ok: false, reason: { code: "invalid-request", param: "path" } });
    expect(refused.ok ? "" : refused.reason.message).toMatch(why);
    expect(catalogue.list()).toEqual([]);
    expect(existsSync(kept) ? readdirSync(kept) : []).toEqual([]);
  });

  test("of an id that is none is refused", async () => {
    const refused = await (await opened()).add({ path: TINY_PATH, id: "no spaces" });
    expect(refused).toMatchObject({ ok: false, reason: { param: "id" } });
  });

  test("two at once of the same id end as one model", async () => {
    const catalogue = await opened();
    const both = await Promise.all(
      [1, 2].map((warmReplicas) => catalogue.add({ path: TINY_PATH, id: "mine", warmReplicas })),
    );
    expect(both.every(({ ok }) => ok)).toBe(true);
    expect(catalogue.list()).toMatchObject([{ manifest: { warmReplicas: 2 } }]);
  });
});

describe("over restarts", () => {
  test("registered models are open again, and a model whose file is lost is left out", async () => {
    const first = await opened();
    await first.add({ path: TINY_PATH, id: "kept" });
    expect((await opened()).list()).toMatchObject([{ manifest: { modelId: "kept" } }]);
    rmSync(kept, { recursive: true });
    expect((await opened()).list()).toEqual([]);
    expect(await store.models.list()).toHaveLength(1);
  });

  test("the bundled model comes once: an operator who removed it does not get it back", async () => {
    const bundled = [{ modelId: modelId("tiny"), path: TINY_PATH }];
    const first = await opened(bundled);
    expect(first.list()).toMatchObject([{ manifest: { modelId: "tiny" } }]);
    expect(await first.remove(modelId("tiny"))).toBe(true);
    expect((await opened(bundled)).list()).toEqual([]);
  });
});

describe.skipIf(shared === null)("draft", () => {
  const draftPath = join(shared ?? "", "models/tiny-draft-q8_0.gguf");

  test("a smaller model with the same tokens drafts for another, and the stage order is told of it", async () => {
    const catalogue = await opened();
    await catalogue.add({ path: draftPath, id: "small" });
    const added = await catalogue.add({ path: TINY_PATH, id: "large", draftModelId: "small" });
    expect(added).toMatchObject({ ok: true, value: { manifest: { draftModelId: "small" } } });
    const small = catalogue.get(modelId("small"))?.manifest;
    expect(draftOf(modelId("large"), catalogue)).toEqual({
      modelId: "small",
      weightsSha256: small?.weightsSha256,
      fileBytes: small?.fileBytes,
    });
    // The same file under the same id again leaves it, a restart too.
    await catalogue.add({ path: TINY_PATH, id: "large", warmReplicas: 2 });
    expect((await opened()).get(modelId("large"))?.manifest).toMatchObject({ draftModelId: "small", warmReplicas: 2 });
    expect(await catalogue.setDraft(modelId("large"), null)).toMatchObject({ ok: true });
    expect(draftOf(modelId("large"), catalogue)).toBeNull();
    expect((await store.models.get(modelId("large")))?.manifest).not.toHaveProperty("draftModelId");
    await catalogue.setDraft(modelId("large"), "small");
    expect(draftOf(modelId("large"), catalogue)).not.toBeNull();
    await catalogue.remove(modelId("small"));
    expect(draftOf(modelId("large"), catalogue)).toBeNull();
  });

  test("one that is not there, that is as large, or that is the model itself is refused, and nothing is changed", async () => {
    const catalogue = await opened();
    expect(await catalogue.add({ path: TINY_PATH, id: "large", draftModelId: "small" })).toMatchObject({
      ok: false,
      reason: {
        code: "invalid-request",
        param: "draftModelId",
        message: expect.stringContaining("add the draft model"),
      },
    });
    expect(catalogue.list()).toEqual([]);
    expect(readdirSync(folder)).toEqual([]);
    await catalogue.add({ path: TINY_PATH, id: "large" });
    await catalogue.add({ path: TINY_PATH, id: "twin" });
    await catalogue.add({ path: draftPath, id: "small" });
    const refused = async (model: string, draft: string) => {
      const set = await catalogue.setDraft(modelId(model), draft);
      return set.ok ? "" : set.reason.message;
    };
    expect(await refused("large", "twin")).toMatch(/parameters, at most/);
    expect(await refused("small", "large")).toMatch(/parameters, at most/);
    expect(await refused("large", "large")).toMatch(/the model itself/);
    expect(await refused("large", "no such thing")).toMatch(/no model is called/);
    expect(await refused("nobody", "small")).toMatch(/no model called "nobody"/);
    expect(catalogue.list().every(({ manifest }) => manifest.draftModelId === undefined)).toBe(true);
  });
});

describe("remove", () => {
  test("deletes the file unless another model has the same", async () => {
    const catalogue = await opened();
    await catalogue.add({ path: TINY_PATH, id: "a" });
    await catalogue.add({ path: TINY_PATH, id: "b" });
    expect(await catalogue.remove(modelId("a"))).toBe(true);
    expect(readdirSync(kept)).toHaveLength(FILES_OF_ONE);
    expect(await catalogue.remove(modelId("a"))).toBe(false);
    expect(await catalogue.remove(modelId("b"))).toBe(true);
    expect(readdirSync(kept)).toEqual([]);
    expect(existsSync(TINY_PATH)).toBe(true);
  });

  test("closes its vocabulary; so does an add that the store does not take", async () => {
    const catalogue = await opened();
    await catalogue.add({ path: TINY_PATH, id: "a" });
    await catalogue.add({ path: TINY_PATH, id: "a", warmReplicas: 2 });
    expect(tokenizers.vocabularies).toBe(1);
    await catalogue.remove(modelId("a"));
    expect(tokenizers.vocabularies).toBe(0);
    const { models, meta } = store;
    const full = new ModelCatalogue({
      store: {
        meta,
        models: {
          get: (id) => models.get(id),
          list: () => models.list(),
          remove: (id) => models.remove(id),
          put: () => Promise.reject(new FallowError("disk-full", "planted")),
        },
      },
      tokenizers,
      modelFiles: new DiskModelFiles({ folder: kept, bundled: [] }),
      crypto,
      gridKey,
      clock,
      log: simLog(() => undefined),
    });
    await expect(full.add({ path: TINY_PATH, id: "b" })).rejects.toMatchObject({ code: "disk-full" });
    expect(tokenizers.vocabularies).toBe(0);
  });
});
