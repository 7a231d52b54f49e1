/**
 * What becomes of a stream when its attempt ends badly. The stream moves (new lease, prompt + tokens so far, same seed) unless
 * the request itself is at fault or it has used up its chances.
 *
 * | trouble                                        | stream                        | this node for this choice                |
 * | ---------------------------------------------- | ----------------------------- | ---------------------------------------- |
 * | node gone, suspect or yielding                 | moves                         | as the roster says: may come back         |
 * | lease ran out, stalled, spoilt by a breach     | moves                         | avoided for the back-off                  |
 * | engine crashed, hung, out of memory            | moves, at most `ENGINE_DEATHS_MAX` times | avoided for the back-off       |
 * | replica not ready, engine closed or overloaded, or lacks an ability | moves    | avoided for the back-off                  |
 * | its chain broke, or has new stages             | moves, at most `CHAIN_CHANGES_MAX` times: goes on on the same chain | no node is at fault |
 * | grammar invalid, context exceeded, bad token, embeddings of a chain | moves; ends with `invalid-request` once said `REQUEST_FAULTS_MAX` times | avoided for the back-off |
 * | attempt's deadline passed on the node          | ends: `deadline-exceeded`     | -                                         |
 *
 * "Avoided" is not "forbidden": when no other node appears, the back-off ends and the same node is tried again.
 */
import type { AttemptEnding } from "../../domain/attempt.ts";
import type { Refusal } from "../../domain/refusal.ts";
import { backoffCeilingMs } from "../retries/backoff.ts";

export type Trouble =
  | {
      readonly kind: "node-gone" | "node-suspect" | "node-yielded" | "lease-expired" | "stalled";
      readonly detail: string;
    }
  | { readonly kind: "spoilt" | "chain-changed"; readonly detail: string }
  | { readonly kind: "failed"; readonly code: string; readonly message: string };

/** Retries of one choice: attempts that failed on a node that still lives. Moves off nodes and engines that died are no retries. */
export const RETRIES_MAX = 3;
/** Troubles of one choice of any kind; more means that moving does not help. */
export const TROUBLES_MAX = 8;
/** A request that kills engines is not carried from node to node until all of them are dead. */
export const ENGINE_DEATHS_MAX = 3;
/** Changes of chains under one choice. Each costs a second or so, and what the chain did wrong is counted where it is mended. */
export const CHAIN_CHANGES_MAX = 64;
/** Changes after which it goes on at once; then it waits 50, 100, 200 … ms first. */
const CHAIN_CHANGES_FREE = 2;
const CHAIN_FAILURE_PAUSE = { baseMs: 100, capMs: 10_000 };
const CHAIN_PAUSE = { baseMs: 50, capMs: 1_000 };
/**
 * The coordinator checked the request before it left, so one node's word against it is not enough: it may lie. A second
 * attempt, on another node where there is one, has to find the same.
 */
export const REQUEST_FAULTS_MAX = 2;
/** Avoided for 0.5 s, 1 s, 2 s … after the first, second, third trouble. */
export const AVOID_BASE_MS = 500;
export const AVOID_MAX_MS = 30_000;
/** Two heartbeats: by then the roster itself says that the owner is back. */
export const YIELD_NOTICE_MS = 2_000;

const ENGINE_DEATHS: ReadonlySet<string> = new Set(["engine-crashed", "engine-hung", "engine-out-of-memory"]);
const REQUEST_FAULTS: ReadonlySet<string> = new Set([
  "grammar-invalid",
  "context-exceeded",
  "token-out-of-vocabulary",
  "invalid-attempt",
  // A chain's stages give none (agent/stages/tail-desk.ts).
  "embeddings-unsupported",
]);

export interface TroubleCounts {
  /** This one included. */
  readonly troubles: number;
  readonly retries: number;
  readonly engineDeaths: number;
  readonly requestFaults: number;
  readonly chainChanges: number;
}

export type FailoverDecision =
  | { readonly kind: "move"; readonly ending: AttemptEnding; readonly avoidNodeMs: number }
  | { readonly kind: "give-up"; readonly ending: AttemptEnding; readonly reason: Refusal };

