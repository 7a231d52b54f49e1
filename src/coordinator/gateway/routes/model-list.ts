/** `/v1/models`: OpenAI's fields, and those that routers such as OpenRouter read from a provider. */
import type { ModelManifest } from "../../../domain/model.ts";
import type { TokenPrice } from "../../../domain/money.ts";
import { quantisationClass } from "../../../domain/quantisation-class.ts";
import { SERVICE_TIERS, type ServiceTier, TIER_PROMISES } from "../../../domain/tier.ts";
import { isReasoningTemplate } from "../../../inference/chat/reasoning-splitter.ts";
import type { Model } from "../../../wire/openai/responses.ts";

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

/** What of a model stands outside its manifest. */
export interface ModelMarket {
  readyReplicas(modelId: ModelManifest["modelId"]): number;
  /** All that serve it are chains of stages, which give no embeddings. */
  isOnlySplit?(modelId: ModelManifest["modelId"]): boolean;
  priceOf(manifest: ModelManifest, tier: ServiceTier): TokenPrice;
  /** Of the nodes that serve it, sorted. */
  regions?(modelId: ModelManifest["modelId"]): readonly string[];
}

export function modelEntry(manifest: ModelManifest, market: ModelMarket): Model {
  const canChat = manifest.chatTemplate !== null;
  const canReason = canChat && isReasoningTemplate(manifest.chatTemplate ?? "");
  const regions = market.regions?.(manifest.modelId) ?? [];
  return {
    id: manifest.modelId,
    object: "model",
    created: Math.floor(manifest.addedAtMs / 1000),
    owned_by: "fallow",
    name: manifest.name,
    architecture: manifest.architecture,
    context_length: manifest.contextTokensMax,
    max_output_length: manifest.contextTokensMax,
    quantization: quantisationClass(manifest.quantisation) ?? "unknown",
    weights_quantization: manifest.quantisation,
    parameter_count: manifest.parameterCount,
    input_modalities: ["text"],
    output_modalities: market.isOnlySplit?.(manifest.modelId) === true ? ["text"] : ["text", "embeddings"],
    pricing: { ...pricingOf(market.priceOf(manifest, "default")), request: "0", image: "0" },
    tiers: SERVICE_TIERS.map((tier) => ({
      id: tier,
      promise: TIER_PROMISES[tier],
      pricing: pricingOf(market.priceOf(manifest, tier)),
    })),
    supported_sampling_parameters: SAMPLING_PARAMETERS,
    supported_features: [
      "json_mode",
      "structured_outputs",
      "logprobs",
      ...(canChat ? ["chat", "tools"] : []),
      ...(canReason ? ["reasoning"] : []),
    ],
    license: manifest.licence,
    weights_sha256: manifest.weightsSha256,
    regions: [...regions],
    datacenters: regions.filter(isCountry).map((region) => ({ country_code: region.toUpperCase() })),
    ready_replicas: market.readyReplicas(manifest.modelId),
  };
}

/** Operators name their regions; where the name is a country of ISO 3166 it is told as one. Others are in `regions` alone. */
export function isCountry(region: string): boolean {
  return /^[a-z]{2}$/.test(region) && region !== "eu";
}

/** As OpenRouter lists prices. */
export function pricingOf(price: TokenPrice): { readonly prompt: string; readonly completion: string } {
  return {
    prompt: usdPerToken(price.inputMicroUsdPerMtok),
    completion: usdPerToken(price.outputMicroUsdPerMtok),
  };
}

/** Micro-USD per million tokens is 10^-12 USD per token: exact as a decimal, without trailing zeros. */
export function usdPerToken(microUsdPerMtok: number): string {
  const digits = String(microUsdPerMtok).padStart(13, "0");
  const text = `${digits.slice(0, -12)}.${digits.slice(-12)}`;
  return text.replace(/\.?0+$/, "") || "0";
}
