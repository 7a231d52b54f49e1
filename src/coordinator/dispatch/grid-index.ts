/**
 * Keeps the matcher's index in step with the grid. Whatever happens to a node marks it; before the next decision each marked node is read
 * once, so that a crowd of events costs one look, and their order does not matter. Leases are written at once.
 *
 * Round trips and the chance to stay change without an event: some nodes are read anew, in turn, before every decision.
 *
 * The index keeps every name (region, owner, network, GPU) that it ever met, and nodes name themselves: one that comes back under ever new
 * names would make each decision dearer for good. So the index is made anew when its names have doubled since it was made.
 */
import { usableBytes } from "../../domain/hardware.ts";
import type { NodeId, ReplicaId } from "../../domain/ids.ts";
import { MatchIndex } from "../../scheduler/matching/match-index.ts";
import type { NodeAvailability, NodeTraits } from "../../scheduler/matching/node-table.ts";
import { isReplicaFact, type NodeFact, type ReplicaFact } from "../../scheduler/placement/snapshot.ts";
import type { Roster, RosterHandlers } from "../roster.ts";

export interface GridIndexPorts {
  readonly roster: Pick<Roster, "node">;
  readonly pool: {
    node(nodeId: NodeId): NodeFact | null;
    onNode(nodeId: NodeId): readonly ReplicaFact[];
  };
  /** The time for which a node's `stayChance` is told. */
  readonly horizonMs: number;
}

/** Nodes that are read in turn before a decision: at 100 decisions a second, 1,000 nodes are read every 5 s. */
const NODES_IN_TURN = 2;
const MS_PER_HOUR = 3_600_000;
/** Names beside twice those at the start of an index, and regions among them: few enough that a decision does not feel them. */
const SPARE_NAMES = 1_024;
const SPARE_REGIONS = 128;

export class GridIndex {
  #index = new MatchIndex();
  /** More, and the index is made anew. */
  #bounds = { names: SPARE_NAMES, regions: SPARE_REGIONS };
  readonly #ports: GridIndexPorts;
  readonly #marked = new Set<NodeId>();
  /** Nodes that are in the index and were not read in this turn. */
  #inTurn: NodeId[] = [];

  constructor(ports: GridIndexPorts) {
    this.#ports = ports;
  }

  /** Hears what these handlers hear, before them. */
  hearing(handlers: RosterHandlers): RosterHandlers {
    const marking =
      <Rest extends readonly unknown[]>(hear: (nodeId: NodeId, ...rest: Rest) => void) =>
      (nodeId: NodeId, ...rest: Rest): void => {
        this.mark(nodeId);
        hear(nodeId, ...rest);
      };
    return {
      ...handlers,
      onOnline: marking(handlers.onOnline),
      onSuspect: marking(handlers.onSuspect),
      onWithdrawn: marking(handlers.onWithdrawn),
      onGone: marking(handlers.onGone),
      onReplicas: marking(handlers.onReplicas),
      onWork: (nodeId, message) => {
        if (message.type === "replica.state") this.mark(nodeId);
        handlers.onWork(nodeId, message);
      },
    };
  }

  mark(nodeId: NodeId): void {
    this.#marked.add(nodeId);
  }

  leased(replicaId: ReplicaId, slotsLeased: number): void {
    this.#index.setLeased(replicaId, slotsLeased);
  }

  /** Call it before decisions of one turn. */
  catchUp(): MatchIndex {
    this.#readMarked();
    for (let count = 0; count < NODES_IN_TURN; count++) this.#readNext();
    const { nodes } = this.#index;
    if (nameCount(nodes) > this.#bounds.names || nodes.regions.size > this.#bounds.regions) this.#makeAnew();
    return this.#index;
  }

  #readMarked(): void {
    for (const nodeId of this.#marked) this.#read(nodeId);
    this.#marked.clear();
  }

  #makeAnew(): void {
    for (const [nodeId] of this.#index.nodes.ids.entries()) this.#marked.add(nodeId);
    this.#index = new MatchIndex();
    this.#readMarked();
    const { nodes } = this.#index;
    this.#bounds = { names: 2 * nameCount(nodes) + SPARE_NAMES, regions: 2 * nodes.regions.size + SPARE_REGIONS };
  }

  #readNext(): void {
    const nodeId = this.#inTurn.pop();
    if (nodeId !== undefined) this.#read(nodeId);
    else this.#inTurn = [...this.#index.nodes.ids.entries()].map(([id]) => id);
  }

