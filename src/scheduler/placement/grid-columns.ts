/**
 * A snapshot as columns: one typed array for each property, rows in the order of ids, however they arrived. Packing 1,000 nodes takes about a
 * millisecond, and the arrays go to another thread without being copied, where a copy of the objects themselves would stand in
 * every stream's way. Names (regions, owners, digests, devices) are numbers into one table.
 */
import { type Device, usableBytes } from "../../domain/hardware.ts";
import type { ModelId, NodeId, ReplicaId } from "../../domain/ids.ts";
import type { ReplicaState } from "../../domain/node.ts";
import { gpuBytesPerSecond } from "./gpu-bandwidth.ts";
import { type LoserReason, type NodeFact, nodeObstacle, type ReplicaFact, type Snapshot } from "./snapshot.ts";

/** Code 0 is a node that takes work. */
export const OBSTACLES: readonly (LoserReason | null)[] = [
  null,
  "node-offline",
  "node-suspect",
  "node-draining",
  "node-yielding",
];
const REPLICA_STATES: readonly ReplicaState[] = ["planned", "loading", "ready", "draining", "failed", "gone"];
/** In a column of names: not known. */
export const UNKNOWN = -1;

export interface NodeColumns {
  readonly ids: readonly NodeId[];
  readonly obstacle: Uint8Array<ArrayBuffer>;
  readonly hasStageServing: Uint8Array<ArrayBuffer>;
  /** NaN: not measured. */
  readonly decodeTokPerSecond: Float64Array<ArrayBuffer>;
  /** NaN: not measured. */
  readonly rttMs: Float64Array<ArrayBuffer>;
  readonly trust: Float64Array<ArrayBuffer>;
  readonly priceMicroUsdPerHour: Float64Array<ArrayBuffer>;
  readonly gramsCo2PerHour: Float64Array<ArrayBuffer>;
  readonly stayChance: Float64Array<ArrayBuffer>;
  readonly region: Int32Array<ArrayBuffer>;
  readonly owner: Int32Array<ArrayBuffer>;
  readonly network: Int32Array<ArrayBuffer>;
  /** Row of the first device, digest and link; one entry more than there are nodes. */
  readonly deviceFrom: Int32Array<ArrayBuffer>;
  readonly cachedFrom: Int32Array<ArrayBuffer>;
  readonly linkFrom: Int32Array<ArrayBuffer>;
}

export interface DeviceColumns {
  readonly name: Int32Array<ArrayBuffer>;
  readonly isGpu: Uint8Array<ArrayBuffer>;
  readonly usableBytes: Float64Array<ArrayBuffer>;
  /** Of a GPU, by its name; NaN: not known. */
  readonly gpuBytesPerSecond: Float64Array<ArrayBuffer>;
}

/** What devices did with files. */
export interface ObservedColumns {
  readonly device: Int32Array<ArrayBuffer>;
  readonly weights: Int32Array<ArrayBuffer>;
  readonly tokenSeconds: Float64Array<ArrayBuffer>;
  readonly count: Int32Array<ArrayBuffer>;
}

export interface LinkColumns {
  /** Row of the node at the other end. */
  readonly to: Int32Array<ArrayBuffer>;
  readonly rttMs: Float64Array<ArrayBuffer>;
  readonly bytesPerSecond: Float64Array<ArrayBuffer>;
}

