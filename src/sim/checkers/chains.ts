/**
 * Chains, seen from the orders: in every epoch the stages cover the layers, epochs only grow, and all stages of an epoch are told the same. Who stays in
 * a chain, and nothing happened to it, keeps the layers that it has, and no layer that was fetched is fetched again while the disk is there: so survivors download nothing. A lease
 * on a chain feeds its stream only while the chain has the epoch under which it was granted: streams.ts asks here.
 */
import type { ChainSet } from "../../wire/chain-link.ts";
import type { Checker, Observation, Report } from "../observation.ts";
import type { ChainBooks, ChainEpoch } from "./streams.ts";

interface KnownChain {
  readonly epoch: number;
  /** In which it is: a stage that takes over hears of its epoch before the others, which serve on in theirs. */
  readonly current: number;
  /** As told in this epoch: replicas with their nodes and layers, in order. */
  readonly members: string;
  /** Layers of each node. */
  readonly layers: ReadonlyMap<string, string>;
  /** When it was told, in observations. */
  readonly toldAt: number;
  /** Epochs so far. */
  readonly changes: number;
}

interface KnownStage {
  readonly node: string;
  readonly weightsSha256: string;
  readonly first: number;
  readonly count: number;
  readonly layerCount: number;
  chainId: string | null;
}

export class ChainChecker implements Checker, ChainBooks {
  readonly name = "chains";
  readonly #report: Report;
  readonly #chains = new Map<string, KnownChain>();
  /** By the replica's id. */
  readonly #stages = new Map<string, KnownStage>();
  /** Layers that a node's disk has, by node and weights. */
  readonly #disks = new Map<string, Set<number>>();
  /** Hosts by the ids of their nodes, and when something last happened to each that makes it no mere survivor. */
  readonly #hosts = new Map<string, string>();
  readonly #disturbedAt = new Map<string, number>();
  #observed = 0;
  #fetchedBytes = 0;

  constructor(options: { report: Report }) {
    this.#report = options.report;
  }

  observe(observation: Observation): void {
    this.#observed += 1;
    this.#disturb(observation);
    switch (observation.kind) {
      case "order": {
        const { message, node } = observation;
        if (message.type === "replica.load" && message.stage !== undefined) {
          const { first, count, layerCount } = message.stage;
          if (first + count > layerCount)
            this.#break(`${message.replicaId} on ${node} has layers beyond ${layerCount}`);
          const { weightsSha256 } = message;
          this.#stages.set(message.replicaId, { node, weightsSha256, first, count, layerCount, chainId: null });
        }
        if (message.type === "chain.set") this.#set(node, message);
        break;
      }
      case "fetched":
        this.#fetched(observation);
        break;
      case "disk-lost":
        for (const name of [...this.#disks.keys()])
          if (name.startsWith(`${observation.node} `)) this.#disks.delete(name);
        break;
    }
  }

  /** It died, stood still, lost its link or an engine, drains, or its owner came. */
  #disturb(observation: Observation): void {
    const at = this.#observed;
    switch (observation.kind) {
      case "node-known":
        this.#hosts.set(observation.nodeId, observation.node);
        break;
      case "host":
        this.#disturbedAt.set(observation.host, at);
        break;
      case "link-closed":
        this.#disturbedAt.set(observation.peer, at);
        break;
      case "owner":
        this.#disturbedAt.set(observation.node, at);
        break;
      case "engine":
        if (observation.change.to === "gone") this.#disturbedAt.set(observation.node, at);
        break;
      case "order":
        if (observation.message.type === "node.drain") this.#disturbedAt.set(observation.node, at);
        break;
      case "message":
        if (observation.message.type === "chain.trouble") this.#accused(observation.message.accused);
        break;
    }
  }

  #accused(replicaId: string): void {
    const node = this.#stages.get(replicaId)?.node;
    if (node !== undefined) this.#disturbedAt.set(node, this.#observed);
  }

  /** True for a stage that is not its model's last: it feeds no stream. */
  isInner(replicaId: string): boolean {
    const stage = this.#stages.get(replicaId);
    return stage !== undefined && stage.first + stage.count < stage.layerCount;
  }

