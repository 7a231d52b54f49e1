/**
 * Whether a better plan is worth moving to. Moving costs the time in which nodes load layers instead of serving, and it costs it for
 * certain, while the gain is an estimate: so the gain must be worth a twentieth, and over the horizon more than the loading.
 */
import type { Cluster, Layout } from "../../domain/cluster.ts";

/** Least gain in score, as a share of the old one's size. */
export const GAIN_SHARE_MIN = 0.05;
const SECONDS_PER_HOUR = 3600;

export interface PlanInForce {
  readonly layout: Layout;
  /** By the same goals as the other plan's, on the cluster as it is now; -Infinity when it serves nothing any more. */
  readonly score: number;
  readonly decodeTokensPerSecond: number;
}

export interface PlanVerdict {
  readonly isAccepted: boolean;
  readonly gainShare: number;
  readonly movedBytes: number;
  /** Generated tokens that are not served while nodes load. */
  readonly lostTokens: number;
  readonly reason: string;
}

export function acceptPlan(
  plans: { old: PlanInForce; new: PlanInForce },
  more: { cluster: Cluster; horizonHours: number },
): PlanVerdict {
  const { old } = plans;
  const moved = movedLayers(old.layout, plans.new.layout);
  const movedBytes = moved.reduce((sum, { layers }) => sum + layers, 0) * more.cluster.model.layerBytes;
  if (old.score === Number.NEGATIVE_INFINITY || old.decodeTokensPerSecond <= 0) {
    return { isAccepted: true, gainShare: 1, movedBytes, lostTokens: 0, reason: "the plan in force serves nothing" };
  }
  const gainShare = (plans.new.score - old.score) / Math.max(Number.EPSILON, Math.abs(old.score));
  const lostTokens = old.decodeTokensPerSecond * loadingSeconds(more.cluster, moved, old.layout);
  const gainedTokens =
    (plans.new.decodeTokensPerSecond - old.decodeTokensPerSecond) * more.horizonHours * SECONDS_PER_HOUR;
  const verdict = { gainShare, movedBytes, lostTokens };
  if (gainShare <= GAIN_SHARE_MIN) {
    const reason = `gains ${percent(gainShare)}, more than ${percent(GAIN_SHARE_MIN)} needed`;
    return { ...verdict, isAccepted: false, reason };
  }
  // A plan may be better for other reasons than tokens (price, survival); then only the share counts.
  if (gainedTokens > 0 && gainedTokens <= lostTokens) {
    const reason = `gains ${gainedTokens.toFixed(0)} tokens in ${more.horizonHours} h and loses ${lostTokens.toFixed(0)} while loading`;
    return { ...verdict, isAccepted: false, reason };
  }
  return { ...verdict, isAccepted: true, reason: `gains ${percent(gainShare)}` };
}

export interface MovedLayers {
  readonly node: string;
  /** Layers that it must load: those it holds in the new layout and not in the old one. */
  readonly layers: number;
}

/** In the new layout's order; only nodes that load something. */
export function movedLayers(old: Layout, next: Layout): readonly MovedLayers[] {
  return [...next].flatMap(([node, { first, end }]) => {
    const before = old.get(node) ?? { first: 0, end: 0 };
    const kept = Math.max(0, Math.min(end, before.end) - Math.max(first, before.first));
    return end - first > kept ? [{ node, layers: end - first - kept }] : [];
  });
}

/** Seconds of the whole layout's service that the loading costs: nodes load at once, each is missed by its share of the nodes. */
function loadingSeconds(cluster: Cluster, moved: readonly MovedLayers[], old: Layout): number {
  const byId = new Map(cluster.nodes.map((node) => [node.id, node]));
  const fastest = new Map<string, number>();
  for (const { to, bytesPerSecond } of cluster.links) fastest.set(to, Math.max(fastest.get(to) ?? 0, bytesPerSecond));
  let seconds = 0;
  for (const { node, layers } of moved) {
    const nic = byId.get(node)?.machine.nicInBytesPerSecond ?? 0;
    const rate = Math.max(1, Math.min(nic, fastest.get(node) ?? nic));
    // A node that held nothing is not missed while it loads.
    if (old.has(node)) seconds += (layers * cluster.model.layerBytes) / rate;
  }
  return seconds / Math.max(1, old.size);
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}
