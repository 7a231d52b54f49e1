/**
 * The Vulkan engine for real: fetched on demand by the command, run on Mesa's software device, compared with the CPU. That device is
 * slow (about one token a second), so the suite asks for a few tokens only; what it shows is that layers are offloaded and the
 * numbers are right. It belongs to the long suites because it needs Mesa and fetches 24 MB.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { engineEnvironment } from "../../src/adapters/engine-llama/child-environment.ts";
import { sequenceId } from "../../src/domain/chain.ts";
import { DEFAULT_SAMPLING } from "../../src/domain/sampling.ts";
import { findLavapipe, hasVulkanEngine, isCi } from "../../tools/test-tools.ts";
import { engineHost, generate, loadTiny, PROMPT, taskOf } from "../support/engine-fixture.ts";
import { launchFallow, makeHome, removeHome, runFallow, startGrid } from "../support/grid.ts";
import { generateRows } from "../support/stage-chain.ts";
import { loadStage, StageFolder, stageHost } from "../support/stage-fixture.ts";

const TOKENS = 8;
const ENGINE_MS_MAX = 170_000;

const driver = findLavapipe();
const absent = !hasVulkanEngine
  ? "there is no Vulkan engine for this machine"
  : driver === null
    ? "Mesa's Vulkan drivers are missing"
    : null;
if (absent !== null && hasVulkanEngine && isCi()) throw new Error(`${absent}: in CI that is a failure`);

/** ggml hides devices that are the processor itself, unless they are named. */
const SOFTWARE_DEVICE = { GGML_VK_VISIBLE_DEVICES: "0", VK_ICD_FILENAMES: driver ?? "" };
/** The same one under two names: the library takes them for two. */
const TWO_DEVICES = { ...SOFTWARE_DEVICE, GGML_VK_VISIBLE_DEVICES: "0,0" };
/** The loader finds no driver at all. */
const NO_DEVICE = { VK_ICD_FILENAMES: "/nonexistent/driver.json", VK_DRIVER_FILES: "/nonexistent/driver.json" };

