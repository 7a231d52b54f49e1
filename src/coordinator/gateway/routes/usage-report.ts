/** Usage as JSON or CSV, grouped as asked: for a tenant's own key, and for the operator over all tenants. */
import { formatUsd } from "../../../domain/money.ts";
import { type Outcome, ok, refuse } from "../../../domain/refusal.ts";
import { groupUsage, USAGE_DIMENSIONS, type UsageDimension, type UsageGroup } from "../../../market/usage-groups.ts";
import type { UsageRow } from "../../../ports/store.ts";

/** As fields of the API are called. */
const NAMES: Readonly<Record<UsageDimension, string>> = {
  day: "day",
  tenant: "tenant_id",
  key: "key_id",
  model: "model",
  tier: "service_tier",
  provider: "provider",
};
const DAY_MS = 86_400_000;
/** When no range is asked for. */
const RANGE_DEFAULT_MS = 31 * DAY_MS;

export interface UsageQuery {
  readonly fromMs: number;
  readonly toMs: number;
  readonly dimensions: readonly UsageDimension[];
  readonly format: "json" | "csv";
}

/** `query` gives a parameter's text, or undefined. `fallback`: dimensions where none are named. */
export function usageQuery(
  query: (name: string) => string | undefined,
  more: { readonly accept: string | undefined; readonly nowMs: number; readonly fallback: readonly UsageDimension[] },
): Outcome<UsageQuery> {
  const toMs = moment("to_ms", query("to_ms"), more.nowMs + 1);
  if (!toMs.ok) return toMs;
  const fromMs = moment("from_ms", query("from_ms"), Math.max(0, toMs.value - RANGE_DEFAULT_MS));
  if (!fromMs.ok) return fromMs;
  if (fromMs.value > toMs.value) {
    const message = `from_ms (${fromMs.value}) and to_ms (${toMs.value}) contradict each other: the range ends before it begins`;
    return refuse("invalid-request", message, { param: "from_ms" });
  }
  const dimensions = dimensionsOf(query("group_by"), more.fallback);
  if (!dimensions.ok) return dimensions;
  const format = query("format") ?? (more.accept?.includes("text/csv") === true ? "csv" : "json");
  if (format !== "json" && format !== "csv") {
    return refuse("invalid-request", `'format' is ${shown(format)}; one of json, csv is taken`, { param: "format" });
  }
  return ok({ fromMs: fromMs.value, toMs: toMs.value, dimensions: dimensions.value, format });
}

export function usageResponse(rows: readonly UsageRow[], { dimensions, format }: UsageQuery): Response {
  const groups = groupUsage(rows, dimensions);
  if (format === "json") return Response.json({ object: "list", data: groups.map((group) => row(group, dimensions)) });
  const headers = {
    "content-type": "text/csv; charset=utf-8; header=present",
    "content-disposition": 'attachment; filename="usage.csv"',
  };
  return new Response(csvOf(groups, dimensions), { headers });
}

function row(group: UsageGroup, dimensions: readonly UsageDimension[]): Readonly<Record<string, string | number>> {
  return {
    ...Object.fromEntries(dimensions.map((dimension, at) => [NAMES[dimension], group.by[at] ?? ""])),
    requests: group.requests,
    prompt_tokens: group.promptTokens,
    completion_tokens: group.outputTokens,
    cost_usd: formatUsd(group.costMicroUsd),
  };
}

/** RFC 4180. */
function csvOf(groups: readonly UsageGroup[], dimensions: readonly UsageDimension[]): string {
  const sums = ["requests", "prompt_tokens", "completion_tokens", "cost_usd"];
  const lines = [[...dimensions.map((dimension) => NAMES[dimension]), ...sums]];
  for (const group of groups) lines.push(Object.values(row(group, dimensions)).map(String));
  return lines.map((fields) => `${fields.map(csvField).join(",")}\r\n`).join("");
}

function csvField(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function dimensionsOf(
  text: string | undefined,
  fallback: readonly UsageDimension[],
): Outcome<readonly UsageDimension[]> {
  if (text === undefined) return ok(fallback);
  const names = text === "" ? [] : text.split(",").map((name) => name.trim());
  const found: UsageDimension[] = [];
  for (const name of names) {
    const dimension = USAGE_DIMENSIONS.find((known) => known === name || NAMES[known] === name);
    if (dimension === undefined) {
      const message = `'group_by' names ${shown(name)}; ${USAGE_DIMENSIONS.join(", ")} can be grouped by`;
      return refuse("invalid-request", message, { param: "group_by" });
    }
    if (!found.includes(dimension)) found.push(dimension);
  }
  return ok(found);
}

function moment(name: string, given: string | undefined, fallback: number): Outcome<number> {
  if (given === undefined) return ok(fallback);
  const value = Number(given);
  if (given !== "" && Number.isSafeInteger(value) && value >= 0) return ok(value);
  const message = `'${name}' is ${shown(given)}; a whole number of milliseconds since 1970 is taken`;
  return refuse("invalid-request", message, { param: name });
}

function shown(text: string): string {
  return JSON.stringify(text.slice(0, 40));
}
