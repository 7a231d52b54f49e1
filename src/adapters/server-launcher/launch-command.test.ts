import { expect, test } from "vitest";
import type { ServerLaunch } from "../../domain/server-launch.ts";
import { launchCommand } from "./launch-command.ts";

const LAUNCH: ServerLaunch = {
  kind: "vllm",
  program: null,
  model: "/models/llama",
  port: 8000,
  tensorParallelSize: null,
  quantization: null,
  gpuMemoryFraction: null,
  gpuLayers: null,
  contextTokens: null,
  sequencesMax: null,
  args: [],
};

test("vLLM is told of tensor parallelism, quantisation and its share of memory, and what else is asked for stands at the end", () => {
  const launch = {
    ...LAUNCH,
    tensorParallelSize: 2,
    quantization: "awq",
    gpuMemoryFraction: 0.85,
    contextTokens: 8192,
    sequencesMax: 16,
    args: ["--enforce-eager"],
  };
  expect(launchCommand(launch)).toEqual({
    program: "vllm",
    args: (
      "serve /models/llama --host 127.0.0.1 --port 8000 --tensor-parallel-size 2 --quantization awq " +
      "--gpu-memory-utilization 0.85 --max-model-len 8192 --max-num-seqs 16 --enforce-eager"
    ).split(" "),
  });
});

test("llama-server gets the context of all its sequences, and refuses what only vLLM can", () => {
  const launch = {
    ...LAUNCH,
    kind: "llama-server",
    program: "/opt/llama-server",
    contextTokens: 1024,
    sequencesMax: 4,
  } as const;
  expect(launchCommand(launch)).toEqual({
    program: "/opt/llama-server",
    args: "--model /models/llama --host 127.0.0.1 --port 8000 --ctx-size 4096 --parallel 4".split(" "),
  });
  expect(() => launchCommand({ ...launch, quantization: "gptq" })).toThrow("llama-server takes no quantization");
  expect(() => launchCommand({ ...launch, tensorParallelSize: 2 })).toThrow("--split-mode row");
});
