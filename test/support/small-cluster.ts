/** A cluster file as a value, small enough to read: two kinds of machine, four nodes, a model of six layers. Tests change a copy. */
function machine(layersMax: number, speed: number): Record<string, unknown> {
  const byLayers = (of: (k: number) => unknown) =>
    Object.fromEntries(Array.from({ length: layersMax }, (_, at) => [String(at + 1), of(at + 1)]));
  const limits = {
    prompt_max_requests: 2,
    prompt_max_tokens: 4_096,
    decode_max_context: 100_000,
    decode_max_tokens: 64,
  };
  return {
    inbound_nic_speed: 1e9,
    outbound_nic_speed: 1e9,
    vram_size: 8e9,
    maxLayers: layersMax,
    throughputByLayers: byLayers((k) => speed / k),
    kvCapacityByLayers: byLayers((k) => 200_000 - 10_000 * k),
    promptTokens2secPerLayer: { "0": 0, "1000": 0.02, "4000": 0.09 },
    decodeTokens2secPerLayer: { "0": 0, "8": 0.004, "64": 0.01 },
    settings: byLayers(() => limits),
  };
}

export interface ClusterValue extends Record<string, unknown> {
  machineTypes: Record<string, Record<string, unknown>>;
  nodes: Record<string, unknown>[];
  links: unknown[][];
  layouts: Record<string, unknown>;
}

export function smallCluster(): ClusterValue {
  const nodes: Record<string, unknown>[] = [
    { id: 0, type: "big", region: null },
    { id: 1, type: "small" },
    { id: "n-2", type: "small" },
    { id: 3, type: "big" },
  ];
  const ids = nodes.map(({ id }) => String(id));
  const links: unknown[][] = [
    ...ids.map((id) => ["source", id, 1e8, 0.01]),
    ...ids.map((id) => [id, "sink", 1e8, 0.01]),
    ...ids.flatMap((from, at) => ids.slice(at + 1).map((to) => [from, to, 2e8, 0.002])),
  ];
  return {
    source: "made for tests",
    units: "bytes, bytes/s, seconds, tokens/s",
    numLayers: 6,
    layerBytes: 1e9,
    tokenBytes: 2,
    activationBytes: 8_192,
    avgInputLen: 500,
    avgOutputLen: 100,
    machineCounts: { big: 2, small: 2 },
    machineTypes: { big: machine(4, 4_000), small: machine(2, 1_500) },
    nodes,
    links,
    layouts: { ilp: { "0": [0, 1, 2, 3], "1": [4, 5], "n-2": [], "3": [2, 3, 4, 5] } },
  };
}