export interface ReplicaColumns {
  readonly ids: readonly ReplicaId[];
  /** Row of the node, or UNKNOWN when the snapshot has no such node. */
  readonly node: Int32Array<ArrayBuffer>;
  /** Row of the device, or UNKNOWN. */
  readonly device: Int32Array<ArrayBuffer>;
  readonly model: Int32Array<ArrayBuffer>;
  readonly weights: Int32Array<ArrayBuffer>;
  readonly state: Uint8Array<ArrayBuffer>;
  readonly slots: Int32Array<ArrayBuffer>;
  readonly slotsLeased: Int32Array<ArrayBuffer>;
  readonly contextTokens: Int32Array<ArrayBuffer>;
  readonly memoryBytes: Float64Array<ArrayBuffer>;
  readonly lastUsedAtMs: Float64Array<ArrayBuffer>;
  /** Of a stage: its chain (UNKNOWN: a spare), its first layer and how many; 0 layers: the whole model. */
  readonly chain: Int32Array<ArrayBuffer>;
  readonly stageFirst: Int32Array<ArrayBuffer>;
  readonly stageCount: Int32Array<ArrayBuffer>;
  readonly isLast: Uint8Array<ArrayBuffer>;
  /** NaN: not measured. */
  readonly loopMs: Float64Array<ArrayBuffer>;
}

export interface GridColumns {
  readonly version: number;
  readonly names: readonly string[];
  readonly nodes: NodeColumns;
  readonly devices: DeviceColumns;
  /** Digests that nodes hold, as names. */
  readonly cached: Int32Array<ArrayBuffer>;
  readonly links: LinkColumns;
  readonly observed: ObservedColumns;
  readonly replicas: ReplicaColumns;
}

export function packGrid(snapshot: Snapshot): GridColumns {
  const names = new NameTable();
  const nodes = inOrder([...snapshot.nodes.values()], ({ nodeId }) => nodeId);
  const held = inOrder([...snapshot.replicas], ({ replicaId }) => replicaId);
  const rows = new Map<NodeId, number>();
  for (const { nodeId } of nodes) rows.set(nodeId, rows.size);
  const packed = packNodes(nodes, names);
  const { devices, links, cached } = packParts(nodes, { names, rows, packed });
  return {
    version: snapshot.version,
    nodes: packed,
    devices,
    cached,
    links,
    observed: packObserved(nodes, names, packed),
    replicas: packReplicas(held, { names, rows, nodes, packed }),
    names: names.list,
  };
}

/** Sorted by id; as it is when it is sorted already, which it mostly is. */
function inOrder<T>(items: T[], idOf: (item: T) => string): readonly T[] {
  const isSorted = items.every((item, at) => {
    const before = items[at - 1];
    return before === undefined || idOf(before) < idOf(item);
  });
  return isSorted ? items : items.sort((a, b) => (idOf(a) < idOf(b) ? -1 : 1));
}

/** What a thread may take over instead of copying it. The question cannot be used here after that. */
export function buffersOf(grid: GridColumns): readonly ArrayBuffer[] {
  const arrays = [
    grid.cached,
    ...[grid.nodes, grid.devices, grid.links, grid.observed, grid.replicas].flatMap(Object.values),
  ];
  return arrays.flatMap((column: unknown) =>
    column instanceof Float64Array || column instanceof Int32Array || column instanceof Uint8Array
      ? [column.buffer as ArrayBuffer] // packGrid makes no shared ones
      : [],
  );
}

export function stateOf(replicas: ReplicaColumns, row: number): ReplicaState {
  return REPLICA_STATES[replicas.state[row] ?? 0] ?? "gone";
}

/** It counts as a replica of its model: the whole model, or the stage that stands for a chain. */
export function isReplica(replicas: ReplicaColumns, row: number): boolean {
  return replicas.stageCount[row] === 0 || (replicas.isLast[row] === 1 && replicas.chain[row] !== UNKNOWN);
}

export function modelNameOf(grid: GridColumns, row: number): ModelId | undefined {
  // The table holds what `packReplicas` put in: a model's id.
  return grid.names[grid.replicas.model[row] ?? UNKNOWN] as ModelId | undefined;
}

class NameTable {
  readonly list: string[] = [];
  readonly #numbers = new Map<string, number>();

  add(name: string | null | undefined): number {
    if (name === null || name === undefined) return UNKNOWN;
    const known = this.#numbers.get(name);
    if (known !== undefined) return known;
    this.#numbers.set(name, this.list.length);
    this.list.push(name);
    return this.list.length - 1;
  }
}

