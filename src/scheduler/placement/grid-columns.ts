/**
 * A snapshot as columns: one typed array for each property, rows in the order of ids, however they arrived. Packing 1,000 nodes takes about a
 * millisecond, and the arrays go to another thread without being copied, where a copy of the objects themselves would stand in
 * every stream's way. Names (regions, owners, digests, devices) are numbers into one table.
 */
import { usableBytes } from "../../domain/hardware.ts";
import type { ModelId, NodeId, ReplicaId } from "../../domain/ids.ts";
import type { ReplicaState } from "../../domain/node.ts";
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
}

export interface GridColumns {
  readonly version: number;
  readonly names: readonly string[];
  readonly nodes: NodeColumns;
  readonly devices: DeviceColumns;
  /** Digests that nodes hold, as names. */
  readonly cached: Int32Array<ArrayBuffer>;
  readonly links: LinkColumns;
  readonly replicas: ReplicaColumns;
}

export function packGrid(snapshot: Snapshot): GridColumns {
  const names = new NameTable();
  const nodes = [...snapshot.nodes.values()].sort((a, b) => (a.nodeId < b.nodeId ? -1 : 1));
  const held = [...snapshot.replicas].sort((a, b) => (a.replicaId < b.replicaId ? -1 : 1));
  const rows = new Map(nodes.map((node, row) => [node.nodeId, row]));
  const deviceRows = new Map<string, number>();
  const packed = packNodes(nodes, names);
  const devices = packDevices(nodes, { names, deviceRows });
  const replicas = packReplicas(held, { names, rows, deviceRows });
  return {
    version: snapshot.version,
    nodes: packed,
    devices,
    cached: Int32Array.from(nodes.flatMap((node) => sortedDigests(node).map((digest) => names.add(digest)))),
    links: packLinks(nodes, rows),
    replicas,
    names: names.list,
  };
}

/** What a thread may take over instead of copying it. The question cannot be used here after that. */
export function buffersOf(grid: GridColumns): readonly ArrayBuffer[] {
  const arrays = [grid.cached, ...[grid.nodes, grid.devices, grid.links, grid.replicas].flatMap(Object.values)];
  return arrays.flatMap((column: unknown) =>
    column instanceof Float64Array || column instanceof Int32Array || column instanceof Uint8Array
      ? [column.buffer as ArrayBuffer] // packGrid makes no shared ones
      : [],
  );
}

export function stateOf(replicas: ReplicaColumns, row: number): ReplicaState {
  return REPLICA_STATES[replicas.state[row] ?? 0] ?? "gone";
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

function packNodes(nodes: readonly NodeFact[], names: NameTable): NodeColumns {
  const floats = (of: (node: NodeFact) => number) => Float64Array.from(nodes, of);
  return {
    ids: nodes.map(({ nodeId }) => nodeId),
    obstacle: Uint8Array.from(nodes, (node) => OBSTACLES.indexOf(nodeObstacle(node))),
    hasStageServing: Uint8Array.from(nodes, (node) => (node.hasStageServing === true ? 1 : 0)),
    decodeTokPerSecond: floats((node) => node.decodeTokPerSecond ?? Number.NaN),
    trust: floats((node) => node.trust ?? 1),
    priceMicroUsdPerHour: floats((node) => node.priceMicroUsdPerHour ?? 0),
    gramsCo2PerHour: floats((node) => node.gramsCo2PerHour ?? 0),
    stayChance: floats((node) => node.stayChance ?? 1),
    region: Int32Array.from(nodes, (node) => names.add(node.region)),
    owner: Int32Array.from(nodes, (node) => names.add(node.owner)),
    network: Int32Array.from(nodes, (node) => names.add(node.network)),
    deviceFrom: offsets(nodes, (node) => node.devices.length),
    cachedFrom: offsets(nodes, (node) => node.cachedWeights?.size ?? 0),
    linkFrom: offsets(nodes, (node) => node.links?.length ?? 0),
  };
}

function packDevices(
  nodes: readonly NodeFact[],
  into: { names: NameTable; deviceRows: Map<string, number> },
): DeviceColumns {
  const all = nodes.flatMap((node) => node.devices.map((device) => ({ node, device })));
  all.forEach(({ node, device }, row) => {
    into.deviceRows.set(`${node.nodeId} ${device.deviceId}`, row);
  });
  return {
    name: Int32Array.from(all, ({ device }) => into.names.add(device.deviceId)),
    isGpu: Uint8Array.from(all, ({ device }) => (device.kind === "gpu" ? 1 : 0)),
    usableBytes: Float64Array.from(all, ({ device }) => usableBytes(device)),
  };
}

function packLinks(nodes: readonly NodeFact[], rows: ReadonlyMap<NodeId, number>): LinkColumns {
  const all = nodes.flatMap((node) => node.links ?? []);
  return {
    to: Int32Array.from(all, ({ to }) => rows.get(to) ?? UNKNOWN),
    rttMs: Float64Array.from(all, ({ rttMs }) => rttMs),
    bytesPerSecond: Float64Array.from(all, ({ bytesPerSecond }) => bytesPerSecond),
  };
}

function packReplicas(
  all: readonly ReplicaFact[],
  by: { names: NameTable; rows: ReadonlyMap<NodeId, number>; deviceRows: ReadonlyMap<string, number> },
): ReplicaColumns {
  const ints = (of: (replica: ReplicaFact) => number) => Int32Array.from(all, of);
  const floats = (of: (replica: ReplicaFact) => number) => Float64Array.from(all, of);
  return {
    ids: all.map(({ replicaId }) => replicaId),
    node: ints(({ nodeId }) => by.rows.get(nodeId) ?? UNKNOWN),
    device: ints(({ nodeId, deviceId }) => by.deviceRows.get(`${nodeId} ${deviceId}`) ?? UNKNOWN),
    model: ints(({ modelId }) => by.names.add(modelId)),
    weights: ints(({ weightsSha256 }) => by.names.add(weightsSha256)),
    state: Uint8Array.from(all, ({ state }) => REPLICA_STATES.indexOf(state)),
    slots: ints(({ slots }) => slots),
    slotsLeased: ints(({ slotsLeased }) => slotsLeased),
    contextTokens: ints(({ contextTokens }) => contextTokens),
    memoryBytes: floats(({ memoryBytes }) => memoryBytes),
    lastUsedAtMs: floats(({ lastUsedAtMs }) => lastUsedAtMs),
  };
}

function offsets(nodes: readonly NodeFact[], lengthOf: (node: NodeFact) => number): Int32Array<ArrayBuffer> {
  const from = new Int32Array(nodes.length + 1);
  nodes.forEach((node, row) => {
    from[row + 1] = (from[row] ?? 0) + lengthOf(node);
  });
  return from;
}

function sortedDigests({ cachedWeights }: NodeFact): readonly string[] {
  return cachedWeights === undefined ? [] : [...cachedWeights].sort();
}
