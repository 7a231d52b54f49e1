/** The words that tell a chain's stages who is in it from now on. */
import type { NodeId, ReplicaId } from "../../domain/ids.ts";
import type { ChainSet } from "../../wire/chain-link.ts";
import type { EndpointBook } from "../peering/endpoint-book.ts";
import type { NodeView, Roster } from "../roster.ts";
import { namedAddresses } from "../weights/named-addresses.ts";
import type { Chain, ChainMove } from "./chain.ts";
import type { ChainTimes } from "./chain-times.ts";

export interface ChainSetPorts {
  readonly roster: Pick<Roster, "node">;
  readonly endpoints: Pick<EndpointBook, "of">;
  stageNode(replicaId: ReplicaId): NodeId | null;
}

export interface ChainSetFor {
  readonly nodeId: NodeId;
  readonly message: ChainSet;
}

/** One for each stage, in their order. Empty when one of them is unknown: the chain is looked at again. */
export function chainSets(chain: Chain, ports: ChainSetPorts): readonly ChainSetFor[] {
  const holders = chain.places.map(({ holder }) => holder);
  return chain.places.flatMap((_, at) => chainSet(chain, { at, holders, epoch: chain.epoch }, ports) ?? []);
}

/** The first stage's word again, with the times of all; null when there are none, or one of the stages is unknown. */
export function timesSet(chain: Chain, times: ChainTimes | null, ports: ChainSetPorts): ChainSetFor | null {
  const holders = chain.places.map(({ holder }) => holder);
  const first = times === null ? null : chainSet(chain, { at: 0, holders, epoch: chain.epoch }, ports);
  return first === null || times === null ? null : { ...first, message: { ...first.message, times } };
}

/**
 * The two words with which a planned move begins, in their order: the stage that leaves hears, in its own epoch, who may fetch what it holds; its
 * successor hears of the next epoch alone, and takes over. Empty when one of them is unknown.
 */
export function moveSets(chain: Chain, move: ChainMove, ports: ChainSetPorts): readonly ChainSetFor[] {
  const at = chain.places.indexOf(move.place);
  const holders = chain.places.map(({ holder }) => holder);
  const [leaving, coming] = [seatOf(move.place.holder, ports), seatOf(move.to, ports)];
  const told = chainSet(chain, { at, holders, epoch: chain.epoch }, ports);
  const next = chainSet(chain, { at, holders: holders.with(at, move.to), epoch: move.epoch }, ports);
  if (leaving === null || coming === null || told === null || next === null) return [];
  const takeOver = reached(leaving, coming.view.network ?? null, ports);
  return [
    { nodeId: told.nodeId, message: { ...told.message, handOver: { publicKey: coming.view.publicKeyHex } } },
    { nodeId: next.nodeId, message: { ...next.message, takeOver } },
  ];
}

function chainSet(
  { chainId, places }: Chain,
  of: { readonly at: number; readonly holders: readonly (ReplicaId | null)[]; readonly epoch: number },
  ports: ChainSetPorts,
): ChainSetFor | null {
  const seats = of.holders.map((holder) => seatOf(holder, ports));
  const seat = seats[of.at] ?? null;
  if (seat === null) return null;
  const network = seat.view.network ?? null;
  const stages = places.flatMap(({ first, count }, at) => {
    const other = seats[at] ?? null;
    return other === null ? [] : [{ ...reached(other, network, ports), first, count }];
  });
  if (stages.length < places.length) return null;
  const { replicaId } = seat;
  return { nodeId: seat.view.nodeId, message: { type: "chain.set", replicaId, chainId, chainEpoch: of.epoch, stages } };
}

interface Seat {
  readonly replicaId: ReplicaId;
  readonly view: NodeView;
}

function seatOf(replicaId: ReplicaId | null, { roster, stageNode }: ChainSetPorts): Seat | null {
  const nodeId = replicaId === null ? null : stageNode(replicaId);
  const view = nodeId === null ? null : roster.node(nodeId);
  return replicaId === null || view === null ? null : { replicaId, view };
}

/** `network`: where the node comes from that is told. */
function reached({ replicaId, view }: Seat, network: string | null, { endpoints }: ChainSetPorts) {
  const told = endpoints.of(view.nodeId);
  const tcp = told === null ? [] : namedAddresses(told.tcp, network);
  const { nodeId, publicKeyHex: publicKey } = view;
  return { replicaId, nodeId, publicKey, endpoints: { tcp, hasUdp: told?.hasUdp ?? false } };
}
