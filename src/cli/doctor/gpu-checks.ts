/** Checks of GPUs: what the probe found, and what keeps one from being used. */
import { LLAMA_RELEASE } from "../../adapters/engine-llama/llama-library.ts";
import { MachineProbe } from "../../adapters/hardware-probe/machine-probe.ts";
import { installedVariants, variantFolder } from "../compose/installed-variants.ts";
import { formatBytes } from "../format.ts";
import { ENGINES_FOLDER, type HomeFolder } from "../home/home-folder.ts";
import { type Check, fine, problem } from "./check.ts";
import { existingParent } from "./machine-checks.ts";

export async function checkGpu(home: HomeFolder): Promise<readonly Check[]> {
  const folder = existingParent(home.path);
  const installed = await installedVariants(variantFolder(home.at(ENGINES_FOLDER)));
  const { capabilities, notes } = await new MachineProbe({
    engineVersion: LLAMA_RELEASE,
    installedVariants: installed.map(({ variant }) => variant),
    folder,
  }).probe();
  // Memory and disk have checks of their own, with bounds for a grid and not only for an agent.
  const problems = notes
    .filter(({ subject }) => subject !== "memory" && subject !== "disk")
    .map((note) => problem("gpu", `${note.subject}: ${note.problem}`, note.fix));
  const gpus = capabilities.devices
    .filter(({ kind }) => kind === "gpu")
    .map((device) => fine("gpu", `${device.name} with ${formatBytes(device.memoryBytes)}, by ${device.variant}`));
  if (problems.length === 0 && gpus.length === 0) {
    return [fine("gpu", `none found; the CPU is used (${capabilities.cpuCores} cores, ${capabilities.cpuModel})`)];
  }
  return [...gpus, ...problems];
}
