/** Carries out the faults that only stages have, and the ways between nodes (chain-faults.ts says what each does). */
import type { PacketNetwork } from "../network/packet-network.ts";
import type { SimPeers } from "../network/sim-peers.ts";
import type { SimNode } from "../sim-node.ts";
import type { FaultEvent } from "./faults.ts";

export interface StageFaultsOptions {
  readonly network: PacketNetwork;
  readonly peers: SimPeers | null;
  readonly nodes: readonly SimNode[];
}

/** A stage that was a step behind is several now. */
const SLOW_FACTOR = 12;

export class StageFaults {
  readonly #options: StageFaultsOptions;

  constructor(options: StageFaultsOptions) {
    this.#options = options;
  }

  /** False: the event is none of these. */
  strike(event: FaultEvent): boolean {
    const { nodes, peers } = this.#options;
    const node = nodes[event.node ?? -1];
    switch (event.kind) {
      case "stage-slow":
        node?.slowStages(SLOW_FACTOR);
        return true;
      case "stage-nan":
        node?.spoilStages("nan");
        return true;
      case "stage-stall":
        node?.stallStages(true);
        return true;
      case "stage-cut":
        if (node !== undefined) peers?.cutLinks(node.name);
        return true;
      case "stage-partition":
      case "stage-apart":
        this.#part(event, true);
        return true;
      default:
        return false;
    }
  }

  repair(event: FaultEvent): boolean {
    const node = this.#options.nodes[event.node ?? -1];
    switch (event.kind) {
      case "stage-slow":
        node?.slowStages(1);
        return true;
      case "stage-nan":
        node?.spoilStages(null);
        return true;
      case "stage-stall":
        node?.stallStages(false);
        return true;
      case "stage-cut":
        return true;
      case "stage-partition":
      case "stage-apart":
        this.#part(event, false);
        return true;
      default:
        return false;
    }
  }

  repairAll(): void {
    const { nodes, peers } = this.#options;
    peers?.joinAll();
    for (const node of nodes) {
      node.slowStages(1);
      node.spoilStages(null);
      node.stallStages(false);
    }
  }

  #part({ kind, node, other }: FaultEvent, isOn: boolean): void {
    const { nodes, network, peers } = this.#options;
    const [one, two] = [nodes[node ?? -1]?.name, nodes[other ?? -1]?.name];
    if (one === undefined || two === undefined || one === two) return;
    for (const [from, to] of [
      [one, two],
      [two, one],
    ] as const) {
      if (isOn) network.cut(from, to);
      else network.heal(from, to);
      if (kind === "stage-apart") peers?.part(from, to, isOn);
    }
  }
}
