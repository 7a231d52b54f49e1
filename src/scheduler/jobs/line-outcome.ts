/**
 * What becomes of a line whose request was answered.
 *
 * | answer                                                          | the line                                                     |
 * | --------------------------------------------------------------- | ------------------------------------------------------------ |
 * | 2xx                                                             | has its result                                               |
 * | it was not tried: no node, no room, no money, no store           | waits, and with it the batch for a while; counts as no try    |
 * | its own fault: any other 4xx, or a demand that no machine meets, whoever comes | has its result, in the error file              |
 * | the grid's fault: 5xx                                           | is tried again elsewhere, `LINE_TRIES_MAX` times in all, then set aside: its result is the last error |
 *
 * A line that ends the coordinator itself leaves no answer. Its chunk is then claimed again and again without a result: after
 * `BARREN_CAREFUL` such claims its lines run one at a time, after `BARREN_CLAIMS_MAX` the first of them is set aside.
 */
export const LINE_TRIES_MAX = 4;
/** A coordinator that is killed for other reasons seldom hits a chunk thrice before any of its lines ends. */
export const BARREN_CAREFUL = 3;
export const BARREN_CLAIMS_MAX = 6;

/** Codes of answers which say that nothing was tried, as the gateway writes them. */
const NOT_TRIED: ReadonlySet<string> = new Set([
  "draining",
  "queue_full",
  "no_capacity",
  "resource_unavailable",
  "no_capable_node",
  "insufficient_quota",
  "budget_exceeded",
  "rate_limit_exceeded",
  "storage_unavailable",
  "deadline_exceeded",
]);
/** What they keep out now they keep out tomorrow: prices and policies, unlike regions, do not come with a node. As the gateway names them. */
const LASTING: ReadonlySet<string> = new Set([
  "grid.max_cost_usd",
  "grid.confidentiality",
  "grid.verification",
  "provider.max_price",
  "provider.only",
  "provider.ignore",
  "provider.data_collection",
  "provider.zdr",
]);
const NO_NODE = "no_capable_node";
/** Nobody waits for an answer that we cancelled ourselves. */
const CANCELLED = "request_cancelled";
const SUCCESS = { least: 200, most: 299 } as const;
const FAULT_STATUS_LEAST = 500;

/** Between two tries of one line, doubled each time. */
const RETRY_FIRST_MS = 500;
/** After an answer which says that nothing can run, doubled while that goes on. */
const WAIT_FIRST_MS = 250;
const WAIT_MOST_MS = 15_000;

export type LineOutcome =
  | { readonly kind: "result"; readonly isOk: boolean; readonly isSetAside: boolean }
  | { readonly kind: "retry"; readonly tries: number; readonly delayMs: number }
  | { readonly kind: "wait"; readonly code: string }
  | { readonly kind: "dropped" };

export function lineOutcome(answer: {
  readonly status: number;
  /** Of the error; null when there is none. */
  readonly code: string | null;
  /** The field that it names. */
  readonly param: string | null;
  /** Failed tries before this one. */
  readonly triesBefore: number;
}): LineOutcome {
  const { status, code, param, triesBefore } = answer;
  if (status >= SUCCESS.least && status <= SUCCESS.most) return { kind: "result", isOk: true, isSetAside: false };
  if (code === CANCELLED) return { kind: "dropped" };
  const isLasting = code === NO_NODE && param !== null && LASTING.has(param);
  if (isLasting) return { kind: "result", isOk: false, isSetAside: false };
  if (code !== null && NOT_TRIED.has(code)) return { kind: "wait", code };
  if (status < FAULT_STATUS_LEAST) return { kind: "result", isOk: false, isSetAside: false };
  const tries = triesBefore + 1;
  if (tries >= LINE_TRIES_MAX) return { kind: "result", isOk: false, isSetAside: true };
  return { kind: "retry", tries, delayMs: RETRY_FIRST_MS * 2 ** triesBefore };
}

/** How long a batch begins nothing after the n-th answer in a row (from 1) which says that nothing can run. */
export function waitMs(refusalsInRow: number): number {
  return Math.min(WAIT_MOST_MS, WAIT_FIRST_MS * 2 ** Math.min(refusalsInRow - 1, 10));
}

export type ChunkCare = "normal" | "one-at-a-time" | "set-first-aside";

/** `barrenClaims`: claims in a row without a result, this one included. */
export function chunkCare(barrenClaims: number): ChunkCare {
  if (barrenClaims > BARREN_CLAIMS_MAX) return "set-first-aside";
  return barrenClaims > BARREN_CAREFUL ? "one-at-a-time" : "normal";
}
