/**
 * All replicas as columns, beside the node table: which model on which node, and how busy. Replicas of one node form a chain through
 * `nextOnNode`, so that a change of the node finds them.
 */
import type { ModelId, NodeId, ReplicaId } from "../../domain/ids.ts";
import { DenseIds, grownBytes, grownFloats, grownInts, Names } from "./columns.ts";
import { SCORE_WEIGHTS } from "./score.ts";

export interface ReplicaTraits {
  readonly replicaId: ReplicaId;
  readonly nodeId: NodeId;
  readonly modelId: ModelId;
  readonly isReady: boolean;
  readonly slots: number;
  readonly slotsLeased: number;
  readonly contextTokens: number;
  /** Share of the layers that are in device memory, 0 to 1; the rest is read from the node's disk when it is used. */
  readonly layersCached: number;
}

export class ReplicaTable {
  readonly ids = new DenseIds<ReplicaId>();
  readonly models = new Names();
  /** Columns, by replica. Read by the search, written here only. */
  node = new Int32Array(0);
  model = new Int32Array(0);
  /** 1 or 0. */
  isReady = new Uint8Array(0);
  slots = new Int32Array(0);
  slotsLeased = new Int32Array(0);
  contextTokens = new Int32Array(0);
  warmthMs = new Float64Array(0);
  nextOnNode = new Int32Array(0);
  /** By node. */
  #firstOnNode = new Int32Array(0);

  find(replicaId: ReplicaId): number {
    return this.ids.find(replicaId);
  }

  /** -1 ends the chain. */
  firstOnNode(node: number): number {
    return (this.#firstOnNode[node] ?? 0) - 1;
  }

  /** A replica never changes its node or model. */
  add(traits: ReplicaTraits, node: number): number {
    const replica = this.ids.add(traits.replicaId);
    this.#reserve(replica + 1);
    if (node >= this.#firstOnNode.length) {
      this.#firstOnNode = grownInts(this.#firstOnNode, Math.max(node + 1, this.#firstOnNode.length * 2, 64));
    }
    this.node[replica] = node;
    this.model[replica] = this.models.code(traits.modelId);
    this.nextOnNode[replica] = this.firstOnNode(node);
    this.#firstOnNode[node] = replica + 1;
    this.update(replica, traits);
    return replica;
  }

  update(replica: number, traits: ReplicaTraits): void {
    this.isReady[replica] = traits.isReady ? 1 : 0;
    this.slots[replica] = traits.slots;
    this.slotsLeased[replica] = traits.slotsLeased;
    this.contextTokens[replica] = traits.contextTokens;
    this.warmthMs[replica] = SCORE_WEIGHTS.warmthMs * traits.layersCached;
  }

  remove(replicaId: ReplicaId): void {
    const replica = this.ids.find(replicaId);
    const node = this.node[replica] ?? 0;
    const next = this.nextOnNode[replica] ?? -1;
    if (this.firstOnNode(node) === replica) this.#firstOnNode[node] = next + 1;
    else {
      let at = this.firstOnNode(node);
      while (at !== -1 && this.nextOnNode[at] !== replica) at = this.nextOnNode[at] ?? -1;
      if (at !== -1) this.nextOnNode[at] = next;
    }
    this.isReady[replica] = 0;
    this.ids.remove(replicaId);
  }

  #reserve(count: number): void {
    if (count <= this.node.length) return;
    const length = Math.max(count, this.node.length * 2, 64);
    this.node = grownInts(this.node, length);
    this.model = grownInts(this.model, length);
    this.isReady = grownBytes(this.isReady, length);
    this.slots = grownInts(this.slots, length);
    this.slotsLeased = grownInts(this.slotsLeased, length);
    this.contextTokens = grownInts(this.contextTokens, length);
    this.warmthMs = grownFloats(this.warmthMs, length);
    this.nextOnNode = grownInts(this.nextOnNode, length);
  }
}
