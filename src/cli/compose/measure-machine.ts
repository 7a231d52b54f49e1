/**
 * What this machine has and how fast it is, and the engine host that fits it. A GPU's engine is installed when it is missing, tried
 * and measured; whatever keeps it from working is told with its fix, and the next variant is tried, at last the CPU's.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { SystemClock } from "../../adapters/clock-system/system-clock.ts";
import { LlamaEngineHost } from "../../adapters/engine-llama/engine-host.ts";
import type { LlamaEngineHostOptions } from "../../adapters/engine-llama/engine-host-options.ts";
import { LLAMA_RELEASE } from "../../adapters/engine-llama/llama-library.ts";
import { LlamaStageEngineHost } from "../../adapters/engine-llama/stage-host.ts";
import type { InstallProgress, VariantFolder } from "../../adapters/engine-variants/variant-folder.ts";
import { MachineProbe, type MachineProbeOptions } from "../../adapters/hardware-probe/machine-probe.ts";
import { SpeedRecordFile } from "../../adapters/hardware-probe/speed-record-file.ts";
import { chooseVariant, type EngineWish, type VariantCandidate } from "../../agent/devices/choose-variant.ts";
import { referenceSpeed } from "../../agent/devices/reference-speed.ts";
import { tryVariant } from "../../agent/devices/try-variant.ts";
import { assert } from "../../domain/assert.ts";
import { describeFault, FallowError } from "../../domain/fault.ts";
import { type EngineVariant, type NodeCapabilities, usableBytes } from "../../domain/hardware.ts";
import { modelId, sha256Hex } from "../../domain/ids.ts";
import type { EngineHost, EngineLoadSpec, GpuSplit } from "../../ports/engine.ts";
import type { ProbeNote } from "../../ports/gpu-probe.ts";
import type { StageEngineHost } from "../../ports/stage-engine.ts";
import { BUNDLED_MODEL } from "../bundled-model.ts";
import { CliError } from "../cli-error.ts";
import type { HomeFolder } from "../home/home-folder.ts";
import type { AgentEvent } from "./agent-events.ts";
import { childEnvironment } from "./child-environment.ts";
import { fixForVariant } from "./engine-fixes.ts";
import { type InstalledVariant, installedVariants, variantFolder } from "./installed-variants.ts";

/** Prompt and answer of the reference load fit. */
const CONTEXT_TOKENS = 1_024;
/** Of an installation: ten events are enough for a log, and a step of progress for an eye. */
const INSTALL_EVENT_SHARE = 0.1;
/** An engine's last words can be long; the cause stands at their beginning. */
const CAUSE_CHARS_MAX = 200;

export interface MachineMeasuring {
  readonly home: HomeFolder;
  /** Where engine variants are installed. */
  readonly enginesFolder: string;
  readonly engine: EngineWish;
  /** Of each device at most so much is lent; null: all but the owner's reserve. */
  readonly memoryBytesMax: number | null;
  readonly threads: number;
  readonly gpuSplit?: GpuSplit | null;
  readonly signal: AbortSignal;
  readonly onEvent: (event: AgentEvent) => void;
}

export interface MeasuredMachine {
  readonly capabilities: NodeCapabilities;
  readonly engines: EngineHost;
  readonly stages: StageEngineHost;
}

type Probed = Awaited<ReturnType<MachineProbe["probe"]>>;

export async function measureMachine(options: MachineMeasuring): Promise<MeasuredMachine> {
  const folder = variantFolder(options.enginesFolder);
  const installed = await installedVariants(folder);
  const names = installed.map(({ variant }) => variant);
  const found = await probe(options, { installedVariants: names });
  const candidates = chooseVariant({
    platform: process.platform,
    arch: process.arch,
    gpus: found.gpus,
    hasVulkanLoader: found.hasVulkanLoader,
    installed: names,
    obtainable: folder.obtainable,
    wish: options.engine,
  });
  const failed: EngineVariant[] = [];
  for (const [at, candidate] of candidates.entries()) {
    const next = candidates[at + 1];
    if (next === undefined) break;
    try {
      return await measureGpu(candidate, { options, folder, installed });
    } catch (thrown) {
      if (options.signal.aborted || !(thrown instanceof FallowError)) throw thrown;
      const { variant } = candidate;
      const fix = fixForVariant(variant, thrown.code);
      failed.push(variant);
      options.onEvent({
        event: "engine-fallback",
        variant,
        instead: next.variant,
        cause: describeFault(thrown).slice(0, CAUSE_CHARS_MAX),
        fix,
      });
    }
  }
  const probed = await probe(options, { installedVariants: ["cpu"] });
  // What the owner was told already, or does not want to hear.
  const isTold = ({ missingVariant }: ProbeNote) =>
    missingVariant !== undefined && (options.engine !== "auto" || failed.includes(missingVariant));
  return measured({
    options,
    probed,
    variant: "cpu",
    hosts: hostsOf({ variant: "cpu", directory: null }, options),
    isTold,
  });
}

