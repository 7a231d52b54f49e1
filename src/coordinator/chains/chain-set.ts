/** The words that tell a chain's stages who is in it from now on. */
import type { NodeId, ReplicaId } from "../../domain/ids.ts";
import type { ChainSet } from "../../wire/chain-link.ts";
import type { EndpointBook } from "../peering/endpoint-book.ts";
import type { NodeView, Roster } from "../roster.ts";
import { namedAddresses } from "../weights/named-addresses.ts";
import type { Chain } from "./chain.ts";

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
  const { chainId, epoch: chainEpoch, places, retiring } = chain;
  const seats = places.map(({ holder, first, count }) => ({ seat: seatOf(holder, ports), first, count }));
  return seats.flatMap(({ seat }, at): ChainSetFor[] => {
    if (seat === null) return [];
    const network = seat.view.network ?? null;
    const stages = seats.flatMap(({ seat: other, first, count }) => {
      return other === null ? [] : [{ ...reached(other, network, ports), first, count }];
    });
    const left = retiring.find(({ place }) => place === at);
    const from = left === undefined ? null : seatOf(left.replicaId, ports);
    if (stages.length < places.length) return [];
    const { replicaId } = seat;
    const message: ChainSet = { type: "chain.set", replicaId, chainId, chainEpoch, stages };
    const takeOver = from === null ? {} : { takeOver: reached(from, network, ports) };
    return [{ nodeId: seat.view.nodeId, message: { ...message, ...takeOver } }];
  });
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
