/**
 * What nodes really did, so that plans need not believe data sheets: from each settled attempt the time that one token of a lone
 * sequence took, as a mean over the last ones of each node, device and file.
 *
 * An attempt ran beside others, so its time is divided by what a step with so many sequences takes longer, and by the models that
 * worked on the device. Two readings are taken and the slower one counts:
 *   decode   from the first tokens to the last, per token after the first ones
 *   whole    from the lease to the last token, prompt included, less the round trip
 * The first is the truth of an honest node, whatever part of the prompt it had in its cache. The second is there for a node that holds
 * its tokens back and sends them in one burst: it gains nothing, the time before the burst counts.
 *
 * Not handled: tokens that a checker finds to be garbage later. What they gain is bounded where it is used (speed-model.ts).
 */
import type { NodeId, Sha256Hex } from "../../domain/ids.ts";
import { type Observation, promptTokenShare, stepFactor } from "./speed-model.ts";

/** One attempt's tokens in time, by the coordinator's clock. */
export interface Effort {
  readonly startedAtMs: number;
  readonly firstAtMs: number | null;
  readonly lastAtMs: number;
  /** Acknowledged; those that came with the first chunk. */
  readonly tokens: number;
  readonly firstTokens: number;
  /** Live leases on the replica, summed over the tokens. */
  readonly sequenceTokens: number;
}

export interface EffortTerms {
  readonly isGpu: boolean;
  readonly promptTokens: number;
  /** Replicas of the device that have leases, this one included. */
  readonly busyReplicas: number;
  /** As the node says; null: not known. */
  readonly rttMs: number | null;
}

export interface ObservedSpeed extends Observation {
  readonly deviceId: string;
  readonly weightsSha256: Sha256Hex;
}

/** Fewer tokens say more of the link and of clocks than of the device. */
export const EFFORT_TOKENS_MIN = 16;
/** What a node calls its round trip is subtracted up to here. */
const RTT_SUBTRACTED_MS_MAX = 500;
/** Weight of the newest attempt, once there are as many. */
const MEAN_ATTEMPTS = 16;
/** Confidence grows no more: a device whose owner starts something else is seen to be slow within some attempts. */
const COUNT_MAX = 64;
/** Nodes and files of each that are remembered, the last ones: 4,096 nodes with 32 files each are some tens of megabytes at most. */
export const NODES_MAX = 4_096;
export const FILES_PER_NODE_MAX = 32;

export function startEffort(nowMs: number): Effort {
  return { startedAtMs: nowMs, firstAtMs: null, lastAtMs: nowMs, tokens: 0, firstTokens: 0, sequenceTokens: 0 };
}

/** `leased`: live leases on the replica as the tokens came. */
export function withTokens(
  effort: Effort,
  chunk: { readonly nowMs: number; readonly tokens: number; readonly leased: number },
): Effort {
  const isFirst = effort.firstAtMs === null;
  return {
    startedAtMs: effort.startedAtMs,
    firstAtMs: effort.firstAtMs ?? chunk.nowMs,
    lastAtMs: chunk.nowMs,
    tokens: effort.tokens + chunk.tokens,
    firstTokens: isFirst ? chunk.tokens : effort.firstTokens,
    sequenceTokens: effort.sequenceTokens + chunk.tokens * Math.max(1, chunk.leased),
  };
}

/** Seconds of one token of a lone sequence; null when the attempt was too short to tell. */
export function loneTokenSeconds(effort: Effort, terms: EffortTerms): number | null {
  const { startedAtMs, firstAtMs, lastAtMs, tokens, firstTokens } = effort;
  if (firstAtMs === null || tokens < EFFORT_TOKENS_MIN) return null;
  const factor = stepFactor(terms.isGpu, effort.sequenceTokens / tokens);
  const later = tokens - firstTokens;
  const decode = later === 0 ? 0 : (lastAtMs - firstAtMs) / (later * factor);
  const rttMs = Math.min(RTT_SUBTRACTED_MS_MAX, terms.rttMs ?? 0);
  const wholeMs = Math.max(0, lastAtMs - startedAtMs - rttMs);
  const whole = wholeMs / (terms.promptTokens * promptTokenShare(terms.isGpu) + tokens * factor);
  const ms = Math.max(decode, whole) / Math.max(1, terms.busyReplicas);
  return ms > 0 ? ms / 1_000 : null;
}

/** The node that was seen longest ago is forgotten first, and of a node its file. */
export class ObservedSpeeds {
  readonly #nodes = new Map<NodeId, Map<string, ObservedSpeed>>();

  record(
    seen: { readonly nodeId: NodeId; readonly tokenSeconds: number } & Pick<
      ObservedSpeed,
      "deviceId" | "weightsSha256"
    >,
  ): void {
    const { nodeId, deviceId, weightsSha256, tokenSeconds } = seen;
    const files = this.#nodes.get(nodeId) ?? new Map<string, ObservedSpeed>();
    this.#nodes.delete(nodeId);
    this.#nodes.set(nodeId, files);
    dropFirst(this.#nodes, NODES_MAX);
    const key = `${weightsSha256} ${deviceId}`;
    const before = files.get(key);
    const count = Math.min(COUNT_MAX, (before?.count ?? 0) + 1);
    const mean = before?.tokenSeconds ?? tokenSeconds;
    files.delete(key);
    files.set(key, {
      deviceId,
      weightsSha256,
      tokenSeconds: mean + (tokenSeconds - mean) / Math.min(count, MEAN_ATTEMPTS),
      count,
    });
    dropFirst(files, FILES_PER_NODE_MAX);
  }

  /** In the order in which they were seen last. */
  of(nodeId: NodeId): readonly ObservedSpeed[] {
    return [...(this.#nodes.get(nodeId)?.values() ?? [])];
  }
}

/** Maps keep the order of insertion. */
function dropFirst<Key>(map: Map<Key, unknown>, most: number): void {
  if (map.size <= most) return;
  for (const key of map.keys()) {
    map.delete(key);
    return;
  }
}
