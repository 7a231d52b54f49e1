/** A node's speed on the reference load, measured with the real engine and the bundled model. */
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { SystemClock } from "../src/adapters/clock-system/system-clock.ts";
import { engineEnvironment } from "../src/adapters/engine-llama/child-environment.ts";
import { LlamaEngineHost } from "../src/adapters/engine-llama/engine-host.ts";
import { SpeedRecordFile } from "../src/adapters/hardware-probe/speed-record-file.ts";
import { referenceSpeed } from "../src/agent/devices/reference-speed.ts";
import { modelId, sha256Hex } from "../src/domain/ids.ts";
import type { EngineHost, EngineLoadSpec } from "../src/ports/engine.ts";

const weightsPath = fileURLToPath(new URL("../models/tiny-q8_0.gguf", import.meta.url));

test("a node's speed is measured once for an engine, a model and a number of threads, and kept", async () => {
  const folder = await mkdtemp(join(tmpdir(), "fallow-speed-"));
  const inner = new LlamaEngineHost({
    variant: "cpu",
    libraryDirectory: null,
    selfTestModelPath: weightsPath,
    environment: engineEnvironment(process.env),
  });
  let loads = 0;
  const engines: EngineHost = {
    load: (spec, options) => {
      loads += 1;
      return inner.load(spec, options);
    },
  };
  const spec: EngineLoadSpec = {
    modelId: modelId("tiny"),
    weightsPath,
    weightsSha256: sha256Hex(
      createHash("sha256")
        .update(await readFile(weightsPath))
        .digest("hex"),
    ),
    contextTokens: 512,
    sequencesMax: 1,
    threads: 1,
    gpuLayers: 0,
  };
  const ports = { clock: new SystemClock(), engines, record: new SpeedRecordFile(join(folder, "speed.json")) };
  const { signal } = new AbortController();
  try {
    const measured = await referenceSpeed({ spec, engineVersion: "1", signal }, ports);
    expect(measured.prefillTokPerSecond).toBeGreaterThan(0);
    expect(measured.decodeTokPerSecond).toBeGreaterThan(0);
    expect(await referenceSpeed({ spec, engineVersion: "1", signal }, ports)).toEqual(measured);
    expect(loads).toBe(1);
    await referenceSpeed({ spec, engineVersion: "2", signal }, ports);
    expect(loads).toBe(2);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test("an engine that cannot load says so, and nothing is kept", async () => {
  const folder = await mkdtemp(join(tmpdir(), "fallow-speed-"));
  const engines = new LlamaEngineHost({
    variant: "cpu",
    libraryDirectory: folder,
    selfTestModelPath: weightsPath,
    environment: {},
  });
  const record = new SpeedRecordFile(join(folder, "speed.json"));
  const spec: EngineLoadSpec = {
    modelId: modelId("tiny"),
    weightsPath,
    weightsSha256: sha256Hex("0".repeat(64)),
    contextTokens: 512,
    sequencesMax: 1,
    threads: 1,
    gpuLayers: 0,
  };
  const load = { spec, engineVersion: "1", signal: new AbortController().signal };
  await expect(referenceSpeed(load, { clock: new SystemClock(), engines, record })).rejects.toMatchObject({
    code: "engine-library-missing",
  });
  expect(await record.load(`1/${"0".repeat(16)}/1t/0gl`)).toBeNull();
  await rm(folder, { recursive: true, force: true });
});
