/** The holders that a node is told of: who may be named to it, in which order, with what they have of what it needs. */
import type { ChunkSet } from "../../domain/chunk-set.ts";
import type { NodeId } from "../../domain/ids.ts";
import type { PeerEndpoints } from "../../domain/peer.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Log } from "../../ports/log.ts";
import { rankHolders } from "../../scheduler/distribution/rank-holders.ts";
import type { LinkEstimate } from "../../scheduler/network/link-table.ts";
import type { CoordinatorMessage } from "../../wire/agent-link.ts";
import type { Roster } from "../roster.ts";
import type { GrantBook } from "./grants.ts";
import { namedAddresses } from "./named-addresses.ts";
import type { PeerReports } from "./peer-reports.ts";
import type { Swarm } from "./swarm.ts";

export interface NamingPorts {
  readonly clock: Clock;
  readonly log: Log;
  readonly roster: Roster;
  readonly grants: GrantBook;
  readonly reports: PeerReports;
  endpointsOf(nodeId: NodeId): PeerEndpoints | null;
  /** A node waits for weights that are being fetched. */
  isSomebodyWaiting(): boolean;
  /** From one node to the other, measured or estimated. */
  link?(from: NodeId, to: NodeId): LinkEstimate;
}

/** Holders looked at for one answer: of a swarm of thousands, any few hundred do. */
const LOOKED_AT_MAX = 256;
/** Of one holder: a list with more gaps is told from its start, and the rest when that has come. */
const RUNS_PER_HOLDER_MAX = 512;
/** Ahead of need, while somebody waits for other weights, only holders are named that have this share of their uploads to spare. */
const IDLE_BUSY_SHARE_MAX = 0.5;
/** The holder may be named to somebody: it serves, and nothing is held against it. */
export function isNameable(holder: NodeId, ports: NamingPorts): boolean {
  if (ports.endpointsOf(holder) === null || ports.reports.isQuarantined(holder, ports.clock.monoMs())) return false;
  const view = ports.roster.node(holder);
  return view !== null && view.state === "online" && !view.isYielding;
}

/**
 * Nothing stands between these two; whether the holder serves at all is another question. A relayed way goes through the coordinator twice, so
 * the source serves such a pair sooner and with less.
 */
export function isNameableTo(asker: NodeId, holder: NodeId, swarm: Swarm, ports: NamingPorts): boolean {
  const nowMs = ports.clock.monoMs();
  if (ports.link?.(holder, asker).isRelayed === true) return false;
  if (ports.endpointsOf(asker) === null || ports.reports.isShunned(asker, holder, nowMs)) return false;
  return (swarm.wants.get(asker)?.unreachable.get(holder) ?? Number.NEGATIVE_INFINITY) <= nowMs;
}

/** Counts a grant as given: send it. `dueAtMs`: when a grant in it has to be followed by the next. */
export function holdersMessage(
  asker: NodeId,
  swarm: Swarm,
  ports: NamingPorts,
): { readonly message: Extract<CoordinatorMessage, { type: "weights.holders" }>; readonly dueAtMs: number } {
  const { weightsSha256 } = swarm;
  const want = swarm.wants.get(asker);
  const fetcher = ports.roster.node(asker);
  let dueAtMs = Number.POSITIVE_INFINITY;
  if (want === undefined || fetcher === null) {
    return { message: { type: "weights.holders", weightsSha256, holders: [] }, dueAtMs };
  }
  const need = swarm.needOf(asker) ?? want.need;
  const network = fetcher.network ?? null;
  const question = { nodeId: asker, network, need, isIdle: want.isIdle };
  const isSomebodyWaiting = want.isIdle && ports.isSomebodyWaiting();
  const candidates = [...swarm.holdersNear(asker, network, LOOKED_AT_MAX)].flatMap(([nodeId, holding]) => {
    if (!isNameable(nodeId, ports) || !isNameableTo(asker, nodeId, swarm, ports)) return [];
    const { have: chunks, uploads, uploadsMax } = holding;
    // Its own uploads count too, so a free half is left for those who wait.
    const isWaitedFor = isSomebodyWaiting && uploads > IDLE_BUSY_SHARE_MAX * uploadsMax;
    const link = ports.link?.(nodeId, asker) ?? null;
    return [{ nodeId, chunks, network: holding.network, link, uploads, uploadsMax, isWaitedFor }];
  });
  const holders = rankHolders(question, candidates).flatMap((nodeId) => {
    const [view, endpoints, holding] = [
      ports.roster.node(nodeId),
      ports.endpointsOf(nodeId),
      swarm.holdings.get(nodeId),
    ];
    if (view === null || endpoints === null || holding === undefined) return [];
    const grant = ports.grants.grant({ weightsSha256, fetcher, holder: view }, want.askedAtMs);
    dueAtMs = Math.min(dueAtMs, ports.grants.dueAtMs(asker, nodeId, weightsSha256, want.askedAtMs));
    const { publicKeyHex: publicKey } = view;
    const reached = { tcp: namedAddresses(endpoints.tcp, network), hasUdp: endpoints.hasUdp };
    return [{ nodeId, publicKey, endpoints: reached, runs: commonRuns(need, holding.have), grant }];
  });
  return { message: { type: "weights.holders", weightsSha256, holders }, dueAtMs };
}

function commonRuns(need: ChunkSet, have: ChunkSet): [number, number][] {
  const runs: [number, number][] = [];
  for (const chunk of need) {
    if (!have.has(chunk)) continue;
    const last = runs.at(-1);
    if (last !== undefined && last[0] + last[1] === chunk) last[1] += 1;
    else if (runs.length === RUNS_PER_HOLDER_MAX) break;
    else runs.push([chunk, 1]);
  }
  return runs;
}
