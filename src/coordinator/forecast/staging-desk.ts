/**
 * Carries out the staging plan: orders a copy, sees whether it came, and sees whether a load used it. What somebody waits for comes first:
 * no copy is ordered while a node takes from the coordinator what is waited for, or loads without other nodes to fetch from. A load that
 * comes from other nodes is no reason to wait: a copy that is on its way meanwhile is given nothing of the source while somebody claims
 * there, and no holder that is half busy (coordinator/weights).
 *
 * | event                                         | what happens                                                    |
 * | --------------------------------------------- | --------------------------------------------------------------- |
 * | planned                                       | `weights.stage` goes to the node                                |
 * | a chain is planned                            | the same, for each of its nodes with the layers of its stage    |
 * | node tells that it has the file, or the share | its bytes count as staged                                       |
 * | node does not, for longer than it may take    | failed: the node is given none for `stagingBackoffMs`           |
 * | node is gone                                  | the order is void; what it has it tells again when it is back   |
 * | a replica loads from a staged copy            | a cold start avoided, once for each copy                        |
 * | node tells that it has the copy no more       | wasted, when no load used it                                    |
 */

import { usableBytes } from "../../domain/hardware.ts";
import type { ModelId, NodeId, Sha256Hex } from "../../domain/ids.ts";
import type { LayerShare } from "../../domain/weights.ts";
import type { Log } from "../../ports/log.ts";
import { planShares, type WantedShare } from "../../scheduler/forecast/share-plan.ts";
import { planStaging, type StagingModel, type StagingNode } from "../../scheduler/forecast/staging-plan.ts";
import type { WeightsState } from "../../wire/agent-link.ts";
import type { NodeView, Roster } from "../roster.ts";
import type { ShareFacts } from "../weights/swarm.ts";
import type { ForecastOptions } from "./forecast-options.ts";

/** A model as staging sees it; who holds it is looked up here. */
export type WantedModel = Omit<StagingModel, "heldBy" | "holdersStayChance" | "spareCopies">;

/** A stage of a planned chain. */
export interface PlannedShare {
  readonly modelId: ModelId;
  readonly nodeId: NodeId;
  readonly share: LayerShare;
  /** All nodes of the chain. */
  readonly chain: readonly NodeId[];
}

/** Nodes looked at in one plan; the others have their turn in the next ones. */
const NODES_LOOKED_AT_MAX = 500;

/** What moves weights now (coordinator/weights/tracker.ts). */
export interface StagingUplink {
  /** Somebody takes from the coordinator what is waited for. */
  isSourceUrgent(): boolean;
  /** The node fetches from other nodes. */
  isPeer(nodeId: NodeId): boolean;
  /** Null when nobody knows the share yet; without it no shares are staged. */
  shareOn?(nodeId: NodeId, weightsSha256: Sha256Hex, share: LayerShare): ShareFacts | null;
}

export interface StagingDeskPorts {
  readonly roster: Roster;
  readonly log: Log;
  /** Ascending; wall clock or not does not matter. */
  nowMs(): number;
  /** Sorted by model id. */
  models(): readonly WantedModel[];
  /** Of all models of this grid; the same set until they change. */
  servedWeights(): ReadonlySet<Sha256Hex>;
  /** Of chains of the newest plan. */
  shares?(): readonly PlannedShare[];
  stayChance(nodeId: NodeId, horizonMs: number): number;
  /** Without it every load is taken to need the coordinator's uplink. */
  readonly uplink?: StagingUplink;
}

export interface StagingStats {
  readonly ordered: number;
  readonly stagedBytes: number;
  readonly coldStartsAvoided: number;
  /** Of copies that went unused. */
  readonly wastedBytes: number;
  readonly failed: number;
}

interface OpenOrder {
  readonly nodeId: NodeId;
  readonly weightsSha256: Sha256Hex;
  /** Null: the whole model. */
  readonly share: LayerShare | null;
  /** That are to come, of the share or the model. */
  readonly bytes: number;
  readonly orderedAtMs: number;
  readonly patienceMs: number;
}

interface Shelf {
  readonly files: ReadonlyMap<string, number>;
  /** Models of which a part is there. */
  readonly parts: ReadonlySet<string>;
  readonly freeBytes: number | null;
  /** Made when it is first asked for. */
  served: { readonly of: ReadonlySet<Sha256Hex>; readonly digests: ReadonlySet<Sha256Hex> } | null;
}

