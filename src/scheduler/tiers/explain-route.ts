/**
 * The refusal of a request that nothing may run: which rule kept whom out, with the values, what would help, and when. One sentence for
 * each resource, so that the caller sees all of them at once.
 */
import { assert } from "../../domain/assert.ts";
import { GRID_PROVIDER } from "../../domain/preferences.ts";
import type { Refusal, RefusalCode } from "../../domain/refusal.ts";
import type { RouteLoser, RouteQuestion, RouteRule } from "./route-question.ts";
import { hybridIn } from "./route-rules.ts";

/** Providers that are named in one refusal; more are counted. */
const LOSERS_NAMED_MAX = 8;

const HELP: Readonly<Record<RouteRule, string>> = {
  "provider.only": "name one that serves the model in provider.only, or leave it out",
  "provider.ignore": "take one out of provider.ignore",
  "provider.allow_fallbacks": "allow fallbacks, or name another first in provider.order",
  "provider.max_price": "raise provider.max_price",
  "provider.quantizations": "allow another of provider.quantizations",
  "provider.data_collection": "choose another model, or allow data_collection",
  "provider.zdr": "choose another model, or leave provider.zdr out",
  "grid.hybrid": "allow another grid.hybrid",
  "grid.regions": "allow another of grid.regions",
  "grid.exclude_regions": "exclude fewer regions",
  "grid.max_cost_usd": "raise grid.max_cost_usd, or lower max_tokens",
  "grid.confidentiality": "leave grid.confidentiality out",
  "grid.verification": "leave grid.verification out",
  context: "shorten the prompt, or lower max_tokens",
  ability: "leave out what is not taken",
  "not-ready": "try again later, or tell the grid's operator",
  capacity: "try again later, or take a higher service_tier",
};

/** `losers`: everybody that serves the model at all, and why it does not take this request. */
export function routeRefusal(question: RouteQuestion, losers: readonly RouteLoser[]): Refusal {
  const { modelId } = question;
  if (losers.length === 0) {
    const message = `model ${JSON.stringify(modelId)} is not served by this grid or any of its cloud providers`;
    return { code: "model-not-found", message, param: "model", retryAfterMs: null };
  }
  const waits = losers.flatMap(({ retryAfterMs }) => (retryAfterMs === null ? [] : [retryAfterMs]));
  const retryAfterMs = waits.length === 0 ? null : Math.min(...waits);
  const named = losers.slice(0, LOSERS_NAMED_MAX).map(({ who, rule, detail }) => `${who} (${rule}): ${detail}`);
  const more = losers.length > named.length ? [`${losers.length - named.length} more`] : [];
  const rules = [...new Set(losers.map(({ rule }) => rule))];
  const ofGrid = hybridIn(question) === "grid-only" ? losers.filter(({ who }) => who === GRID_PROVIDER) : [];
  const help = rules.map((rule) => HELP[rule]).join("; or ");
  const eta = retryAfterMs === null ? "" : `; the first of them can be asked again in about ${seconds(retryAfterMs)} s`;
  const message = `nothing may run this request for ${modelId}: ${[...named, ...more].join("; ")}${eta}. To have it run: ${help}`;
  return {
    code: codeOf(losers, question),
    message,
    param: paramOf(ofGrid.length > 0 ? ofGrid.map(({ rule }) => rule) : rules),
    retryAfterMs,
  };
}

function codeOf(losers: readonly RouteLoser[], { grid, tier }: RouteQuestion): RefusalCode {
  const [first] = losers;
  assert(first !== undefined, "a refusal has a reason");
  if (losers.some(({ retryAfterMs }) => retryAfterMs !== null)) {
    const none = tier === "flex" ? "resource-unavailable" : "no-capacity";
    // Of a grid that would have taken it but for its queue, its own word stands.
    const own = grid?.outlook.refusal ?? null;
    return losers.some(({ rule }) => rule === "capacity") && own !== null ? own.code : none;
  }
  if (losers.every(({ rule }) => rule === "context")) return "context-length-exceeded";
  const isUnknown = ({ rule }: RouteLoser) => rule === "grid.confidentiality" || rule === "grid.verification";
  if (losers.every(isUnknown) || losers.every(({ rule }) => rule === "ability")) return "unsupported-parameter";
  return "no-capable-node";
}

/** The field to change, where one field alone decides; of a request that nothing but the grid may run, what keeps it off the grid. */
function paramOf(rules: readonly RouteRule[]): string | null {
  const [only] = rules;
  return rules.length === 1 && only !== undefined && only.includes(".") ? only : null;
}

function seconds(ms: number): string {
  return (ms / 1_000).toFixed(ms < 10_000 ? 1 : 0);
}
