/** Checks of what runs models: the library is there, a real engine loads the bundled model and passes its self-test, GPUs. */
import { LlamaEngineHost } from "../../adapters/engine-llama/engine-host.ts";
import { findLlamaLibrary } from "../../adapters/engine-llama/llama-library.ts";
import { describeFault, FallowError } from "../../domain/fault.ts";
import { modelId, sha256Hex } from "../../domain/ids.ts";
import { BUNDLED_MODEL } from "../bundled-model.ts";
import { asCliError } from "../cli-error.ts";
import { childEnvironment } from "../compose/child-environment.ts";
import { formatDuration } from "../format.ts";
import { type Check, fine, problem, skipped } from "./check.ts";

/** The self-test of a machine under load took 3 s; a minute means that it hangs. */
const SELF_TEST_MS_MAX = 60_000;
const CONTEXT_TOKENS = 256;
const REINSTALL = "run `npm ci` in the project again (npm start does it by itself)";
/** The engine does not look at the digest; the file is our own. */
const NO_DIGEST = sha256Hex("0".repeat(64));

export async function checkEngine(): Promise<readonly Check[]> {
  try {
    const { directory } = findLlamaLibrary({ directory: null, variant: "cpu" });
    return [fine("engine library", directory), await selfTest()];
  } catch (thrown) {
    if (!(thrown instanceof FallowError)) throw thrown;
    return [problem("engine library", thrown.message, REINSTALL), skipped("engine", "there is no library to load")];
  }
}

async function selfTest(): Promise<Check> {
  const startMs = performance.now();
  const host = new LlamaEngineHost({
    variant: "cpu",
    libraryDirectory: null,
    selfTestModelPath: BUNDLED_MODEL.path,
    environment: childEnvironment(),
  });
  try {
    const engine = await host.load(
      {
        modelId: modelId(BUNDLED_MODEL.id),
        weightsPath: BUNDLED_MODEL.path,
        weightsSha256: NO_DIGEST,
        contextTokens: CONTEXT_TOKENS,
        sequencesMax: 1,
        threads: 1,
        gpuLayers: 0,
      },
      { signal: AbortSignal.timeout(SELF_TEST_MS_MAX) },
    );
    const { numericClass } = engine.info;
    await engine.close();
    const tookMs = performance.now() - startMs;
    return fine("engine", `${numericClass} loads and passes its self-test (${formatDuration(tookMs)})`);
  } catch (thrown) {
    return problem("engine", describeFault(thrown), asCliError(thrown).fix ?? REINSTALL);
  }
}