type Holders = ReadonlyMap<string, ReadonlySet<NodeId>>;
type Copies = ReadonlyMap<string, readonly NodeId[]>;

/** Stages of planned chains; a plan looks for chains of few models. */
const SHARES_LOOKED_AT_MAX = 200;
/** Of all holders together: less is as good as none. */
const STAY_CHANCE_MIN = 1e-9;
/** Nodes whose copies are remembered; of more, the one that got its first copy longest ago is forgotten. */
const NODES_MAX = 100_000;

export class StagingDesk {
  readonly #ports: StagingDeskPorts;
  readonly #options: ForecastOptions;
  readonly #shelves = new Map<NodeId, Shelf>();
  readonly #orders = new Map<string, OpenOrder>();
  readonly #notBeforeMs = new Map<NodeId, number>();
  /** Staged by order and not used yet, with their bytes. */
  readonly #unused = new Map<NodeId, Map<string, number>>();
  #turns = 0;
  #ordered = 0;
  #stagedBytes = 0;
  #coldStartsAvoided = 0;
  #wastedBytes = 0;
  #failed = 0;

  constructor(ports: StagingDeskPorts, options: ForecastOptions) {
    this.#ports = ports;
    this.#options = options;
    ports.roster.subscribe({
      onOnline: () => undefined,
      onSuspect: () => undefined,
      onWithdrawn: () => undefined,
      onGone: (nodeId) => this.#gone(nodeId),
      onWork: () => undefined,
      onReplicas: (nodeId) => this.#loads(nodeId),
      onWeights: (nodeId, state) => this.#heard(nodeId, state),
    });
  }

  stats(): StagingStats {
    return {
      ordered: this.#ordered,
      stagedBytes: this.#stagedBytes,
      coldStartsAvoided: this.#coldStartsAvoided,
      wastedBytes: this.#wastedBytes,
      failed: this.#failed,
    };
  }

  /** Digests of weights that lie on a node's disk, as it says; null when it has not said. */
  cached(nodeId: NodeId): ReadonlySet<Sha256Hex> | null {
    const shelf = this.#shelves.get(nodeId);
    return shelf === undefined ? null : this.#servedOf(shelf);
  }

