/**
 * Which shares of layers to bring to which disks ahead of need: those of the chains that the placement plan names for models that no node
 * can hold. A chain serves only when all its shares are there, so a share is worth
 *
 *   chance that the model is asked for * chance that all nodes of the chain stay * seconds of the share's fetch * value of a second
 *
 * and it costs its bytes, as a copy of a whole model does (staging-plan.ts). Not handled: chains that have shares in common.
 */

import type { ModelId, NodeId, Sha256Hex } from "../../domain/ids.ts";
import type { LayerShare } from "../../domain/weights.ts";
import { STAY_CHANCE_MIN, STAY_FETCHES, type StagingNode, type StagingPrices } from "./staging-plan.ts";

export interface WantedShare {
  readonly modelId: ModelId;
  readonly weightsSha256: Sha256Hex;
  readonly share: LayerShare;
  /** That the node fetches for it. */
  readonly shareBytes: number;
  /** Its chunks are on the node's disk. */
  readonly isThere: boolean;
  readonly node: StagingNode;
  /** Of all nodes of the chain, for the horizon. */
  readonly chainStayChance: number;
  /** Requests for the model to expect within the horizon. */
  readonly expectedRequests: number;
}

export interface ShareQuestion {
  /** In the order of the plan. */
  readonly shares: readonly WantedShare[];
  readonly prices: StagingPrices;
  /** Transfers that may begin now. */
  readonly transfersFree: number;
}

/** Best first; at most one for a node, whose second share would only slow the first. */
export function planShares({ shares, prices, transfersFree }: ShareQuestion): readonly WantedShare[] {
  const worth = shares.flatMap((wanted) => {
    const gainMicroUsd = isPossible(wanted) ? gainOf(wanted, prices) : 0;
    return gainMicroUsd > 0 ? [{ wanted, gainMicroUsd }] : [];
  });
  worth.sort((a, b) => b.gainMicroUsd - a.gainMicroUsd || compare(keyOf(a.wanted), keyOf(b.wanted)));
  const orders: WantedShare[] = [];
  const taken = new Set<NodeId>();
  for (const { wanted } of worth) {
    if (orders.length >= transfersFree) break;
    if (taken.has(wanted.node.nodeId)) continue;
    taken.add(wanted.node.nodeId);
    orders.push(wanted);
  }
  return orders;
}

function isPossible({ isThere, node, weightsSha256, shareBytes }: WantedShare): boolean {
  if (isThere || node.cached.has(weightsSha256) || !node.isIdle) return false;
  const fetchMs = (shareBytes / node.fetchBytesPerSecond) * 1_000;
  return node.diskFreeBytes >= shareBytes && node.stayChance(STAY_FETCHES * fetchMs) > STAY_CHANCE_MIN;
}

function gainOf({ shareBytes, node, chainStayChance, expectedRequests }: WantedShare, prices: StagingPrices): number {
  const askedFor = 1 - Math.exp(-expectedRequests);
  const seconds = shareBytes / node.fetchBytesPerSecond;
  return (
    askedFor * chainStayChance * seconds * prices.microUsdPerColdSecond -
    (shareBytes / 1e9) * prices.microUsdPerGigabyte
  );
}

function keyOf({ modelId, node }: WantedShare): string {
  return `${modelId} ${node.nodeId}`;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
