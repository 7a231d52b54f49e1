/** `/v1/models` of models that only cloud providers have. What nobody here knows of them (weights, parameters, licence) is null. */
import { type ModelId, modelId as toModelId } from "../../../domain/ids.ts";
import { quantisationClass } from "../../../domain/quantisation-class.ts";
import { SERVICE_TIERS, TIER_PROMISES } from "../../../domain/tier.ts";
import type { Cloud, CloudOffer } from "../../../ports/cloud.ts";
import type { Model } from "../../../wire/openai/responses.ts";
import { isCountry, pricingOf } from "./model-list.ts";

/** What every provider takes; more only where it was found by probing. */
const SAMPLING_PARAMETERS = ["temperature", "top_p", "frequency_penalty", "presence_penalty", "stop", "max_tokens"];

export interface CloudListing {
  readonly modelId: ModelId;
  /** Enabled ones, the cheapest first. At least one. */
  readonly offers: readonly CloudOffer[];
}

/** Those that enabled providers offer and the grid does not have, sorted by id. */
export function cloudListings(
  cloud: Cloud | undefined,
  isOnGrid: (modelId: ModelId) => boolean,
): readonly CloudListing[] {
  const ids = new Set<string>();
  for (const { spec } of cloud?.list() ?? []) {
    if (spec.isEnabled) for (const model of spec.models) ids.add(model.modelId);
  }
  return [...ids].sort().flatMap((id) => cloudListing(cloud, toModelId(id), isOnGrid) ?? []);
}

export function cloudListing(
  cloud: Cloud | undefined,
  modelId: ModelId,
  isOnGrid: (modelId: ModelId) => boolean,
): CloudListing | null {
  if (isOnGrid(modelId)) return null;
  const offers = (cloud?.offers(modelId) ?? []).filter(({ spec }) => spec.isEnabled);
  const price = ({ model }: CloudOffer) => model.price.inputMicroUsdPerMtok + model.price.outputMicroUsdPerMtok;
  return offers.length === 0 ? null : { modelId, offers: offers.toSorted((a, b) => price(a) - price(b)) };
}

/** As much of a manifest as Anthropic's list tells. */
export function cloudSummary({ modelId, offers }: CloudListing) {
  const addedAtMs = Math.min(...offers.map(({ spec }) => spec.addedAtMs));
  const contextTokensMax = Math.max(...offers.map(({ model }) => model.contextTokensMax));
  return { modelId, name: modelId, addedAtMs, contextTokensMax };
}

export function cloudEntry(listing: CloudListing): Model {
  const { offers, modelId } = listing;
  const [cheapest] = offers;
  const { addedAtMs, contextTokensMax } = cloudSummary(listing);
  const quantisation = cheapest?.model.quantisation ?? null;
  const regions = [...new Set(offers.flatMap(({ spec }) => spec.regions))].sort();
  const can = (ability: "tools" | "jsonSchema" | "seed") => offers.some(({ model }) => model.abilities?.[ability]);
  const pricing = pricingOf(cheapest?.model.price ?? { inputMicroUsdPerMtok: 0, outputMicroUsdPerMtok: 0 });
  return {
    id: modelId,
    object: "model",
    created: Math.floor(addedAtMs / 1000),
    owned_by: cheapest?.spec.providerId ?? "cloud",
    name: modelId,
    architecture: "unknown",
    context_length: contextTokensMax,
    max_output_length: Math.max(...offers.map(({ model }) => model.outputTokensMax ?? model.contextTokensMax)),
    quantization: quantisation === null ? "unknown" : (quantisationClass(quantisation) ?? "unknown"),
    weights_quantization: quantisation ?? "unknown",
    parameter_count: null,
    input_modalities: ["text"],
    output_modalities: ["text"],
    pricing: { ...pricing, request: "0", image: "0" },
    tiers: SERVICE_TIERS.map((tier) => ({ id: tier, promise: TIER_PROMISES[tier], pricing })),
    supported_sampling_parameters: [
      ...SAMPLING_PARAMETERS,
      ...(can("seed") ? ["seed"] : []),
      ...(can("jsonSchema") ? ["response_format"] : []),
    ],
    supported_features: [
      "chat",
      ...(can("tools") ? ["tools"] : []),
      ...(can("jsonSchema") ? ["json_mode", "structured_outputs"] : []),
    ],
    license: null,
    weights_sha256: null,
    regions,
    datacenters: regions.filter(isCountry).map((region) => ({ country_code: region.toUpperCase() })),
    ready_replicas: 0,
  };
}