  /** Names the chain and its epoch of this moment; null for a replica of no chain. */
  epochOf(replicaId: string): ChainEpoch | null {
    const chainId = this.#stages.get(replicaId)?.chainId ?? null;
    if (chainId === null) return null;
    return { chainId, epoch: this.#chains.get(chainId)?.current ?? 0 };
  }

  isCurrent({ chainId, epoch }: ChainEpoch): boolean {
    return this.#chains.get(chainId)?.current === epoch;
  }

  counts(): { readonly chains: number; readonly chainEpochs: number; readonly stageBytesFetched: number } {
    const chains = [...this.#chains.values()];
    return {
      chains: chains.length,
      chainEpochs: chains.reduce((sum, { changes }) => sum + changes, 0),
      stageBytesFetched: this.#fetchedBytes,
    };
  }

  #set(node: string, order: ChainSet): void {
    const { chainId, chainEpoch, stages } = order;
    const members = stages
      .map((stage) => `${stage.replicaId} ${stage.nodeId} ${stage.first}+${stage.count}`)
      .join(", ");
    const label = `chain ${chainId.slice(0, 8)} in epoch ${chainEpoch}`;
    if (!stages.some(({ replicaId }) => replicaId === order.replicaId)) {
      this.#break(`${node} was told of ${label}, of which its ${order.replicaId} is none`);
    }
    const chain = this.#chains.get(chainId) ?? {
      epoch: 0,
      current: 0,
      members: "",
      layers: new Map(),
      toldAt: 0,
      changes: 0,
    };
    // A successor hears of the next epoch alone, and the move may come to nothing.
    if (chainEpoch < chain.current) this.#break(`${node} was told of ${label}, it was in ${chain.current} before`);
    if (chainEpoch === chain.epoch && members !== chain.members) this.#break(`${label} is told in two ways`);
    const current = order.takeOver === undefined ? Math.max(chain.current, chainEpoch) : chain.current;
    if (chainEpoch <= chain.epoch) {
      this.#chains.set(chainId, { ...chain, current });
      return;
    }
    this.#cover(label, order);
    const layers = new Map(stages.map(({ nodeId, first, count }) => [nodeId, `${first}+${count}`]));
    for (const [nodeId, own] of layers) {
      const before = chain.layers.get(nodeId) ?? own;
      const disturbedAt = this.#disturbedAt.get(this.#hosts.get(nodeId) ?? "") ?? 0;
      if (before !== own && disturbedAt < chain.toldAt)
        this.#break(`${label}: ${nodeId}, which stays, has layers ${own} and had ${before}`);
    }
    this.#chains.set(chainId, {
      epoch: chainEpoch,
      current,
      members,
      layers,
      toldAt: this.#observed,
      changes: chain.changes + 1,
    });
    for (const { replicaId } of stages) {
      const stage = this.#stages.get(replicaId);
      if (stage !== undefined) stage.chainId = chainId;
    }
  }

  #cover(label: string, { stages }: ChainSet): void {
    let next = 0;
    for (const { replicaId, first, count } of stages) {
      const known = this.#stages.get(replicaId);
      if (first !== next) this.#break(`${label}: ${replicaId} begins at layer ${first}, ${next} follow`);
      if (known === undefined || known.first !== first || known.count !== count) {
        this.#break(`${label}: ${replicaId} was not ordered with layers ${first}+${count}`);
      }
      next = first + count;
    }
    const layerCount = this.#stages.get(stages[0]?.replicaId ?? "")?.layerCount ?? next;
    if (next !== layerCount) this.#break(`${label} covers ${next} of ${layerCount} layers`);
  }

  #fetched({ node, weightsSha256, layers, bytes }: Extract<Observation, { kind: "fetched" }>): void {
    this.#fetchedBytes += bytes;
    const name = `${node} ${weightsSha256}`;
    const disk = this.#disks.get(name) ?? new Set<number>();
    this.#disks.set(name, disk);
    for (const layer of layers) {
      if (disk.has(layer)) this.#break(`${node} fetched layer ${layer}, which lies on its disk`);
      disk.add(layer);
    }
  }

  #break(what: string): void {
    this.#report({ law: 2, what });
  }
}
