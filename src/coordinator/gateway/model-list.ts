/** `/v1/models`: OpenAI's fields, and those that routers such as OpenRouter read from a provider. */
import type { ModelManifest } from "../../domain/model.ts";
import { SERVICE_TIERS } from "../../domain/tier.ts";
import type { Model } from "../../wire/openai/responses.ts";

const SAMPLING_PARAMETERS = [
  "temperature",
  "top_p",
  "top_k",
  "frequency_penalty",
  "presence_penalty",
  "logit_bias",
  "logprobs",
  "top_logprobs",
  "seed",
  "stop",
  "max_tokens",
  "response_format",
];

export function modelEntry(manifest: ModelManifest, more: { readyReplicas: number }): Model {
  const { inputMicroUsdPerMtok, outputMicroUsdPerMtok } = manifest.price;
  const canChat = manifest.chatTemplate !== null;
  return {
    id: manifest.modelId,
    object: "model",
    created: Math.floor(manifest.addedAtMs / 1000),
    owned_by: "fallow",
    name: manifest.name,
    architecture: manifest.architecture,
    context_length: manifest.contextTokensMax,
    max_output_length: manifest.contextTokensMax,
    quantization: manifest.quantisation,
    parameter_count: manifest.parameterCount,
    input_modalities: ["text"],
    output_modalities: ["text", "embeddings"],
    pricing: { prompt: usdPerToken(inputMicroUsdPerMtok), completion: usdPerToken(outputMicroUsdPerMtok) },
    tiers: [...SERVICE_TIERS],
    supported_sampling_parameters: SAMPLING_PARAMETERS,
    supported_features: ["json_mode", "structured_outputs", "logprobs", ...(canChat ? ["chat", "tools"] : [])],
    license: manifest.licence,
    weights_sha256: manifest.weightsSha256,
    ready_replicas: more.readyReplicas,
  };
}

/** Micro-USD per million tokens is 10^-12 USD per token: exact as a decimal, without trailing zeros. */
export function usdPerToken(microUsdPerMtok: number): string {
  const digits = String(microUsdPerMtok).padStart(13, "0");
  const text = `${digits.slice(0, -12)}.${digits.slice(-12)}`;
  return text.replace(/\.?0+$/, "") || "0";
}
