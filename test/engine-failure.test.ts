import { execFileSync, spawn } from "node:child_process";
import { copyFile, mkdtemp, open, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { BOUND_GROWTH_MAX } from "../src/adapters/engine-llama/engine-process.ts";
import { modelId, sha256Hex } from "../src/domain/ids.ts";
import { byteSourceOf } from "../src/weights/byte-source.ts";
import { readGgufHeader } from "../src/weights/gguf-reader.ts";
import { engineHost, generate, loadTiny, TINY_PATH, taskOf } from "./support/engine-fixture.ts";

const host = engineHost();
/** Short for the test's sake; a busy machine answers two tokens sooner. */
const IDLE_SILENCE_MS = 400;
let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "fallow-engine-test-"));
});

afterAll(() => rm(directory, { recursive: true, force: true }));

/** The bundled model with every value of its last norm replaced. */
async function modelWithNorm(name: string, value: number): Promise<string> {
  const bytes = await readFile(TINY_PATH);
  const header = await readGgufHeader(byteSourceOf(bytes));
  const norm = header.ok ? header.value.tensors.find((tensor) => tensor.name === "output_norm.weight") : undefined;
  if (norm === undefined) throw new Error("the bundled model has a norm before its head");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = norm.offset; at < norm.offset + norm.sizeBytes; at += 4) view.setFloat32(at, value, true);
  const path = join(directory, name);
  await writeFile(path, bytes);
  return path;
}

const isAlive = (processId: number): boolean => {
  try {
    process.kill(processId, 0);
    return true;
  } catch {
    return false;
  }
};

describe("an engine that is killed", () => {
  test("fails its sequences and requests with the cause, and exits once", async () => {
    const engine = await loadTiny(host);
    const running = generate(engine, { tokensMax: 900, ignoreStopTokens: true });
    const embedding = engine.embed([new Array(900).fill(301)], new AbortController().signal);
    process.kill(engine.info.processId, "SIGKILL");
    await expect(running).rejects.toThrow(/^engine-crashed: .*SIGKILL/);
    await expect(embedding).rejects.toMatchObject({ code: "engine-crashed" });
    expect((await engine.exited).cause).toBe("crashed");
    await expect(generate(engine)).rejects.toThrow(/^engine-closed/);
    await expect(engine.exportState([1])).rejects.toMatchObject({ code: "engine-crashed" });
    await engine.close();
  });
});

describe("an engine that hangs", () => {
  test("is killed by the watchdog, and says that it hung", async () => {
    const engine = await loadTiny(engineHost({ silenceMsMax: 300 }));
    const running = generate(engine, { tokensMax: 1000, ignoreStopTokens: true });
    process.kill(engine.info.processId, "SIGSTOP");
    await expect(running).rejects.toThrow(/^engine-hung/);
    expect((await engine.exited).cause).toBe("hung");
    expect(isAlive(engine.info.processId)).toBe(false);
  });

  test("is not suspected while it owes nothing", async () => {
    const idle = await loadTiny(engineHost({ silenceMsMax: IDLE_SILENCE_MS }));
    await generate(idle, { tokensMax: 2 });
    process.kill(idle.info.processId, "SIGSTOP");
    // The other one is silent from here on too, and owes an answer: when it was given up, the first was silent for longer.
    const owing = await loadTiny(engineHost({ silenceMsMax: IDLE_SILENCE_MS * BOUND_GROWTH_MAX }));
    const owed = generate(owing, { tokensMax: 1000, ignoreStopTokens: true });
    process.kill(owing.info.processId, "SIGSTOP");
    await expect(owed).rejects.toThrow(/^engine-hung/);
    expect(await Promise.race([idle.exited, Promise.resolve("alive")])).toBe("alive");
    process.kill(idle.info.processId, "SIGCONT");
    expect((await generate(idle, { tokensMax: 2, ignoreStopTokens: true })).tokens).toHaveLength(2);
    await idle.close();
  });
});

describe("closing", () => {
  test("ends sequences with engine-closed and the process, and may be done twice", async () => {
    const engine = await loadTiny(host);
    const running = generate(engine, { tokensMax: 900, ignoreStopTokens: true });
    await Promise.all([engine.close(), engine.close()]);
    await expect(running).rejects.toThrow(/^engine-closed/);
    expect(await engine.exited).toMatchObject({ cause: "closed" });
    expect(isAlive(engine.info.processId)).toBe(false);
  });
});

