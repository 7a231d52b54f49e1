/** Clusters small enough to work out by hand: 1 ms per prompt token and layer, 5 ms per decode step and layer, any batch. */
import type { Cluster, ClusterLink, ClusterNode, Layout, MachineProfile } from "../../src/domain/cluster.ts";

const LAYERS_MAX = 8;

export interface TinyNode {
  readonly id: string;
  /** Layers held: first and end. */
  readonly holds: readonly [number, number];
  readonly kvTokenLayers?: number;
  readonly promptRequestsMax?: number;
  /** Times the usual time. */
  readonly slowness?: number;
  readonly tokensPerSecond?: number;
}

export interface TinyLink {
  readonly bytesPerSecond?: number;
  readonly latencySeconds?: number;
}

export interface TinySettings {
  readonly layerCount: number;
  readonly nodes: readonly TinyNode[];
  /** By `from>to`; others have 1000 bytes per second and 0.1 s. */
  readonly links?: Readonly<Record<string, TinyLink>>;
  /** Ends of links that do not exist, as `from>to`. */
  readonly without?: readonly string[];
  readonly tokenBytes?: number;
  readonly activationBytes?: number;
}

export function tinyMachine(node: TinyNode): MachineProfile {
  const slowness = node.slowness ?? 1;
  const byLayers = (value: number): number[] => Array.from({ length: LAYERS_MAX + 1 }, () => value);
  const limits = {
    promptRequestsMax: node.promptRequestsMax ?? 1,
    promptTokensMax: 1000,
    decodeContextTokensMax: 100_000,
    decodeTokensMax: 100,
  };
  return {
    name: "tiny",
    layersMax: LAYERS_MAX,
    tokensPerSecondByLayers: byLayers(node.tokensPerSecond ?? 100),
    kvTokenLayersByLayers: byLayers(node.kvTokenLayers ?? 1_000_000),
    promptSecondsPerLayer: { x: [0, 1000], y: [0, slowness] },
    decodeSecondsPerLayer: { x: [0, 2, 100], y: [0, 0.005 * slowness, 0.005 * slowness] },
    limitsByLayers: Array.from({ length: LAYERS_MAX + 1 }, () => limits),
    nicInBytesPerSecond: 1e12,
    nicOutBytesPerSecond: 1e12,
    vramBytes: 1e12,
  };
}

export function tinyCluster(settings: TinySettings): { readonly cluster: Cluster; readonly layout: Layout } {
  const ids = settings.nodes.map(({ id }) => id);
  const linkOf = (from: string, to: string): ClusterLink => ({
    from,
    to,
    bytesPerSecond: settings.links?.[`${from}>${to}`]?.bytesPerSecond ?? 1000,
    latencySeconds: settings.links?.[`${from}>${to}`]?.latencySeconds ?? 0.1,
  });
  const ends = [
    ...ids.map((id): [string, string] => ["source", id]),
    ...ids.flatMap((from) => ids.filter((to) => to !== from).map((to): [string, string] => [from, to])),
    ...ids.map((id): [string, string] => [id, "sink"]),
  ];
  const nodes = settings.nodes.map(
    (node): ClusterNode => ({
      id: node.id,
      machine: tinyMachine(node),
      region: null,
      owner: null,
      network: null,
      trust: 1,
      priceMicroUsdPerHour: 0,
      survivalPerHour: 1,
      gramsCo2PerHour: 0,
      layersMax: LAYERS_MAX,
    }),
  );
  return {
    cluster: {
      name: "tiny",
      model: {
        layerCount: settings.layerCount,
        layerBytes: 1,
        tokenBytes: settings.tokenBytes ?? 1,
        activationBytes: settings.activationBytes ?? 0,
        promptTokensMean: 100,
        outputTokensMean: 10,
      },
      nodes,
      links: ends
        .filter(([from, to]) => !(settings.without ?? []).includes(`${from}>${to}`))
        .map((end) => linkOf(...end)),
      layouts: new Map(),
    },
    layout: new Map(settings.nodes.map(({ id, holds }) => [id, { first: holds[0], end: holds[1] }])),
  };
}
