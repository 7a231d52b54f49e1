/**
 * The matcher's index: node and replica tables, and posting lists over them, kept up to date change by change. Nothing is copied for a
 * decision; a lease, a heartbeat or a node that falls silent writes a few numbers.
 *
 * | change                              | cost                                                              |
 * | ----------------------------------- | ----------------------------------------------------------------- |
 * | a lease starts or ends              | one number, one line in its list's log                            |
 * | a node stops or starts taking work  | one number, one line in the log of each of its entries            |
 * | round trip, price, trust, free VRAM | the same                                                          |
 * | a replica or node comes             | the same                                                          |
 * | a replica or node goes              | its entries are taken out of their lists at once                  |
 *
 * Lines are taken in when a list is next read (posting-list.ts).
 */
import { assert } from "../../domain/assert.ts";
import type { ModelId, NodeId, ReplicaId } from "../../domain/ids.ts";
import { grownFloats } from "./columns.ts";
import { Filing } from "./filing.ts";
import { type NodeAvailability, type NodeChange, NodeTable, type NodeTraits } from "./node-table.ts";
import { PostingList, type Ranking, Shelf } from "./posting-list.ts";
import { ReplicaTable, type ReplicaTraits } from "./replica-table.ts";
import { SCORE_WEIGHTS } from "./score.ts";

/** VRAM buckets are powers of two of this: 0 to 1 GiB, 1 to 2, 2 to 4 … */
const BUCKET_BYTES = 2 ** 30;
export const VRAM_BUCKETS = 12;

/** The bucket in which a node with this much free memory is; a load of so many bytes fits no node of a lower one. */
export function vramBucket(bytes: number): number {
  if (bytes < BUCKET_BYTES) return 0;
  return Math.min(VRAM_BUCKETS - 1, 1 + Math.floor(Math.log2(bytes / BUCKET_BYTES)));
}

export class MatchIndex {
  readonly nodes = new NodeTable();
  readonly replicas = new ReplicaTable();
  /** By model. */
  readonly #replicaShelves: Shelf[] = [];
  /** By VRAM bucket. */
  readonly #nodeShelves = Array.from({ length: VRAM_BUCKETS }, () => new Shelf());
  readonly #emptyShelf = new Shelf();
  /** By node: the bucket and list it is in. */
  readonly #bucketOf: number[] = [];
  /** By the caller's region code, then by the node's + 1. */
  readonly #distancesMs: Float64Array[] = [];
  readonly replicaRanking: Ranking;
  readonly nodeRanking: Ranking;
  readonly #replicaFiling = new Filing(this.replicas.rows, this.replicas.filingOffset);
  readonly #nodeFiling = new Filing(this.nodes.rows, this.nodes.filingOffset);

  constructor() {
    const { nodes, replicas } = this;
    this.nodeRanking = {
      boundMs: (node, horizon) => nodes.boundMs(node, horizon),
      compare: (one, other) => (nodes.ids.key(one) < nodes.ids.key(other) ? -1 : 1),
      load: (node) => 1 - nodes.vramFreeBytes(node) / Math.max(1, nodes.vramUsableBytes(node)),
    };
    this.replicaRanking = {
      boundMs: (replica, horizon) => {
        const load = replicas.slotsLeased(replica) / replicas.slots(replica);
        // A replica without slots has no load, and is as good as full.
        if (replicas.isReady(replica) !== 1 || !(load < 1)) return Number.NaN;
        const nodeMs = nodes.boundMs(replicas.node(replica), horizon);
        return nodeMs + replicas.warmthMs(replica) - SCORE_WEIGHTS.loadMs * load;
      },
      compare: (one, other) => (replicas.ids.key(one) < replicas.ids.key(other) ? -1 : 1),
      load: (replica) => replicas.slotsLeased(replica) / Math.max(1, replicas.slots(replica)),
    };
  }

  // -------------------------------------------------------------- nodes

  /** A node is new, or anything of it changed. */
  upsertNode(traits: NodeTraits): void {
    const known = this.nodes.find(traits.nodeId);
    const regionBefore = known === -1 ? -1 : this.nodes.region(known);
    const change = this.nodes.upsert(traits);
    if (change.isMoved && known !== -1) this.#moveReplicas(known, regionBefore);
    this.#fileNode(change, regionBefore, known !== -1);
    if (!change.isMoved) this.#touchReplicas(change.node);
  }

  /** A heartbeat's own news; a node that is not in the index is left out. */
  heartbeat(nodeId: NodeId, beat: { readonly rttMs: number }): void {
    const node = this.nodes.find(nodeId);
    if (node !== -1) this.heartbeatOf(node, beat.rttMs);
  }

  /** By the dense id, for who keeps it (and its generation): spares the look for the name. */
  heartbeatOf(node: number, rttMs: number): void {
    if (this.nodes.heartbeat(node, rttMs)) this.#touch(node);
  }

  setAvailability(nodeId: NodeId, availability: NodeAvailability): void {
    const node = this.nodes.find(nodeId);
    if (node !== -1) this.setAvailabilityOf(node, availability);
  }

  setAvailabilityOf(node: number, availability: NodeAvailability): void {
    if (this.nodes.setAvailability(node, availability)) this.#touch(node);
  }

