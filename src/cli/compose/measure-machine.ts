/** What this machine has and how fast it is, and the engine host that fits it. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { SystemClock } from "../../adapters/clock-system/system-clock.ts";
import { LlamaEngineHost } from "../../adapters/engine-llama/engine-host.ts";
import { LLAMA_RELEASE } from "../../adapters/engine-llama/llama-library.ts";
import { MachineProbe } from "../../adapters/hardware-probe/machine-probe.ts";
import { SpeedRecordFile } from "../../adapters/hardware-probe/speed-record-file.ts";
import { referenceSpeed } from "../../agent/devices/reference-speed.ts";
import { type NodeCapabilities, usableBytes } from "../../domain/hardware.ts";
import { modelId, sha256Hex } from "../../domain/ids.ts";
import type { EngineHost } from "../../ports/engine.ts";
import { BUNDLED_MODEL } from "../bundled-model.ts";
import { CliError } from "../cli-error.ts";
import type { HomeFolder } from "../home/home-folder.ts";
import type { AgentEvent } from "./agent-events.ts";
import { childEnvironment } from "./child-environment.ts";
import { installedVariants } from "./installed-variants.ts";

/** Prompt and answer of the reference load fit. */
const CONTEXT_TOKENS = 1_024;

export interface MachineMeasuring {
  readonly home: HomeFolder;
  /** Of each device at most so much is lent; null: all but the owner's reserve. */
  readonly memoryBytesMax: number | null;
  readonly threads: number;
  readonly signal: AbortSignal;
  readonly onEvent: (event: AgentEvent) => void;
}

export async function measureMachine(
  options: MachineMeasuring,
): Promise<{ capabilities: NodeCapabilities; engines: EngineHost }> {
  const probe = new MachineProbe({
    engineVersion: LLAMA_RELEASE,
    installedVariants: installedVariants(),
    folder: options.home.path,
  });
  const { capabilities, notes } = await probe.probe();
  for (const note of notes) options.onEvent({ event: "note", ...note });
  const engines = new LlamaEngineHost({
    variant: capabilities.engineVariant,
    libraryDirectory: null,
    selfTestModelPath: BUNDLED_MODEL.path,
    environment: childEnvironment(),
  });
  const speed = await referenceSpeed(
    {
      spec: {
        modelId: modelId(BUNDLED_MODEL.id),
        weightsPath: BUNDLED_MODEL.path,
        weightsSha256: sha256Hex(createHash("sha256").update(readFileSync(BUNDLED_MODEL.path)).digest("hex")),
        contextTokens: CONTEXT_TOKENS,
        sequencesMax: 1,
        threads: options.threads,
        gpuLayers: "all",
      },
      engineVersion: `${LLAMA_RELEASE}/${capabilities.engineVariant}`,
      signal: options.signal,
    },
    { clock: new SystemClock(), engines, record: new SpeedRecordFile(options.home.at("speed.json")) },
  );
  return { capabilities: { ...limited(capabilities, options.memoryBytesMax), referenceSpeed: speed }, engines };
}

/** The owner's limit becomes a larger reserve, which is what plans respect. */
function limited(
  capabilities: Omit<NodeCapabilities, "referenceSpeed">,
  memoryBytesMax: number | null,
): Omit<NodeCapabilities, "referenceSpeed"> {
  if (memoryBytesMax === null) return capabilities;
  const devices = capabilities.devices.map((device) => ({
    ...device,
    reserveBytes: Math.max(device.reserveBytes, device.memoryBytes - memoryBytesMax),
  }));
  if (devices.some((device) => usableBytes(device) > 0)) return { ...capabilities, devices };
  throw new CliError(`nothing is left to lend with --max-memory ${memoryBytesMax}`, { fix: "lend more memory" });
}
