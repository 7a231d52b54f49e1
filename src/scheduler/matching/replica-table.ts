/**
 * All replicas as rows of one typed array, beside the node table: which model on which node, and how busy. Replicas of one node form a chain through
 * `nextOnNode`, so that a change of the node finds them.
 */
import type { ModelId, NodeId, ReplicaId } from "../../domain/ids.ts";
import { DenseIds, grownInts, Names } from "./columns.ts";
import { FILING_WIDTH, Rows } from "./filing.ts";
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

/** Numbers of a replica's own facts; the posting lists' follow in the same row, and the whole is as long as a cache line. */
const FACTS = 8;
const ROW = FACTS + FILING_WIDTH;

export class ReplicaTable {
  readonly ids = new DenseIds<ReplicaId>();
  readonly models = new Names();
  /** Node, model, ready, slots, leased, context, warmth, next on the node; then what lists keep of it. */
  readonly rows = new Rows(ROW);
  readonly filingOffset = FACTS;
  /** By node. */
  #firstOnNode = new Int32Array(0);

  find(replicaId: ReplicaId): number {
    return this.ids.find(replicaId);
  }

  node(replica: number): number {
    return this.rows.ints[replica * ROW] ?? 0;
  }
  model(replica: number): number {
    return this.rows.ints[replica * ROW + 1] ?? 0;
  }
  /** 1 or 0. */
  isReady(replica: number): number {
    return this.rows.ints[replica * ROW + 2] ?? 0;
  }
  slots(replica: number): number {
    return this.rows.ints[replica * ROW + 3] ?? 0;
  }
  slotsLeased(replica: number): number {
    return this.rows.ints[replica * ROW + 4] ?? 0;
  }
  contextTokens(replica: number): number {
    return this.rows.ints[replica * ROW + 5] ?? 0;
  }
  /** Whole milliseconds. */
  warmthMs(replica: number): number {
    return this.rows.ints[replica * ROW + 6] ?? 0;
  }
  /** -1 ends the chain. */
  nextOnNode(replica: number): number {
    return (this.rows.ints[replica * ROW + 7] ?? 0) - 1;
  }

  /** -1 ends the chain. */
  firstOnNode(node: number): number {
    return (this.#firstOnNode[node] ?? 0) - 1;
  }

  /** A replica never changes its node or model. */
  add(traits: ReplicaTraits, node: number): number {
    const replica = this.ids.add(traits.replicaId);
    this.rows.reserve(replica + 1);
    if (node >= this.#firstOnNode.length) {
      this.#firstOnNode = grownInts(this.#firstOnNode, Math.max(node + 1, this.#firstOnNode.length * 2, 64));
    }
    this.rows.ints[replica * ROW] = node;
    this.rows.ints[replica * ROW + 1] = this.models.code(traits.modelId);
    this.rows.ints[replica * ROW + 7] = this.firstOnNode(node) + 1;
    this.#firstOnNode[node] = replica + 1;
    this.update(replica, traits);
    return replica;
  }

  update(replica: number, traits: ReplicaTraits): void {
    const { isReady, slots, slotsLeased, contextTokens, layersCached } = traits;
    const warmthMs = Math.round(SCORE_WEIGHTS.warmthMs * layersCached);
    this.rows.ints.set([isReady ? 1 : 0, slots, slotsLeased, contextTokens, warmthMs], replica * ROW + 2);
  }

  setLeased(replica: number, slotsLeased: number): void {
    this.rows.ints[replica * ROW + 4] = slotsLeased;
  }

  remove(replicaId: ReplicaId): void {
    const replica = this.ids.find(replicaId);
    const node = this.node(replica);
    const next = this.nextOnNode(replica);
    if (this.firstOnNode(node) === replica) this.#firstOnNode[node] = next + 1;
    else {
      let at = this.firstOnNode(node);
      while (at !== -1 && this.nextOnNode(at) !== replica) at = this.nextOnNode(at);
      if (at !== -1) this.rows.ints[at * ROW + 7] = next + 1;
    }
    this.rows.ints[replica * ROW + 2] = 0;
    this.ids.remove(replicaId);
  }
}
