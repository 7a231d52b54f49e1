/** The holders that a node is told of: who may be named to it, in which order, with what they have of what it needs. */
import { ChunkSet } from "../../domain/chunk-set.ts";
import type { NodeId } from "../../domain/ids.ts";
import type { PeerEndpoints } from "../../domain/peer.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Log } from "../../ports/log.ts";
import { type CoordinatorMessage, WIRE_BOUNDS } from "../../wire/agent-link.ts";
import type { NodeView, Roster } from "../roster.ts";
import type { GrantBook } from "./grants.ts";
import type { PeerReports } from "./peer-reports.ts";
import { rankHolders } from "./rank-holders.ts";
import type { Holding, Swarm } from "./swarm.ts";

export interface NamingPorts {
  readonly clock: Clock;
  readonly log: Log;
  readonly roster: Roster;
  readonly grants: GrantBook;
  readonly reports: PeerReports;
  endpointsOf(nodeId: NodeId): PeerEndpoints | null;
  /** A node waits for weights that are being fetched. */
  isSomebodyWaiting(): boolean;
  /** Measured or estimated between two nodes; null when nobody knows. */
  rttMs?(from: NodeId, to: NodeId): number | null;
}

export interface EligibleHolder {
  readonly nodeId: NodeId;
  readonly holding: Holding;
  readonly view: NodeView;
  readonly endpoints: PeerEndpoints;
}

/** Holders looked at for one answer: of a swarm of thousands, any few hundred do. */
const LOOKED_AT_MAX = 256;
/** Of one holder: a list with more gaps is told from its start, and the rest when that has come. */
const RUNS_PER_HOLDER_MAX = 512;
/** Ahead of need, while somebody waits for other weights, only holders are named that have this share of their uploads to spare. */
const IDLE_BUSY_SHARE_MAX = 0.5;
/** Without a measurement: nodes of one network, of one region, and any two. */
const SAME_NETWORK_RTT_MS = 1;
const SAME_REGION_RTT_MS = 40;
const FAR_RTT_MS = 150;

/** Holders that can be named to the node now, in no order. */
export function* eligibleHolders(
  asker: NodeId,
  swarm: Swarm,
  ports: NamingPorts,
  passOver: ReadonlySet<string> = new Set(),
): Iterable<EligibleHolder> {
  if (ports.endpointsOf(asker) === null) return;
  const nowMs = ports.clock.monoMs();
  const want = swarm.wants.get(asker);
  const unreachable = want?.unreachable;
  const busyShareMax = want?.isIdle === true && ports.isSomebodyWaiting() ? IDLE_BUSY_SHARE_MAX : 1;
  const network = ports.roster.node(asker)?.network ?? null;
  for (const [nodeId, holding] of swarm.holdersNear(asker, network, LOOKED_AT_MAX)) {
    if (holding.uploadsMax === 0 || holding.have.size === 0 || passOver.has(nodeId)) continue;
    if (busyShareMax < 1 && holding.uploads > busyShareMax * holding.uploadsMax) continue;
    if ((unreachable?.get(nodeId) ?? Number.NEGATIVE_INFINITY) > nowMs) continue;
    if (ports.reports.isQuarantined(nodeId, nowMs) || ports.reports.isShunned(asker, nodeId, nowMs)) continue;
    const view = ports.roster.node(nodeId);
    const endpoints = ports.endpointsOf(nodeId);
    if (view === null || endpoints === null || view.state !== "online" || view.isYielding) continue;
    yield { nodeId, holding, view, endpoints };
  }
}

/** Counts a grant as given: send it. `dueAtMs`: when a grant in it has to be followed by the next. */
export function holdersMessage(
  asker: NodeId,
  swarm: Swarm,
  ports: NamingPorts,
): { readonly message: Extract<CoordinatorMessage, { type: "weights.holders" }>; readonly dueAtMs: number } {
  const { weightsSha256 } = swarm;
  const need = swarm.needOf(asker) ?? new ChunkSet(swarm.chunkCount);
  const askedAtMs = swarm.wants.get(asker)?.askedAtMs ?? 0;
  const fetcher = ports.roster.node(asker);
  const found = new Map<NodeId, EligibleHolder>();
  for (const holder of fetcher === null ? [] : eligibleHolders(asker, swarm, ports)) found.set(holder.nodeId, holder);
  const candidates = [...found.values()].flatMap(({ nodeId, holding, view }) => {
    const useful = holding.have.countCommon(need);
    const rttMs = ports.rttMs?.(asker, nodeId) ?? guessedRttMs(fetcher, view);
    return useful === 0 ? [] : [{ nodeId, rttMs, uploads: holding.uploads, uploadsMax: holding.uploadsMax, useful }];
  });
  const named = rankHolders(asker, need.size, candidates).slice(0, WIRE_BOUNDS.holdersMax);
  let dueAtMs = Number.POSITIVE_INFINITY;
  const holders = named.flatMap(({ nodeId }) => {
    const holder = found.get(nodeId);
    if (holder === undefined || fetcher === null) return [];
    const grant = ports.grants.grant({ weightsSha256, fetcher, holder: holder.view }, askedAtMs);
    dueAtMs = Math.min(dueAtMs, ports.grants.dueAtMs(asker, nodeId, weightsSha256, askedAtMs));
    const { publicKeyHex: publicKey } = holder.view;
    return [{ nodeId, publicKey, endpoints: wireEndpoints(holder.endpoints), runs: commonRuns(need, holder), grant }];
  });
  return { message: { type: "weights.holders", weightsSha256, holders }, dueAtMs };
}

function commonRuns(need: ChunkSet, { holding }: EligibleHolder): [number, number][] {
  const runs: [number, number][] = [];
  for (const chunk of need) {
    if (!holding.have.has(chunk)) continue;
    const last = runs.at(-1);
    if (last !== undefined && last[0] + last[1] === chunk) last[1] += 1;
    else if (runs.length === RUNS_PER_HOLDER_MAX) break;
    else runs.push([chunk, 1]);
  }
  return runs;
}

function wireEndpoints({ tcp, hasUdp }: PeerEndpoints): { tcp: { host: string; port: number }[]; hasUdp: boolean } {
  return { tcp: tcp.map(({ host, port }) => ({ host, port })), hasUdp };
}

function guessedRttMs(a: NodeView | null, b: NodeView): number {
  const isSame = (x: string | null | undefined, y: string | null | undefined) =>
    x !== undefined && x !== null && x === y;
  if (isSame(a?.network, b.network)) return SAME_NETWORK_RTT_MS;
  if (isSame(a?.region, b.region)) return SAME_REGION_RTT_MS;
  return FAR_RTT_MS;
}