describe.skipIf(absent !== null)(`the Vulkan engine${absent === null ? "" : ` (left out: ${absent})`}`, () => {
  let home: string;
  let libraryDirectory: string;
  beforeAll(async () => {
    home = makeHome();
    const { code, json, stderr } = await runFallow(["engine", "install", "vulkan", "--json"], { home });
    expect(code, stderr).toBe(0);
    libraryDirectory = String((json as { folder: unknown }).folder);
  }, ENGINE_MS_MAX);
  afterAll(() => removeHome(home));

  test("puts the model's layers on the device and says the same tokens as the CPU", {
    timeout: ENGINE_MS_MAX,
  }, async () => {
    const task = { tokensMax: TOKENS, ignoreStopTokens: true, sampling: { ...DEFAULT_SAMPLING, temperature: 0 } };
    const onCpu = await loadTiny(engineHost(), { sequencesMax: 1, contextTokens: 256 });
    const expected = await generate(onCpu, task);
    await onCpu.close();
    const environment = { ...engineEnvironment(process.env), ...SOFTWARE_DEVICE };
    // The self-test's prompt alone takes many seconds here.
    const host = engineHost({ variant: "vulkan", libraryDirectory, environment, silenceMsMax: ENGINE_MS_MAX });
    const onGpu = await loadTiny(host, { sequencesMax: 1, contextTokens: 256, gpuLayers: "all" });
    const { tokenIds } = await generate(onGpu, task);
    const { layersOffloaded, variant, gpus } = onGpu.info;
    await onGpu.close();
    expect(layersOffloaded).toBeGreaterThan(0);
    expect(variant).toBe("vulkan");
    expect(gpus?.[0]?.memoryBytes).toBeGreaterThan(0);
    expect(tokenIds).toEqual(expected.tokenIds);
    expect(tokenIds).toHaveLength(TOKENS);
  });

  test("splits a model over two devices as its owner says, and says the same tokens as the CPU", {
    timeout: ENGINE_MS_MAX,
  }, async () => {
    const task = { tokensMax: TOKENS, ignoreStopTokens: true, sampling: { ...DEFAULT_SAMPLING, temperature: 0 } };
    const onCpu = await loadTiny(engineHost(), { sequencesMax: 1, contextTokens: 256 });
    const expected = await generate(onCpu, task);
    await onCpu.close();
    const environment = { ...engineEnvironment(process.env), ...TWO_DEVICES };
    const host = engineHost({ variant: "vulkan", libraryDirectory, environment, silenceMsMax: ENGINE_MS_MAX });
    const spec = { sequencesMax: 1, contextTokens: 256, gpuLayers: "all" } as const;
    const split = { mode: "layer", tensorSplit: [1, 1], mainGpu: 0 } as const;
    const onBoth = await loadTiny(host, { ...spec, split });
    const { tokenIds } = await generate(onBoth, task);
    expect(onBoth.info.gpus).toHaveLength(2);
    expect(onBoth.stats().memoryBytes).toBeGreaterThan(0);
    await onBoth.close();
    expect(tokenIds).toEqual(expected.tokenIds);
    // What the library answers shows that it was asked: this device cannot be split by rows.
    const byRows = loadTiny(host, { ...spec, split: { ...split, mode: "row" } });
    await expect(byRows).rejects.toMatchObject({ message: expect.stringContaining("does not support split buffers") });
    const onThird = loadTiny(host, { ...spec, split: { ...split, mode: "none", mainGpu: 2 } });
    await expect(onThird).rejects.toMatchObject({ message: expect.stringContaining("not one of the 2 GPUs") });
  });

  test("runs a model as a chain of stages, one of them over two devices, and says the same tokens as the CPU", {
    timeout: ENGINE_MS_MAX,
  }, async () => {
    const sampling = { ...DEFAULT_SAMPLING, temperature: 0 };
    const onCpu = await loadTiny(engineHost(), { sequencesMax: 1, contextTokens: 256 });
    const expected = await generate(onCpu, { tokensMax: TOKENS, ignoreStopTokens: true, sampling });
    await onCpu.close();
    const folder = await StageFolder.of();
    const environment = { ...engineEnvironment(process.env), ...TWO_DEVICES };
    const host = stageHost({ variant: "vulkan", libraryDirectory, environment, silenceMsMax: ENGINE_MS_MAX });
    const spec = { sequencesMax: 2, contextTokens: 256, gpuLayers: "all" } as const;
    const split = { mode: "layer", tensorSplit: [1, 1], mainGpu: 0 } as const;
    const stages = [
      await loadStage(host, await folder.cut(0, 3), { ...spec, split }),
      await loadStage(host, await folder.cut(3, 1), spec),
    ];
    const sequence = sequenceId("00000000000000aa");
    for (const { engine } of stages) {
      expect(engine.info.layersOffloaded).toBeGreaterThan(0);
      engine.open(sequence);
    }
    stages[1]?.engine.setSampling(sequence, taskOf({ sampling, ignoreStopTokens: true, tokensMax: TOKENS }));
    const { tokenIds } = await generateRows(stages, { sequence, tokenIds: PROMPT, count: TOKENS });
    await Promise.all(stages.map(({ engine }) => engine.close()));
    await folder.remove();
    expect(tokenIds).toEqual(expected.tokenIds);
  });

  test("without a device gives way to the CPU, and says why and what to do", { timeout: ENGINE_MS_MAX }, async () => {
    await using grid = await startGrid({ home, args: ["--engine", "vulkan", "--threads", "1"], env: NO_DEVICE });
    expect(grid.log()).toMatch(
      /the vulkan engine is not used, cpu is instead: it put 0 layers of a model on a GPU: it sees no GPU that it can use; install the Vulkan loader/,
    );
  });

  test("serves a grid: its node offers the device with the memory that the engine reports", {
    timeout: ENGINE_MS_MAX,
  }, async () => {
    // The reference load takes this device longer than an engine may be silent, so its speed must be known: the CPU's is taken.
    const speedFile = join(home, "agent", "speed.json");
    await using first = await startGrid({ home, args: ["--threads", "1"] });
    await first.stop();
    writeFileSync(speedFile, readFileSync(speedFile, "utf8").replaceAll("/cpu/", "/vulkan/"));
    await using grid = await startGrid({ home, args: ["--engine", "vulkan", "--threads", "1"], env: SOFTWARE_DEVICE });
    expect(grid.log()).toMatch(/using llvmpipe[^\n]* with the vulkan engine/);
    expect((await runFallow(["nodes", "--json"], { home })).json).toMatchObject({
      nodes: [{ state: "online", engineVariant: "vulkan", devices: [{ deviceId: "vulkan0" }, { deviceId: "cpu" }] }],
    });
    const { code, json } = await runFallow(["chat", "hello", "--max-tokens", "4", "--json"], { home });
    expect(code).toBe(0);
    expect(json).toMatchObject({ text: expect.stringMatching(/./) });
  });

  test("tells a joining agent's owner the same as an event", { timeout: ENGINE_MS_MAX }, async () => {
    await using grid = await startGrid({ args: ["--no-agent"] });
    await using agent = launchFallow(["join", grid.joinCode, "--json", "--engine", "vulkan", "--threads", "1"], {
      home,
      env: NO_DEVICE,
    });
    expect(await agent.waitFor(({ event }) => event === "engine-fallback")).toMatchObject({
      variant: "vulkan",
      instead: "cpu",
      cause: expect.stringContaining("it put 0 layers"),
      fix: expect.stringContaining("install"),
    });
    await agent.waitFor(({ event }) => event === "online");
  });

  test("is seen by the doctor at work", { timeout: ENGINE_MS_MAX }, async () => {
    const { json } = await runFallow(["doctor", "--port", "0", "--json"], { home, env: SOFTWARE_DEVICE });
    expect(json).toMatchObject({
      checks: expect.arrayContaining([
        expect.objectContaining({
          name: "engine vulkan",
          state: "ok",
          detail: expect.stringMatching(/puts \d+ layers/),
        }),
      ]),
    });
  });
});
