/**
 * A cluster as dense tables: node number -> what it can do with k layers, node pair -> what the link carries. The search asks
 * these questions hundreds of thousands of times a second, so they are typed arrays, and every limit that does not depend on the
 * layout (NICs, VRAM, the room for one request's KV) is already folded in.
 */
import { type Cluster, type ClusterNode, interpolate, SINK, SOURCE } from "../../domain/cluster.ts";

/** A link slower than this belongs to a wide-area network: a local one answers well below it, another town does not. */
export const SLOW_LINK_SECONDS = 0.005;
/** 1 Gbit/s, the slowest local network that is still sold. */
export const SLOW_LINK_BYTES_PER_SECOND = 125_000_000;

/** Sequences in what counts as a small decode batch. */
const SMALL_BATCH = 8;

export interface ClusterTables {
  readonly cluster: Cluster;
  readonly nodeCount: number;
  readonly layerCount: number;
  readonly nodes: readonly ClusterNode[];
  /** Whether any node says who owns it or which network it is in. */
  readonly hasDomains: boolean;
  readonly indexById: ReadonlyMap<string, number>;
  /** Row length of the two tables by layers held: `row(node) + k`. */
  readonly stride: number;
  /** Tokens per second through the node with k layers, NICs considered; 0 when it cannot hold k layers. */
  readonly tokensPerSecond: Float64Array;
  /** KV room in tokens x layers with k layers; 0 when it cannot hold k layers. */
  readonly kvTokenLayers: Float64Array;
  /** Most layers of this node that its VRAM, its owner and the room for one mean request allow; 0 when it cannot serve. */
  readonly layersMax: Int32Array;
  /** Seconds that one layer takes for a small decode batch. */
  readonly layerSeconds: Float64Array;
  /** Tokens per second over the link i -> j, at `i * nodeCount + j`; 0 where there is no link. */
  readonly linkTokensPerSecond: Float64Array;
  readonly linkLatencySeconds: Float64Array;
  /** Seconds that one token's activation takes on the link, without latency. */
  readonly linkSecondsPerToken: Float64Array;
  /** 1 where the link is wide-area. */
  readonly linkIsSlow: Uint8Array;
  readonly sourceTokensPerSecond: Float64Array;
  readonly sourceLatencySeconds: Float64Array;
  readonly sinkTokensPerSecond: Float64Array;
  readonly sinkLatencySeconds: Float64Array;
}

/** `contextTokens`: tokens of one request that a node must have KV room for; a mean request's when not said. */
export function clusterTables(cluster: Cluster, contextTokens?: number): ClusterTables {
  const { nodes, model } = cluster;
  const nodeCount = nodes.length;
  const indexById = new Map(nodes.map((node, index) => [node.id, index]));
  const stride = Math.max(0, ...nodes.map((node) => heldMax(node, model.layerCount))) + 1;
  const tables: ClusterTables = {
    cluster,
    nodeCount,
    layerCount: model.layerCount,
    nodes,
    hasDomains: nodes.some(({ owner, network }) => owner !== null || network !== null),
    indexById,
    stride,
    tokensPerSecond: new Float64Array(nodeCount * stride),
    kvTokenLayers: new Float64Array(nodeCount * stride),
    layersMax: new Int32Array(nodeCount),
    layerSeconds: Float64Array.from(nodes, ({ machine }) => interpolate(machine.decodeSecondsPerLayer, SMALL_BATCH)),
    linkTokensPerSecond: new Float64Array(nodeCount * nodeCount),
    linkLatencySeconds: new Float64Array(nodeCount * nodeCount),
    linkSecondsPerToken: new Float64Array(nodeCount * nodeCount),
    linkIsSlow: new Uint8Array(nodeCount * nodeCount),
    sourceTokensPerSecond: new Float64Array(nodeCount),
    sourceLatencySeconds: new Float64Array(nodeCount),
    sinkTokensPerSecond: new Float64Array(nodeCount),
    sinkLatencySeconds: new Float64Array(nodeCount),
  };
  const requestTokens = contextTokens ?? model.promptTokensMean + model.outputTokensMean;
  for (const [index, node] of nodes.entries()) fillNode(tables, { index, node, requestTokens });
  fillLinks(tables);
  return tables;
}

/** Layers that profile, owner and model allow, before the question of KV room. */
function heldMax(node: ClusterNode, layerCount: number): number {
  const { machine } = node;
  const tableMax = Math.min(machine.tokensPerSecondByLayers.length, machine.kvTokenLayersByLayers.length) - 1;
  return Math.max(0, Math.min(node.layersMax, machine.layersMax, tableMax, layerCount));
}

function fillNode(tables: ClusterTables, of: { index: number; node: ClusterNode; requestTokens: number }): void {
  const { index, node, requestTokens } = of;
  const { model } = tables.cluster;
  const { machine } = node;
  const nicBytesPerSecond = Math.min(machine.nicInBytesPerSecond, machine.nicOutBytesPerSecond);
  const nicTokensPerSecond = nicBytesPerSecond / model.activationBytes;
  let most = 0;
  for (let k = 1; k <= heldMax(node, tables.layerCount); k++) {
    const kv = machine.kvTokenLayersByLayers[k] ?? 0;
    if (k * model.layerBytes > machine.vramBytes || kv < k * requestTokens) continue;
    const compute = machine.tokensPerSecondByLayers[k] ?? 0;
    if (compute <= 0) continue;
    tables.tokensPerSecond[index * tables.stride + k] = Math.min(compute, nicTokensPerSecond);
    tables.kvTokenLayers[index * tables.stride + k] = kv;
    most = k;
  }
  tables.layersMax[index] = most;
}

function fillLinks(tables: ClusterTables): void {
  const { cluster, indexById, nodeCount } = tables;
  const { activationBytes, tokenBytes } = cluster.model;
  for (const link of cluster.links) {
    const from = indexById.get(link.from);
    const to = indexById.get(link.to);
    if (from !== undefined && to !== undefined) {
      const at = from * nodeCount + to;
      tables.linkTokensPerSecond[at] = link.bytesPerSecond / activationBytes;
      tables.linkSecondsPerToken[at] = activationBytes / link.bytesPerSecond;
      tables.linkLatencySeconds[at] = link.latencySeconds;
      const isSlow = link.latencySeconds > SLOW_LINK_SECONDS || link.bytesPerSecond < SLOW_LINK_BYTES_PER_SECOND;
      tables.linkIsSlow[at] = isSlow ? 1 : 0;
    } else if (link.from === SOURCE && to !== undefined) {
      tables.sourceTokensPerSecond[to] = link.bytesPerSecond / tokenBytes;
      tables.sourceLatencySeconds[to] = link.latencySeconds;
    } else if (link.to === SINK && from !== undefined) {
      tables.sinkTokensPerSecond[from] = link.bytesPerSecond / tokenBytes;
      tables.sinkLatencySeconds[from] = link.latencySeconds;
    }
  }
}