  /** With all its replicas. */
  removeNode(nodeId: NodeId): void {
    const node = this.nodes.find(nodeId);
    if (node === -1) return;
    for (let at = this.replicas.firstOnNode(node); at !== -1; at = this.replicas.firstOnNode(node)) {
      this.removeReplica(this.replicas.ids.key(at));
    }
    this.#nodeList(this.#bucketOf[node] ?? 0, this.nodes.region(node)).remove(node);
    this.nodes.remove(nodeId);
  }

  // -------------------------------------------------------------- replicas

  /** Its node is in the index. A replica never changes its node or model. */
  upsertReplica(traits: ReplicaTraits): void {
    const known = this.replicas.find(traits.replicaId);
    const node = this.nodes.find(traits.nodeId);
    assert(node !== -1, `the node of ${traits.replicaId} is in the index`);
    if (known === -1) {
      const replica = this.replicas.add(traits, node);
      this.#listOf(replica).add(replica);
      return;
    }
    assert(this.replicas.node(known) === node, `${traits.replicaId} stays on its node`);
    this.replicas.update(known, traits);
    this.#listOf(known).touch(known);
  }

  setLeased(replicaId: ReplicaId, slotsLeased: number): void {
    const replica = this.replicas.find(replicaId);
    if (replica !== -1) this.setLeasedOf(replica, slotsLeased);
  }

  /** By the dense id: a decision has it. */
  setLeasedOf(replica: number, slotsLeased: number): void {
    if (this.replicas.slotsLeased(replica) === slotsLeased) return;
    this.replicas.setLeased(replica, slotsLeased);
    this.#listOf(replica).touch(replica);
  }

  removeReplica(replicaId: ReplicaId): void {
    const replica = this.replicas.find(replicaId);
    if (replica === -1) return;
    this.#listOf(replica).remove(replica);
    this.replicas.remove(replicaId);
  }

  // -------------------------------------------------------------- regions

  /** Round trip between two regions, one way of asking it; neither direction is known until it is set. */
  setDistance(way: { readonly from: string; readonly to: string; readonly rttMs: number }): void {
    const from = this.nodes.regions.code(way.from);
    const to = this.nodes.regions.code(way.to);
    let row = this.#distancesMs[from] ?? new Float64Array(0);
    if (to + 1 >= row.length) row = grownFloats(row, Math.max(to + 2, row.length * 2));
    row[to + 1] = way.rttMs;
    this.#distancesMs[from] = row;
  }

  /** From a caller's region, by region code + 1; null when nothing is known. A distance of 0 tells no two nodes apart. */
  distancesFrom(callerRegion: number): Float64Array | null {
    return this.#distancesMs[callerRegion] ?? null;
  }

  // -------------------------------------------------------------- lists

  replicaShelf(modelId: ModelId): Shelf {
    return this.#replicaShelves[this.replicas.models.find(modelId)] ?? this.#emptyShelf;
  }

  nodeShelf(bucket: number): Shelf {
    return this.#nodeShelves[bucket] ?? this.#emptyShelf;
  }

  #listOf(replica: number): PostingList {
    const region = this.nodes.region(this.replicas.node(replica));
    return this.#replicaList(this.replicas.model(replica), region);
  }

  #replicaList(model: number, region: number): PostingList {
    let shelf = this.#replicaShelves[model];
    if (shelf === undefined) {
      shelf = new Shelf();
      this.#replicaShelves[model] = shelf;
    }
    const at = region + 1;
    return shelf.lists[at] ?? newList(shelf, at, { ranking: this.replicaRanking, filing: this.#replicaFiling });
  }

  #nodeList(bucket: number, region: number): PostingList {
    const shelf = this.nodeShelf(bucket);
    const at = region + 1;
    return shelf.lists[at] ?? newList(shelf, at, { ranking: this.nodeRanking, filing: this.#nodeFiling });
  }

  #fileNode(change: NodeChange, regionBefore: number, isKnown: boolean): void {
    const { node } = change;
    const region = this.nodes.region(node);
    const bucket = vramBucket(this.nodes.vramFreeBytes(node));
    const bucketBefore = this.#bucketOf[node] ?? 0;
    this.#bucketOf[node] = bucket;
    if (isKnown && bucket === bucketBefore && region === regionBefore) {
      this.#nodeList(bucket, region).touch(node);
      return;
    }
    if (isKnown) this.#nodeList(bucketBefore, regionBefore).remove(node);
    this.#nodeList(bucket, region).add(node);
  }

  #moveReplicas(node: number, regionBefore: number): void {
    for (let at = this.replicas.firstOnNode(node); at !== -1; at = this.replicas.nextOnNode(at)) {
      this.#replicaList(this.replicas.model(at), regionBefore).remove(at);
      this.#listOf(at).add(at);
    }
  }

  #touch(node: number): void {
    this.#nodeList(this.#bucketOf[node] ?? 0, this.nodes.region(node)).touch(node);
    this.#touchReplicas(node);
  }

  #touchReplicas(node: number): void {
    for (let at = this.replicas.firstOnNode(node); at !== -1; at = this.replicas.nextOnNode(at)) {
      this.#listOf(at).touch(at);
    }
  }
}

function newList(shelf: Shelf, at: number, of: { ranking: Ranking; filing: Filing }): PostingList {
  const list = new PostingList({ ...of, shelf, at });
  shelf.put(at, list);
  return list;
}
