/** The machines and models of a run, from what was drawn: capabilities, manifests, paces. */

import type { NodeCapabilities } from "../domain/hardware.ts";
import { modelId, type Sha256Hex, sha256Hex } from "../domain/ids.ts";
import type { ModelManifest } from "../domain/model.ts";
import { toHex } from "../market/hex.ts";
import type { Crypto } from "../ports/crypto.ts";
import type { ScriptedPace } from "./engine/scripted-engine.ts";
import { SCRIPTED_EMBEDDING_LENGTH } from "./engine/scripted-layers.ts";
import { SCRIPTED_VOCAB_SIZE } from "./engine/scripted-model.ts";
import type { ModelDraw } from "./load/load.ts";
import type { SeededRandom } from "./time/random.ts";

export const CONTEXT_TOKENS = 256;
const GIGABYTE = 1024 ** 3;
/** Holds every model of a run with all its slots. */
const AMPLE_BYTES = 24 * GIGABYTE;

/** Node 0 has room for everything, so that there is always somebody who could answer. */
export function drawCapabilities(random: SeededRandom, index: number, diskBytes: number | null): NodeCapabilities {
  const isGpu = random.chance(0.5);
  const memoryBytes = index === 0 ? AMPLE_BYTES : Math.floor(random.pick([0.5, 1, 2, 8]) * GIGABYTE);
  const reserveBytes = Math.floor(memoryBytes * random.pick([0, 0.1, 0.25]));
  const variant = isGpu ? "cuda" : "cpu";
  return {
    platform: "sim",
    cpuModel: "sim",
    cpuCores: 4,
    memoryBytes,
    diskFreeBytes: diskBytes ?? 100 * GIGABYTE,
    devices: [
      {
        deviceId: isGpu ? "cuda0" : "cpu",
        kind: isGpu ? "gpu" : "cpu",
        variant,
        name: "sim device",
        memoryBytes,
        memoryFreeBytes: memoryBytes - reserveBytes,
        reserveBytes,
      },
    ],
    engineVariant: variant,
    engineVersion: "scripted",
    referenceSpeed: random.chance(0.2)
      ? null
      : {
          prefillTokPerSecond: random.between(100, 5_000),
          decodeTokPerSecond: random.between(5, 200),
          measuredAtMs: 0,
        },
  };
}

export function drawPace(random: SeededRandom, slowness: number): ScriptedPace {
  return {
    loadMs: random.between(50, 2_500) * Math.min(slowness, 4),
    prefillMsPerToken: random.pick([0.05, 0.5, 2]) * slowness,
    stepMs: random.between(2, 30) * slowness,
  };
}

export function manifestOf(draw: ModelDraw, crypto: Crypto, nowMs: number): ModelManifest {
  const digest = (what: string): Sha256Hex => sha256Hex(toHex(crypto.sha256(Buffer.from(`${draw.name} ${what}`))));
  return {
    modelId: modelId(draw.name),
    weightsSha256: digest("weights"),
    fileBytes: draw.fileBytes,
    name: draw.name,
    // What is split is taken for a model of an architecture that can be.
    architecture: (draw.layerCount ?? 1) > 1 ? "llama" : "scripted",
    quantisation: "Q8_0",
    parameterCount: draw.fileBytes,
    layerCount: draw.layerCount ?? 1,
    embeddingLength: SCRIPTED_EMBEDDING_LENGTH,
    headCount: 1,
    headCountKv: 1,
    vocabSize: SCRIPTED_VOCAB_SIZE,
    contextTokensMax: CONTEXT_TOKENS,
    kvBytesPerToken: draw.kvBytesPerToken,
    chatTemplate: null,
    chatTemplateSha256: null,
    tokenizerSha256: digest("tokenizer"),
    licence: null,
    price: {
      inputMicroUsdPerMtok: draw.inputMicroUsdPerMtok,
      outputMicroUsdPerMtok: draw.outputMicroUsdPerMtok,
    },
    warmReplicas: draw.warmReplicas,
    addedAtMs: nowMs,
  };
}
