/** Whether an engine variant really works here: it loads, passes its self-test, and puts layers on a GPU. */
import { FallowError } from "../../domain/fault.ts";
import type { EngineHost, EngineInfo, EngineLoadSpec } from "../../ports/engine.ts";

/** The bundled model's prompt of the self-test fits. */
const CONTEXT_TOKENS = 256;

/**
 * Loads the model once and closes it. Rejects as `EngineHost.load` does, and with `engine-offloads-nothing` where the library took
 * the CPU instead, which it does without a word when it finds no device that it can use.
 */
export async function tryVariant(
  load: { spec: EngineLoadSpec; signal: AbortSignal },
  { engines }: { engines: EngineHost },
): Promise<EngineInfo> {
  const spec: EngineLoadSpec = { ...load.spec, contextTokens: CONTEXT_TOKENS, sequencesMax: 1, gpuLayers: "all" };
  const engine = await engines.load(spec, { signal: load.signal });
  await engine.close();
  const { info } = engine;
  if (info.layersOffloaded > 0) return info;
  const seen = (info.gpus ?? []).map(({ name }) => name).join(", ");
  const why = seen === "" ? "it sees no GPU that it can use" : `it sees ${seen}`;
  throw new FallowError("engine-offloads-nothing", `it put 0 layers of a model on a GPU: ${why}`, {
    data: { variant: info.variant },
  });
}
