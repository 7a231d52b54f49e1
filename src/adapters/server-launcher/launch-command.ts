/** The words with which a server is started. It listens on this machine alone. */
import { FallowError } from "../../domain/fault.ts";
import type { ServerLaunch } from "../../domain/server-launch.ts";

export interface LaunchCommand {
  readonly program: string;
  readonly args: readonly string[];
}

const HOST = "127.0.0.1";

/** Throws `server-launch-refused` for what its kind cannot be told. */
export function launchCommand(launch: ServerLaunch): LaunchCommand {
  return launch.kind === "vllm" ? vllmCommand(launch) : llamaServerCommand(launch);
}

function vllmCommand(launch: ServerLaunch): LaunchCommand {
  if (launch.gpuLayers !== null) throw refused("vllm", "gpuLayers", "it runs whole models on GPUs");
  const args = [
    ...["serve", launch.model, "--host", HOST, "--port", String(launch.port)],
    ...flag("--tensor-parallel-size", launch.tensorParallelSize),
    ...flag("--quantization", launch.quantization),
    ...flag("--gpu-memory-utilization", launch.gpuMemoryFraction),
    ...flag("--max-model-len", launch.contextTokens),
    ...flag("--max-num-seqs", launch.sequencesMax),
  ];
  return { program: launch.program ?? "vllm", args: [...args, ...launch.args] };
}

function llamaServerCommand(launch: ServerLaunch): LaunchCommand {
  const { contextTokens, sequencesMax } = launch;
  if (launch.tensorParallelSize !== null)
    throw refused("llama-server", "tensorParallelSize", "name `--split-mode row` in args");
  if (launch.quantization !== null) throw refused("llama-server", "quantization", "a GGUF file says its own");
  if (launch.gpuMemoryFraction !== null) throw refused("llama-server", "gpuMemoryFraction", "give gpuLayers instead");
  const args = [
    ...["--model", launch.model, "--host", HOST, "--port", String(launch.port)],
    ...flag("--n-gpu-layers", launch.gpuLayers),
    // Its context is that of all sequences together.
    ...flag("--ctx-size", contextTokens === null ? null : contextTokens * (sequencesMax ?? 1)),
    ...flag("--parallel", sequencesMax),
  ];
  return { program: launch.program ?? "llama-server", args: [...args, ...launch.args] };
}

function flag(name: string, value: string | number | null): readonly string[] {
  return value === null ? [] : [name, String(value)];
}

function refused(kind: string, field: string, why: string): FallowError {
  return new FallowError("server-launch-refused", `${kind} takes no ${field}: ${why}`);
}
