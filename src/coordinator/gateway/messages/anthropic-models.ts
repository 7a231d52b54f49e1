/** `/v1/models` as Anthropic's clients read it; theirs send `anthropic-version`. */
import type { ModelManifest } from "../../../domain/model.ts";
import { type Outcome, ok, refuse } from "../../../domain/refusal.ts";
import type { AnthropicModel } from "../../../wire/anthropic/message.ts";
import { isoTime } from "../callers/api-keys.ts";

/** As Anthropic's. */
const LIMIT_MAX = 1_000;
const LIMIT_DEFAULT = 20;

export type AnthropicListing = Pick<ModelManifest, "modelId" | "name" | "addedAtMs" | "contextTokensMax">;

export function anthropicModel(manifest: AnthropicListing): AnthropicModel {
  return {
    type: "model",
    id: manifest.modelId,
    display_name: manifest.name,
    created_at: isoTime(manifest.addedAtMs),
    max_input_tokens: manifest.contextTokensMax,
    max_tokens: manifest.contextTokensMax,
    capabilities: null,
    line: null,
    lifecycle: "active",
    deprecated_at: null,
    retires_at: null,
  };
}

/** A page of models, which are sorted by id. */
export function anthropicModelPage(
  manifests: readonly AnthropicListing[],
  query: (name: string) => string | undefined,
): Outcome<object> {
  const limit = Number(query("limit") ?? LIMIT_DEFAULT);
  if (!Number.isSafeInteger(limit) || limit < 1 || limit > LIMIT_MAX) {
    return refuse("invalid-request", `'limit' is a whole number from 1 to ${LIMIT_MAX}`, { param: "limit" });
  }
  const [after, before] = [query("after_id"), query("before_id")];
  const eligible = manifests.filter(
    ({ modelId }) => (after === undefined || modelId > after) && (before === undefined || modelId < before),
  );
  const page = before === undefined ? eligible.slice(0, limit) : eligible.slice(-limit);
  const data = page.map(anthropicModel);
  return ok({
    data,
    has_more: page.length < eligible.length,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
  });
}