describe("weights that cannot be used", () => {
  const loadPath = (weightsPath: string) => loadTiny(host, { weightsPath });

  test("a missing file is refused with its path", async () => {
    await expect(loadPath(join(directory, "none.gguf"))).rejects.toMatchObject({
      code: "engine-load-failed",
      message: expect.stringContaining("none.gguf"),
    });
  });

  test("a file that is no GGUF is refused", async () => {
    const path = join(directory, "text.gguf");
    await writeFile(path, "hello, this is no model".repeat(100));
    await expect(loadPath(path)).rejects.toMatchObject({ code: "engine-load-failed" });
  });

  test("a truncated file is refused", async () => {
    const path = join(directory, "short.gguf");
    await copyFile(TINY_PATH, path);
    await truncate(path, 2_000_000);
    await expect(loadPath(path)).rejects.toMatchObject({ code: "engine-load-failed" });
  });

  test("a flipped header byte is refused or harmless, and the process survives", async () => {
    const bytes = await readFile(TINY_PATH);
    for (const at of [9, 24, 60, 200]) {
      const path = join(directory, `flipped-${at}.gguf`);
      const file = await open(path, "w");
      const copy = Uint8Array.from(bytes);
      copy[at] = (copy[at] ?? 0) ^ 0xff;
      await file.writeFile(copy);
      await file.close();
      const loaded = await loadPath(path).then(
        (engine) => engine.close().then(() => "loaded"),
        (fault: unknown) => fault,
      );
      if (loaded !== "loaded")
        expect(loaded).toMatchObject({ code: expect.stringMatching(/^engine-(load-failed|crashed|out-of-memory)$/) });
    }
  });

  test("NaN in the weights fails the sequence, not the engine", async () => {
    const path = await modelWithNorm("nan.gguf", Number.NaN);
    const engine = await loadPath(path);
    await expect(generate(engine, { tokensMax: 3 })).rejects.toThrow(/NaN/);
    await engine.close();
  });

  test("more tokens than an engine can hold are refused as engine-out-of-memory", async () => {
    const spec = { sequencesMax: 256, contextTokens: 100_000_000 };
    await expect(loadTiny(host, spec)).rejects.toMatchObject({ code: "engine-out-of-memory" });
  });
});

describe.runIf(process.platform === "linux")("on Linux", () => {
  test("a context that memory does not suffice for is engine-out-of-memory, and generation goes on", async () => {
    const engine = await loadTiny(host);
    const before = await generate(engine, { tokensMax: 10 });
    const { processId } = engine.info;
    const status = await readFile(`/proc/${processId}/status`, "utf8");
    const usedBytes = Number(/^VmSize:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
    execFileSync("prlimit", ["--pid", String(processId), `--as=${usedBytes + 4_000_000}`]);
    const embedding = engine.embed([[1, 2, 3]], new AbortController().signal);
    await expect(embedding).rejects.toMatchObject({ code: "engine-out-of-memory" });
    expect((await generate(engine, { tokensMax: 10 })).tokenIds).toEqual(before.tokenIds);
    await engine.close();
  });

  test("no engine outlives a parent that is killed", async () => {
    const fixture = new URL("./support/engine-fixture.ts", import.meta.url).href;
    const script = `
      const { engineHost, loadTiny } = await import(${JSON.stringify(fixture)});
      const engine = await loadTiny(engineHost());
      console.log("pid " + engine.info.processId);
      setInterval(() => undefined, 1000);`;
    const parent = spawn(process.execPath, ["--input-type=module", "--eval", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const line = await new Promise<string>((resolve) => parent.stdout.once("data", (data) => resolve(String(data))));
    const engineId = Number(/pid (\d+)/.exec(line)?.[1]);
    expect(isAlive(engineId)).toBe(true);
    parent.kill("SIGKILL");
    await vi.waitFor(() => expect(isAlive(engineId)).toBe(false), { timeout: 5000 });
  });
});

describe("loading", () => {
  test("that is aborted rejects and leaves no process", async () => {
    const controller = new AbortController();
    const loading = host.load(
      {
        modelId: modelId("tiny"),
        weightsPath: TINY_PATH,
        weightsSha256: sha256Hex("0".repeat(64)),
        contextTokens: 256,
        sequencesMax: 1,
        threads: 1,
        gpuLayers: 0,
      },
      { signal: controller.signal },
    );
    controller.abort();
    await expect(loading).rejects.toMatchObject({ code: "aborted" });
  });

  test("without the library says which package is missing", async () => {
    const other = engineHost({ variant: "vulkan" });
    await expect(loadTiny(other)).rejects.toMatchObject({
      code: "engine-library-missing",
      message: expect.stringContaining("@node-llama-cpp/"),
    });
    const elsewhere = engineHost({ libraryDirectory: directory });
    await expect(loadTiny(elsewhere)).rejects.toMatchObject({ code: "engine-library-missing" });
  });

  test("with a self-test model of other logits does not serve", async () => {
    const path = await modelWithNorm("wrong.gguf", 0.5);
    await expect(loadTiny(engineHost({ selfTestModelPath: path }))).rejects.toMatchObject({
      code: "engine-self-test-failed",
      message: expect.stringContaining("logit"),
    });
  });

  test("tells what it loaded and how", async () => {
    const engine = await loadTiny(host, { sequencesMax: 3, contextTokens: 700 });
    expect(engine.info).toMatchObject({ variant: "cpu", vocabSize: 2048, embeddingLength: 256, layersOffloaded: 0 });
    expect(engine.info).toMatchObject({ sequencesMax: 3, contextTokens: 700 });
    expect(engine.info.numericClass).toMatch(/^llama-0\.5\.0\/cpu-[a-z0-9_]+\/Q8_0$/);
    expect(engine.stats().memoryBytes).toBeGreaterThan(10_000_000);
    const { exited } = engine;
    engine.generate(taskOf({ tokensMax: 5 }), () => undefined);
    await engine.close();
    expect((await exited).cause).toBe("closed");
  });
});