  /** A node may tell of files that nobody here knows: they are nothing to a plan but weight. */
  #servedOf(shelf: Shelf): ReadonlySet<Sha256Hex> {
    const servedHere = this.#ports.servedWeights();
    if (shelf.served?.of !== servedHere) {
      const digests = [...servedHere].filter((digest) => shelf.files.has(digest));
      shelf.served = { of: servedHere, digests: new Set(digests) };
    }
    return shelf.served.digests;
  }

  plan(): void {
    const nowMs = this.#ports.nowMs();
    for (const order of [...this.#orders.values()]) this.#settle(order);
    this.#expire(nowMs);
    const views = this.#ports.roster.nodes();
    const transfersFree = this.#isUplinkBusy(views) ? 0 : this.#options.stagingsMax - this.#orders.size;
    if (transfersFree <= 0) return;
    const { horizonMs, prices } = this.#options;
    const holders = holdersOf(views);
    const copies = this.#copies();
    const wanted = this.#ports.models();
    const models = wanted.map((model) => this.#stagingModel(model, { holders, copies }));
    const nodes = this.#inTurn(views).flatMap((view) => this.#stagingNode(view, nowMs));
    const { orders } = planStaging({ models, nodes, horizonMs, prices, transfersFree });
    for (const order of orders) {
      const model = models.find(({ modelId }) => modelId === order.modelId);
      if (model !== undefined)
        this.#order({ ...model, nodeId: order.nodeId, share: null, bytes: model.fileBytes }, nowMs);
    }
    const sharesFree = transfersFree - orders.length;
    if (sharesFree <= 0) return;
    for (const { node, shareBytes, ...share } of planShares({
      shares: this.#wantedShares(wanted, nowMs),
      prices,
      transfersFree: sharesFree,
    })) {
      const fileBytes = wanted.find(({ modelId }) => modelId === share.modelId)?.fileBytes ?? shareBytes;
      this.#order({ ...share, nodeId: node.nodeId, bytes: shareBytes, fileBytes }, nowMs);
    }
  }

  /** The stages of planned chains whose nodes can be told to fetch. */
  #wantedShares(models: readonly WantedModel[], nowMs: number): readonly WantedShare[] {
    const { shares, uplink, roster, stayChance } = this.#ports;
    const { horizonMs } = this.#options;
    return (shares?.() ?? []).slice(0, SHARES_LOOKED_AT_MAX).flatMap(({ modelId, nodeId, share, chain }) => {
      const model = models.find((one) => one.modelId === modelId);
      const view = roster.node(nodeId);
      const [node] = view === null ? [] : this.#stagingNode(view, nowMs);
      const facts = model === undefined ? null : (uplink?.shareOn?.(nodeId, model.weightsSha256, share) ?? null);
      if (model === undefined || node === undefined || facts === null) return [];
      const { weightsSha256, expectedRequests } = model;
      const chainStayChance = chain.reduce((chance, one) => chance * stayChance(one, horizonMs), 1);
      const { bytes: shareBytes, isThere } = facts;
      return [{ modelId, weightsSha256, share, shareBytes, isThere, node, chainStayChance, expectedRequests }];
    });
  }

  #isUplinkBusy(views: readonly NodeView[]): boolean {
    const { uplink } = this.#ports;
    if (uplink?.isSourceUrgent() === true) return true;
    return views.some(({ nodeId, replicas }) => {
      return uplink?.isPeer(nodeId) !== true && replicas.some(({ state }) => state === "loading");
    });
  }

  #stagingModel(model: WantedModel, at: { holders: Holders; copies: Copies }): StagingModel {
    const heldBy = at.holders.get(model.weightsSha256) ?? new Set();
    let holdersStayChance = 1;
    for (const nodeId of heldBy) {
      holdersStayChance *= this.#ports.stayChance(nodeId, this.#options.horizonMs);
      if (holdersStayChance < STAY_CHANCE_MIN) break;
    }
    let spareCopies = 0;
    for (const nodeId of at.copies.get(model.weightsSha256) ?? []) if (!heldBy.has(nodeId)) spareCopies += 1;
    return { ...model, heldBy, holdersStayChance, spareCopies };
  }

  /** In one pass over all nodes: one for each model would stand in the way of streams. */
  #copies(): Copies {
    const copies = new Map<string, NodeId[]>();
    for (const [nodeId, shelf] of this.#shelves) {
      for (const digest of this.#servedOf(shelf)) {
        const known = copies.get(digest);
        if (known === undefined) copies.set(digest, [nodeId]);
        else known.push(nodeId);
      }
    }
    return copies;
  }

  /** The part of the nodes whose turn it is. */
  #inTurn(views: readonly NodeView[]): readonly NodeView[] {
    if (views.length <= NODES_LOOKED_AT_MAX) return views;
    const from = (this.#turns++ * NODES_LOOKED_AT_MAX) % views.length;
    return [...views.slice(from, from + NODES_LOOKED_AT_MAX)];
  }

  #order(
    to: Pick<OpenOrder, "nodeId" | "weightsSha256" | "share" | "bytes"> & { modelId: ModelId; fileBytes: number },
    nowMs: number,
  ): void {
    const { nodeId, modelId, weightsSha256, fileBytes, share, bytes } = to;
    const layers = share === null ? {} : { layers: share };
    if (!this.#ports.roster.send(nodeId, { type: "weights.stage", weightsSha256, fileBytes, ...layers })) return;
    const expectedMs = (bytes / this.#options.fetchBytesPerSecond) * 1_000;
    const patienceMs = this.#options.stagingPatience * expectedMs + this.#options.stageMs;
    const order = { nodeId, weightsSha256, share, bytes, orderedAtMs: nowMs, patienceMs };
    this.#orders.set(pairKey(nodeId, weightsSha256), order);
    this.#ordered += 1;
    this.#ports.log.info({ nodeId, modelId, bytes, ...layers }, "weights ordered ahead of need");
  }

  /** Nodes that told what lies on their disks: others would not know the order. */
  #stagingNode(view: NodeView, nowMs: number): readonly StagingNode[] {
    const { nodeId } = view;
    const shelf = this.#shelves.get(nodeId);
    if (shelf === undefined || view.state !== "online" || view.isYielding) return [];
    const isOrdered = [...this.#orders.values()].some((order) => order.nodeId === nodeId);
    const isIdle = !isOrdered && (this.#notBeforeMs.get(nodeId) ?? 0) <= nowMs;
    return [
      {
        nodeId,
        isIdle,
        cached: this.#servedOf(shelf),
        diskFreeBytes: shelf.freeBytes ?? view.capabilities.diskFreeBytes,
        fetchBytesPerSecond: this.#options.fetchBytesPerSecond,
        memoryBytes: Math.max(0, ...view.capabilities.devices.map(usableBytes)),
        stayChance: (horizonMs) => this.#ports.stayChance(nodeId, horizonMs),
      },
    ];
  }

  #heard(nodeId: NodeId, { weights, parts = [], freeBytes }: WeightsState): void {
    const files = new Map(
      weights.flatMap(({ weightsSha256, fileBytes, state }) =>
        state === "cached" ? [[weightsSha256, fileBytes]] : [],
      ),
    );
    const shelf = { files, parts: new Set(parts.map(({ weightsSha256 }) => weightsSha256)), freeBytes, served: null };
    this.#shelves.set(nodeId, shelf);
    this.#settleUnused(nodeId, shelf);
    for (const order of [...this.#orders.values()]) if (order.nodeId === nodeId) this.#settle(order);
    for (const oldest of this.#unused.keys()) {
      if (this.#unused.size <= NODES_MAX) break;
      this.#unused.delete(oldest);
    }
  }

  /** Counts what is there. A share's last chunks are told after the state of the disk: the next plan sees them. */
  #settle(order: OpenOrder): void {
    const { nodeId, weightsSha256, share, bytes } = order;
    const isWhole = this.#shelves.get(nodeId)?.files.has(weightsSha256) === true;
    const isThere = isWhole || (share !== null && this.#isShareThere(nodeId, weightsSha256, share));
    if (!isThere) return;
    this.#orders.delete(pairKey(nodeId, weightsSha256));
    this.#stagedBytes += bytes;
    const unused = this.#unused.get(nodeId) ?? new Map<string, number>();
    unused.set(weightsSha256, bytes);
    this.#unused.set(nodeId, unused);
  }

  #isShareThere(nodeId: NodeId, weightsSha256: Sha256Hex, share: LayerShare): boolean {
    return this.#ports.uplink?.shareOn?.(nodeId, weightsSha256, share)?.isThere === true;
  }

  #settleUnused(nodeId: NodeId, { files, parts }: Shelf): void {
    const unused = this.#unused.get(nodeId);
    for (const [digest, bytes] of unused ?? []) {
      if (files.has(digest) || parts.has(digest)) continue;
      this.#wastedBytes += bytes;
      unused?.delete(digest);
    }
  }

  #loads(nodeId: NodeId): void {
    const unused = this.#unused.get(nodeId);
    if (unused === undefined || unused.size === 0) return;
    for (const { weightsSha256, state } of this.#ports.roster.node(nodeId)?.replicas ?? []) {
      if (weightsSha256 === undefined || (state !== "loading" && state !== "ready")) continue;
      if (unused.delete(weightsSha256)) this.#coldStartsAvoided += 1;
    }
  }

  #gone(nodeId: NodeId): void {
    this.#shelves.delete(nodeId);
    for (const [key, order] of this.#orders) if (order.nodeId === nodeId) this.#orders.delete(key);
  }

  #expire(nowMs: number): void {
    for (const [key, order] of this.#orders) {
      if (nowMs - order.orderedAtMs <= order.patienceMs) continue;
      this.#orders.delete(key);
      this.#failed += 1;
      this.#notBeforeMs.set(order.nodeId, nowMs + this.#options.stagingBackoffMs);
    }
    for (const [nodeId, untilMs] of this.#notBeforeMs) if (untilMs <= nowMs) this.#notBeforeMs.delete(nodeId);
  }
}

/** By digest: nodes that run a model's weights or are loading them. */
function holdersOf(views: readonly NodeView[]): Holders {
  const holders = new Map<string, Set<NodeId>>();
  for (const { nodeId, replicas } of views) {
    for (const { weightsSha256, state } of replicas) {
      if (weightsSha256 === undefined || (state !== "ready" && state !== "loading")) continue;
      const known = holders.get(weightsSha256);
      if (known === undefined) holders.set(weightsSha256, new Set([nodeId]));
      else known.add(nodeId);
    }
  }
  return holders;
}

function pairKey(nodeId: NodeId, weightsSha256: string): string {
  return `${nodeId} ${weightsSha256}`;
}