/** Loops over preallocated columns: this runs in the coordinator's event loop, and is many times faster than `from` with a function. */
function packNodes(nodes: readonly NodeFact[], names: NameTable): NodeColumns {
  const { length } = nodes;
  const columns: NodeColumns = {
    ids: nodes.map(({ nodeId }) => nodeId),
    obstacle: new Uint8Array(length),
    hasStageServing: new Uint8Array(length),
    decodeTokPerSecond: new Float64Array(length),
    rttMs: new Float64Array(length),
    trust: new Float64Array(length),
    priceMicroUsdPerHour: new Float64Array(length),
    gramsCo2PerHour: new Float64Array(length),
    stayChance: new Float64Array(length),
    region: new Int32Array(length),
    owner: new Int32Array(length),
    network: new Int32Array(length),
    deviceFrom: new Int32Array(length + 1),
    cachedFrom: new Int32Array(length + 1),
    linkFrom: new Int32Array(length + 1),
  };
  let row = 0;
  for (const node of nodes) {
    columns.obstacle[row] = OBSTACLES.indexOf(nodeObstacle(node));
    columns.hasStageServing[row] = node.hasStageServing === true ? 1 : 0;
    columns.decodeTokPerSecond[row] = node.decodeTokPerSecond ?? Number.NaN;
    columns.rttMs[row] = node.rttMs ?? Number.NaN;
    columns.trust[row] = node.trust ?? 1;
    columns.priceMicroUsdPerHour[row] = node.priceMicroUsdPerHour ?? 0;
    columns.gramsCo2PerHour[row] = node.gramsCo2PerHour ?? 0;
    columns.stayChance[row] = node.stayChance ?? 1;
    columns.region[row] = names.add(node.region);
    columns.owner[row] = names.add(node.owner);
    columns.network[row] = names.add(node.network);
    columns.deviceFrom[row + 1] = (columns.deviceFrom[row] ?? 0) + node.devices.length;
    columns.cachedFrom[row + 1] = (columns.cachedFrom[row] ?? 0) + (node.cachedWeights?.size ?? 0);
    columns.linkFrom[row + 1] = (columns.linkFrom[row] ?? 0) + (node.links?.length ?? 0);
    row += 1;
  }
  return columns;
}

/** What a node has several of. */
function packParts(
  nodes: readonly NodeFact[],
  by: { names: NameTable; rows: ReadonlyMap<NodeId, number>; packed: NodeColumns },
): Pick<GridColumns, "devices" | "links" | "cached"> {
  const { names, rows, packed } = by;
  const { length } = nodes;
  const deviceCount = packed.deviceFrom[length] ?? 0;
  const devices = {
    name: new Int32Array(deviceCount),
    isGpu: new Uint8Array(deviceCount),
    usableBytes: new Float64Array(deviceCount),
    gpuBytesPerSecond: new Float64Array(deviceCount),
  };
  const bandwidths = new Map<string, number>();
  const cached = new Int32Array(packed.cachedFrom[length] ?? 0);
  const linkCount = packed.linkFrom[length] ?? 0;
  const links = {
    to: new Int32Array(linkCount),
    rttMs: new Float64Array(linkCount),
    bytesPerSecond: new Float64Array(linkCount),
  };
  let [device, digest, link] = [0, 0, 0];
  for (const node of nodes) {
    for (const one of node.devices) {
      devices.name[device] = names.add(one.deviceId);
      devices.isGpu[device] = one.kind === "gpu" ? 1 : 0;
      devices.usableBytes[device] = usableBytes(one);
      devices.gpuBytesPerSecond[device] = bandwidthOf(one, bandwidths);
      device += 1;
    }
    for (const known of sortedDigests(node)) cached[digest++] = names.add(known);
    for (const { to, rttMs, bytesPerSecond } of node.links ?? []) {
      links.to[link] = rows.get(to) ?? UNKNOWN;
      links.rttMs[link] = rttMs;
      links.bytesPerSecond[link] = bytesPerSecond;
      link += 1;
    }
  }
  return { devices, cached, links };
}

