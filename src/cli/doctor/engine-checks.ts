/** Checks of what runs models: the library is there, a real engine loads the bundled model and passes its self-test, GPUs. */
import { LlamaEngineHost } from "../../adapters/engine-llama/engine-host.ts";
import { findLlamaLibrary } from "../../adapters/engine-llama/llama-library.ts";
import { tryVariant } from "../../agent/devices/try-variant.ts";
import { describeFault, FallowError } from "../../domain/fault.ts";
import type { EngineVariant } from "../../domain/hardware.ts";
import { modelId, sha256Hex } from "../../domain/ids.ts";
import type { EngineLoadSpec } from "../../ports/engine.ts";
import { BUNDLED_MODEL } from "../bundled-model.ts";
import { asCliError } from "../cli-error.ts";
import { childEnvironment } from "../compose/child-environment.ts";
import { fixForVariant } from "../compose/engine-fixes.ts";
import { installedVariants, variantFolder } from "../compose/installed-variants.ts";
import { formatDuration } from "../format.ts";
import { ENGINES_FOLDER, type HomeFolder } from "../home/home-folder.ts";
import { type Check, fine, problem, skipped } from "./check.ts";

/** The self-test of a machine under load took 3 s; a minute means that it hangs. */
const SELF_TEST_MS_MAX = 60_000;
const CONTEXT_TOKENS = 256;
const REINSTALL = "run `npm ci` in the project again (npm start does it by itself)";
/** The engine does not look at the digest; the file is our own. */
const NO_DIGEST = sha256Hex("0".repeat(64));

/** The CPU's engine, and each variant for a GPU that is installed: whether it really computes on one. */
export async function checkEngine(home: HomeFolder): Promise<readonly Check[]> {
  const checks = [...(await checkCpuEngine())];
  for (const { variant, directory } of await installedVariants(variantFolder(home.at(ENGINES_FOLDER)))) {
    if (variant !== "cpu") checks.push(await gpuSelfTest(variant, directory));
  }
  return checks;
}

async function checkCpuEngine(): Promise<readonly Check[]> {
  try {
    const { directory } = findLlamaLibrary({ directory: null, variant: "cpu" });
    return [fine("engine library", directory), await selfTest()];
  } catch (thrown) {
    if (!(thrown instanceof FallowError)) throw thrown;
    return [problem("engine library", thrown.message, REINSTALL), skipped("engine", "there is no library to load")];
  }
}

async function gpuSelfTest(variant: EngineVariant, directory: string | null): Promise<Check> {
  const name = `engine ${variant}`;
  try {
    const signal = AbortSignal.timeout(SELF_TEST_MS_MAX);
    const info = await tryVariant({ spec: SPEC, signal }, { engines: hostOf(variant, directory) });
    return fine(name, `${info.numericClass} puts ${info.layersOffloaded} layers of the bundled model on the GPU`);
  } catch (thrown) {
    if (!(thrown instanceof FallowError)) throw thrown;
    return problem(name, `${describeFault(thrown)}; the CPU is used instead`, fixForVariant(variant, thrown.code));
  }
}

const SPEC: EngineLoadSpec = {
  modelId: modelId(BUNDLED_MODEL.id),
  weightsPath: BUNDLED_MODEL.path,
  weightsSha256: NO_DIGEST,
  contextTokens: CONTEXT_TOKENS,
  sequencesMax: 1,
  threads: 1,
  gpuLayers: 0,
};

function hostOf(variant: EngineVariant, libraryDirectory: string | null): LlamaEngineHost {
  const selfTestModelPath = BUNDLED_MODEL.path;
  return new LlamaEngineHost({ variant, libraryDirectory, selfTestModelPath, environment: childEnvironment() });
}

async function selfTest(): Promise<Check> {
  const startMs = performance.now();
  try {
    const engine = await hostOf("cpu", null).load(SPEC, { signal: AbortSignal.timeout(SELF_TEST_MS_MAX) });
    const { numericClass } = engine.info;
    await engine.close();
    const tookMs = performance.now() - startMs;
    return fine("engine", `${numericClass} loads and passes its self-test (${formatDuration(tookMs)})`);
  } catch (thrown) {
    return problem("engine", describeFault(thrown), asCliError(thrown).fix ?? REINSTALL);
  }
}