/** Throws a `FallowError` when the variant does not work here. */
async function measureGpu(
  { variant, isInstalled }: VariantCandidate,
  more: { options: MachineMeasuring; folder: VariantFolder; installed: readonly InstalledVariant[] },
): Promise<MeasuredMachine> {
  const { options } = more;
  const kept = more.installed.find((each) => each.variant === variant);
  const directory = isInstalled && kept !== undefined ? kept.directory : await installVariant(variant, more);
  const hosts = hostsOf({ variant, directory }, options);
  const { engines } = hosts;
  const { gpus = [] } = await tryVariant({ spec: bundledSpec(options.threads), signal: options.signal }, { engines });
  const probed = await probe(options, { installedVariants: [variant, "cpu"], seenByEngine: { variant, gpus } });
  const [first] = probed.capabilities.devices;
  assert(first !== undefined, "a machine has its CPU");
  if (first.variant !== variant) {
    throw new FallowError("engine-offloads-nothing", `its GPU tells no memory, so nothing can be planned for it`);
  }
  const result = await measured({ options, probed, variant, hosts, isTold: () => false });
  options.onEvent({ event: "engine", variant, gpu: first.name });
  return result;
}

async function installVariant(
  variant: EngineVariant,
  { options, folder }: { options: MachineMeasuring; folder: VariantFolder },
): Promise<string> {
  let toldShare = Number.NEGATIVE_INFINITY;
  const onProgress = ({ bytes, bytesTotal }: InstallProgress) => {
    const share = bytes / bytesTotal;
    if (share < toldShare + INSTALL_EVENT_SHARE) return;
    toldShare = share;
    options.onEvent({ event: "engine-installing", variant, bytes, bytesTotal });
  };
  return folder.install(variant, { signal: options.signal, onProgress });
}

async function measured(result: {
  options: MachineMeasuring;
  probed: Probed;
  variant: EngineVariant;
  hosts: Hosts;
  isTold: (note: ProbeNote) => boolean;
}): Promise<MeasuredMachine> {
  const { options, probed, hosts } = result;
  const speed = await referenceSpeed(
    {
      spec: bundledSpec(options.threads),
      engineVersion: `${LLAMA_RELEASE}/${result.variant}`,
      signal: options.signal,
    },
    { clock: new SystemClock(), engines: hosts.engines, record: new SpeedRecordFile(options.home.at("speed.json")) },
  );
  for (const note of probed.notes) {
    const { subject, problem, fix } = note;
    if (!result.isTold(note)) options.onEvent({ event: "note", subject, problem, fix });
  }
  return {
    capabilities: { ...limited(probed.capabilities, options.memoryBytesMax), referenceSpeed: speed },
    ...hosts,
  };
}

function probe(
  { home }: MachineMeasuring,
  more: Pick<MachineProbeOptions, "installedVariants" | "seenByEngine">,
): Promise<Probed> {
  return new MachineProbe({ engineVersion: LLAMA_RELEASE, folder: home.path, ...more }).probe();
}

interface Hosts {
  readonly engines: EngineHost;
  readonly stages: StageEngineHost;
}

function hostsOf(
  library: { readonly variant: EngineVariant; readonly directory: string | null },
  { gpuSplit = null }: MachineMeasuring,
): Hosts {
  const options: LlamaEngineHostOptions = {
    variant: library.variant,
    libraryDirectory: library.directory,
    selfTestModelPath: BUNDLED_MODEL.path,
    environment: childEnvironment(),
    ...(gpuSplit === null ? {} : { split: gpuSplit }),
  };
  return { engines: new LlamaEngineHost(options), stages: new LlamaStageEngineHost(options) };
}

function bundledSpec(threads: number): EngineLoadSpec {
  return {
    modelId: modelId(BUNDLED_MODEL.id),
    weightsPath: BUNDLED_MODEL.path,
    weightsSha256: sha256Hex(createHash("sha256").update(readFileSync(BUNDLED_MODEL.path)).digest("hex")),
    contextTokens: CONTEXT_TOKENS,
    sequencesMax: 1,
    threads,
    gpuLayers: "all",
  };
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
  throw new CliError(`nothing is left to lend with --max-vram ${memoryBytesMax}`, { fix: "lend more memory" });
}