export function decideFailover(trouble: Trouble, counts: TroubleCounts): FailoverDecision {
  const ending = endingOf(trouble);
  if (trouble.kind === "failed" && isRequestFault(trouble) && counts.requestFaults >= REQUEST_FAULTS_MAX) {
    const message = `the engine refused the request: ${trouble.code}: ${trouble.message}`;
    return { kind: "give-up", ending, reason: { code: "invalid-request", message, param: null, retryAfterMs: null } };
  }
  if (trouble.kind === "failed" && trouble.code === "deadline-exceeded") {
    const message = `the node could not finish before the deadline: ${trouble.message}`;
    return { kind: "give-up", ending, reason: { code: "deadline-exceeded", message, param: null, retryAfterMs: null } };
  }
  if (trouble.kind === "chain-changed" && counts.chainChanges > CHAIN_CHANGES_MAX) {
    const message = `its chain changed ${counts.chainChanges} times; the last: ${trouble.detail}`;
    return { kind: "give-up", ending, reason: { code: "upstream-lost", message, param: null, retryAfterMs: null } };
  }
  if (counts.troubles > TROUBLES_MAX || counts.retries > RETRIES_MAX || counts.engineDeaths >= ENGINE_DEATHS_MAX) {
    const message = `${counts.troubles} attempts failed, ${counts.engineDeaths} of them with their engine; the last: ${describeTrouble(trouble)}`;
    return { kind: "give-up", ending, reason: { code: "upstream-lost", message, param: null, retryAfterMs: null } };
  }
  return { kind: "move", ending, avoidNodeMs: avoidMs(trouble, counts.troubles) };
}

export function isEngineDeath(trouble: Trouble): boolean {
  return trouble.kind === "failed" && ENGINE_DEATHS.has(trouble.code);
}

export function isRequestFault(trouble: Trouble): boolean {
  return trouble.kind === "failed" && REQUEST_FAULTS.has(trouble.code);
}

/** The node lives, its engine too, and the attempt went wrong all the same. */
export function isRetry(trouble: Trouble): boolean {
  switch (trouble.kind) {
    case "node-gone":
    case "node-suspect":
    case "node-yielded":
    case "chain-changed":
      return false;
    case "stalled":
    case "lease-expired":
    case "spoilt":
      return true;
    case "failed":
      return trouble.code !== "yield" && !isEngineDeath(trouble);
  }
}

/** An attempt on a chain failed because of the chain: what its stages name so (`chain-…`, `stage-…`). */
export function asChainTrouble(trouble: Trouble): Trouble {
  const isOfChain = trouble.kind === "failed" && /^(?:chain|stage)-/.test(trouble.code);
  return isOfChain ? { kind: "chain-changed", detail: describeTrouble(trouble) } : trouble;
}

/** How long a choice waits before it goes on on a chain that failed under it so often. */
export function chainPauseMs(chainChanges: number): number {
  const counted = chainChanges - CHAIN_CHANGES_FREE - 1;
  return counted < 0 ? 0 : backoffCeilingMs(counted, CHAIN_PAUSE);
}

/** The same after a failure that its last stage names without blaming the chain. */
export function chainFailurePauseMs(troubles: number): number {
  return backoffCeilingMs(Math.max(0, troubles - 1), CHAIN_FAILURE_PAUSE);
}

export function describeTrouble(trouble: Trouble): string {
  return trouble.kind === "failed" ? `${trouble.code}: ${trouble.message}` : `${trouble.kind}: ${trouble.detail}`;
}

function endingOf(trouble: Trouble): AttemptEnding {
  switch (trouble.kind) {
    case "node-gone":
    case "node-suspect":
      return "node-lost";
    case "node-yielded":
    case "stalled":
    case "chain-changed":
      return "moved";
    case "lease-expired":
      return "timed-out";
    case "spoilt":
      return "failed";
    case "failed":
      if (trouble.code === "yield") return "moved";
      return trouble.code === "deadline-exceeded" ? "timed-out" : "failed";
  }
}

function avoidMs(trouble: Trouble, troubles: number): number {
  switch (trouble.kind) {
    case "node-gone":
    case "node-suspect":
    case "node-yielded":
    case "chain-changed":
      return 0;
    case "lease-expired":
    case "stalled":
    case "spoilt":
      return backedOffMs(troubles);
    case "failed":
      return trouble.code === "yield" ? YIELD_NOTICE_MS : backedOffMs(troubles);
  }
}

function backedOffMs(troubles: number): number {
  return Math.min(AVOID_MAX_MS, AVOID_BASE_MS * 2 ** (troubles - 1));
}
