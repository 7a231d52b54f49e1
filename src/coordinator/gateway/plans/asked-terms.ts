/** What a request asks for beside its content: tier and preferences, from its body, its headers and its key. */
import type { PreferenceWords, RoutePreferences } from "../../../domain/preferences.ts";
import { type Outcome, ok, refuse } from "../../../domain/refusal.ts";
import { type RequestedTier, type ServiceTier, tierFor } from "../../../domain/tier.ts";
import type { ApiKey } from "../../../ports/store.ts";
import { mergePreferences } from "../../../scheduler/tiers/merge-preferences.ts";
import {
  type HeaderWords,
  headerOf,
  headerWordsSchema,
  PREFERENCE_HEADERS,
  readPreferenceHeaders,
} from "../../../wire/openai/preferences.ts";
import { parseRequest } from "../bodies/schema-issues.ts";

export interface AskedTerms {
  readonly tier: ServiceTier;
  readonly preferences: RoutePreferences;
}

export interface TermWords extends PreferenceWords {
  readonly service_tier?: RequestedTier | null | undefined;
}

/** `headers` in lower case, as `Headers` gives them. */
export function askedTerms(
  body: TermWords,
  more: { readonly headers: Iterable<readonly [string, string]>; readonly key: Pick<ApiKey, "preferences"> | null },
): Outcome<AskedTerms> {
  const headers = headerWords(more.headers);
  if (!headers.ok) return headers;
  const tier = tierFor(body.service_tier ?? headers.value.service_tier ?? "auto");
  const preferences = mergePreferences({ body, headers: headers.value, key: more.key?.preferences ?? null, tier });
  return preferences.ok ? ok({ tier, preferences: preferences.value }) : preferences;
}

function headerWords(headers: Iterable<readonly [string, string]>): Outcome<HeaderWords> {
  const { words, unknown } = readPreferenceHeaders(headers);
  const [name] = unknown;
  if (name !== undefined) {
    const message = `header '${name}' is not supported; those that say where a request runs are ${PREFERENCE_HEADERS.join(", ")}`;
    return refuse("unsupported-parameter", message, { param: name });
  }
  const parsed = parseRequest(headerWordsSchema, words);
  if (parsed.ok) return parsed;
  const { reason } = parsed;
  const header = reason.param === null ? null : headerOf(reason.param);
  if (header === null) return parsed;
  return { ok: false, reason: { ...reason, message: `header ${header}: ${reason.message}`, param: header } };
}