/** Machines of a grid share a few names, and reading one costs some microseconds. */
function bandwidthOf(device: Device, known: Map<string, number>): number {
  if (device.kind !== "gpu") return Number.NaN;
  const key = `${device.memoryBytes} ${device.name}`;
  const found = known.get(key) ?? gpuBytesPerSecond(device) ?? Number.NaN;
  known.set(key, found);
  return found;
}

function packObserved(nodes: readonly NodeFact[], names: NameTable, packed: NodeColumns): ObservedColumns {
  const length = nodes.reduce((sum, { observedSpeeds }) => sum + (observedSpeeds?.length ?? 0), 0);
  const columns: ObservedColumns = {
    device: new Int32Array(length),
    weights: new Int32Array(length),
    tokenSeconds: new Float64Array(length),
    count: new Int32Array(length),
  };
  let at = 0;
  for (const [row, { devices, observedSpeeds = [] }] of nodes.entries()) {
    for (const { deviceId, weightsSha256, tokenSeconds, count } of observedSpeeds) {
      const device = devices.findIndex((one) => one.deviceId === deviceId);
      columns.device[at] = device === -1 ? UNKNOWN : (packed.deviceFrom[row] ?? 0) + device;
      columns.weights[at] = names.add(weightsSha256);
      columns.tokenSeconds[at] = tokenSeconds;
      columns.count[at] = count;
      at += 1;
    }
  }
  return columns;
}

function packReplicas(
  all: readonly ReplicaFact[],
  by: { names: NameTable; rows: ReadonlyMap<NodeId, number>; nodes: readonly NodeFact[]; packed: NodeColumns },
): ReplicaColumns {
  const { length } = all;
  const columns: ReplicaColumns = {
    ids: all.map(({ replicaId }) => replicaId),
    node: new Int32Array(length),
    device: new Int32Array(length),
    model: new Int32Array(length),
    weights: new Int32Array(length),
    state: new Uint8Array(length),
    slots: new Int32Array(length),
    slotsLeased: new Int32Array(length),
    contextTokens: new Int32Array(length),
    memoryBytes: new Float64Array(length),
    lastUsedAtMs: new Float64Array(length),
    chain: new Int32Array(length),
    stageFirst: new Int32Array(length),
    stageCount: new Int32Array(length),
    isLast: new Uint8Array(length),
    loopMs: new Float64Array(length),
  };
  let row = 0;
  for (const replica of all) {
    const node = by.rows.get(replica.nodeId) ?? UNKNOWN;
    const at = by.nodes[node]?.devices.findIndex(({ deviceId }) => deviceId === replica.deviceId) ?? UNKNOWN;
    columns.node[row] = node;
    columns.device[row] = at === UNKNOWN ? UNKNOWN : (by.packed.deviceFrom[node] ?? 0) + at;
    columns.model[row] = by.names.add(replica.modelId);
    columns.weights[row] = by.names.add(replica.weightsSha256);
    columns.state[row] = REPLICA_STATES.indexOf(replica.state);
    columns.slots[row] = replica.slots;
    columns.slotsLeased[row] = replica.slotsLeased;
    columns.contextTokens[row] = replica.contextTokens;
    columns.memoryBytes[row] = replica.memoryBytes;
    columns.lastUsedAtMs[row] = replica.lastUsedAtMs;
    columns.chain[row] = by.names.add(replica.stage?.chainId);
    columns.stageFirst[row] = replica.stage?.first ?? 0;
    columns.stageCount[row] = replica.stage?.count ?? 0;
    columns.isLast[row] = replica.stage?.isLast === true ? 1 : 0;
    columns.loopMs[row] = replica.stage?.loopMs ?? Number.NaN;
    row += 1;
  }
  return columns;
}

function sortedDigests({ cachedWeights }: NodeFact): readonly string[] {
  return cachedWeights === undefined ? [] : [...cachedWeights].sort();
}
