/**
 * Shows that this library, on this machine, computes what it should: the shipped tiny model's largest logits after a fixed
 * prompt, as recorded on x86-64. Kernels differ between processors in the last bits, so that each kind of backend has a
 * tolerance; a wrong struct layout or a broken driver misses it by far.
 */
import type { EngineVariant } from "../../domain/hardware.ts";
import { DecodeBatch } from "./decode-batch.ts";
import type { LlamaApi } from "./llama-ffi.ts";
import { freeModel, loadModel } from "./loaded-model.ts";

/** "And God said unto Moses" in the tiny model's vocabulary. */
const PROMPT: readonly number[] = [1, 301, 392, 393, 325, 692];
/** The five largest logits after it. */
const GOLDEN: readonly (readonly [tokenId: number, logit: number])[] = [
  [17, 11.2228],
  [273, 7.2884],
  [292, 6.0216],
  [32, 4.9362],
  [323, 4.3874],
];
const CONTEXT_TOKENS = 256;
/** Largest difference of a logit by variant. CPU kernels were seen to differ by less than 0.05. */
const TOLERANCE: Readonly<Record<EngineVariant, number>> = { cpu: 0.1, cuda: 0.3, vulkan: 0.3, metal: 0.3 };

/** What is wrong, or null. */
export function selfTestFailure(
  api: LlamaApi,
  test: { readonly modelPath: string; readonly variant: EngineVariant; readonly gpuLayers: number },
): string | null {
  const result = loadModel(api, {
    weightsPath: test.modelPath,
    contextTokens: CONTEXT_TOKENS,
    sequencesMax: 1,
    threads: 1,
    gpuLayers: test.gpuLayers,
    onProgress: () => undefined,
  });
  if (!result.ok) return `the self-test model: ${result.message}`;
  const loaded = result.value;
  const batch = new DecodeBatch({ tokensMax: PROMPT.length, sequencesMax: 1 });
  for (const [position, token] of PROMPT.entries()) {
    batch.add(token, { position, sequence: 0, wantsOutput: position === PROMPT.length - 1 });
  }
  const code = api.decode(loaded.context, batch.raw);
  const address = code === 0 ? api.logits(loaded.context) : null;
  const row = address === null ? undefined : loaded.logitRows.at(address)[0];
  const failure = row === undefined ? `llama_decode answered ${code}` : difference(row, TOLERANCE[test.variant]);
  freeModel(loaded);
  return failure;
}

function difference(row: Float32Array, tolerance: number): string | null {
  for (const [tokenId, logit] of GOLDEN) {
    const found = row[tokenId] ?? Number.NaN;
    if (!(Math.abs(found - logit) <= tolerance)) {
      return `the self-test model's logit of token ${tokenId} is ${found}, not within ${tolerance} of ${logit}`;
    }
  }
  return null;
}