  #read(nodeId: NodeId): void {
    const { pool, roster, horizonMs } = this.#ports;
    const fact = pool.node(nodeId);
    const replicas = fact === null ? [] : pool.onNode(nodeId);
    if (fact === null || (fact.state === "offline" && replicas.length === 0)) {
      this.#index.removeNode(nodeId);
      return;
    }
    const rttMs = roster.node(nodeId)?.rttMs ?? null;
    this.#index.upsertNode(nodeTraits(fact, { replicas, rttMs, horizonMs }));
    // Stages take memory, and only what stands for a chain takes work.
    const whole = replicas.filter(isReplicaFact);
    const present = new Set(whole.map(({ replicaId }) => replicaId));
    for (const replicaId of this.#known(nodeId)) if (!present.has(replicaId)) this.#index.removeReplica(replicaId);
    for (const replica of whole) {
      const { replicaId, modelId, state, slots, slotsLeased, contextTokens } = replica;
      const isReady = state === "ready";
      const layersCached = isReady ? 1 : 0;
      this.#index.upsertReplica({
        replicaId,
        nodeId,
        modelId,
        isReady,
        slots,
        slotsLeased,
        contextTokens,
        layersCached,
      });
    }
  }

  #known(nodeId: NodeId): readonly ReplicaId[] {
    const { nodes, replicas } = this.#index;
    const known: ReplicaId[] = [];
    const node = nodes.find(nodeId);
    for (let at = replicas.firstOnNode(node); at !== -1; at = replicas.nextOnNode(at)) {
      known.push(replicas.ids.key(at));
    }
    return known;
  }
}

/** All that any node ever had. */
function nameCount({ regions, gpuClasses, owners, networks }: MatchIndex["nodes"]): number {
  return regions.size + gpuClasses.size + owners.size + networks.size;
}

function nodeTraits(
  fact: NodeFact,
  more: { replicas: readonly ReplicaFact[]; rttMs: number | null; horizonMs: number },
): NodeTraits {
  const room = roomiestDevice(fact, more.replicas);
  const { stayChance } = fact;
  return {
    nodeId: fact.nodeId,
    availability: availabilityOf(fact),
    region: fact.region ?? null,
    owner: fact.owner ?? null,
    network: fact.network ?? null,
    gpuClass: fact.devices.find(({ kind }) => kind === "gpu")?.name ?? null,
    vramUsableBytes: room.usableBytes,
    vramFreeBytes: room.freeBytes,
    trust: fact.trust ?? null,
    priceMicroUsdPerHour: fact.priceMicroUsdPerHour ?? null,
    rttMs: more.rttMs,
    decodeTokPerSecond: fact.decodeTokPerSecond,
    stayChancePerHour: stayChance === undefined ? null : stayChance ** (MS_PER_HOUR / more.horizonMs),
    gramsCo2PerHour: fact.gramsCo2PerHour ?? null,
  };
}

function availabilityOf(fact: NodeFact): NodeAvailability {
  if (fact.state !== "online") return fact.state;
  return fact.isYielding ? "yielding" : "takes-work";
}

/** The device with the most free bytes once the planned replicas have theirs. */
function roomiestDevice(fact: NodeFact, replicas: readonly ReplicaFact[]): { usableBytes: number; freeBytes: number } {
  let best = { usableBytes: 0, freeBytes: 0 };
  for (const device of fact.devices) {
    const usable = usableBytes(device);
    let freeBytes = usable;
    for (const replica of replicas) {
      if (replica.deviceId === device.deviceId && replica.state !== "failed" && replica.state !== "gone") {
        freeBytes -= replica.memoryBytes;
      }
    }
    if (freeBytes > best.freeBytes) best = { usableBytes: usable, freeBytes };
  }
  return best;
}
