/**
 * Reads a cluster file (docs/cluster-format.md) into the domain's `Cluster`. Every number is within a stated bound afterwards, every
 * table has an entry for each k, every id is unique and known, so that planners and simulators check nothing again.
 *
 * What is wrong is refused, several problems at once, each with its place, its value and the rule. What is only strange (a node
 * that no request can reach, a model that the nodes together cannot hold) is a warning: the planner says what follows from it.
 */
import { assert } from "../domain/assert.ts";
import type { Cluster, ClusterLink, ClusterNode, Curve, MachineProfile } from "../domain/cluster.ts";
import { no, type Outcome, ok } from "../domain/refusal.ts";
import { readLayouts } from "./cluster-layouts.ts";
import { readLinks } from "./cluster-links.ts";
import {
  type ClusterHead,
  clusterHeadSchema,
  LAYERS_MAX,
  type MachineTypeEntry,
  NODES_MAX,
  UNITS,
} from "./cluster-schema.ts";
import { clusterWarnings } from "./cluster-warnings.ts";
import { type FileRefusal, ProblemList, readJsonFile, showValue } from "./file-problems.ts";

/** A full mesh of a thousand nodes with long numbers takes half of it. */
export const CLUSTER_FILE_BYTES_MAX = 64 * 1024 * 1024;
/** Values of the head; ten thousand nodes with every field are a quarter of it. */
const HEAD_VALUES_MAX = 500_000;
const REFUSED = { code: "cluster-file-invalid", title: "the cluster file" } as const;

export interface ClusterFile {
  readonly cluster: Cluster;
  /** Sentences for a person; the cluster can be used. */
  readonly warnings: readonly string[];
}

/** `name` is the cluster's name when the file gives none, e.g. the file's own name. */
export function parseClusterFile(text: string, more: { readonly name: string }): Outcome<ClusterFile, FileRefusal> {
  const problems = new ProblemList();
  if (text.length > CLUSTER_FILE_BYTES_MAX) {
    problems.addSaid([], `${text.length} characters long`, `must have at most ${CLUSTER_FILE_BYTES_MAX}`);
    return no(problems.refusal(REFUSED));
  }
  const json = readJsonFile(text);
  if ("problem" in json)
    return no({ code: REFUSED.code, message: `the cluster file ${json.problem}`, problems: [], problemCount: 1 });
  const head = readHead(json.value, problems);
  if (head === null) return no(problems.refusal(REFUSED));
  const machines = readMachines(head, problems);
  const nodes = readNodes(head, machines, problems);
  const links = readLinks(head.links, new Set(head.nodes.map(({ id }) => id)), problems);
  // A node whose machine type is unknown has been told of; its layers are not held against the layouts as well.
  const layersMaxOf = new Map([
    ...head.nodes.map(({ id }) => [id, LAYERS_MAX] as const),
    ...nodes.map(({ id, layersMax }) => [id, layersMax] as const),
  ]);
  const layouts = readLayouts(head.layouts, { layerCount: head.numLayers, layersMaxOf }, problems);
  if (problems.count > 0) return no(problems.refusal(REFUSED));
  const cluster = { name: head.name ?? more.name, model: modelOf(head), nodes, links: inOrder(links, nodes), layouts };
  return ok({ cluster, warnings: [...fileWarnings(head), ...clusterWarnings(cluster)] });
}

function readHead(raw: unknown, problems: ProblemList): ClusterHead | null {
  if (
    typeof raw === "object" &&
    raw !== null &&
    "nodes" in raw &&
    Array.isArray(raw.nodes) &&
    raw.nodes.length > NODES_MAX
  ) {
    problems.add(["nodes"], raw.nodes, `must hold at most ${NODES_MAX} nodes`);
    return null;
  }
  if (headValues(raw) > HEAD_VALUES_MAX) {
    problems.addSaid([], "too long", `must have at most ${HEAD_VALUES_MAX} values beside links and layouts`);
    return null;
  }
  const parsed = clusterHeadSchema.safeParse(raw);
  if (parsed.success) return parsed.data;
  problems.addIssues(parsed.error, raw);
  return null;
}

/** Counts up to the bound and a little beyond, without recursion: a file may nest as deep as it is long. */
function headValues(raw: unknown): number {
  if (typeof raw !== "object" || raw === null) return 1;
  const stack: unknown[] = Object.entries(raw).flatMap(([key, value]) =>
    key === "links" || key === "layouts" ? [] : [value],
  );
  let count = stack.length;
  while (stack.length > 0 && count <= HEAD_VALUES_MAX) {
    const top = stack.pop();
    if (typeof top !== "object" || top === null) continue;
    for (const inner of Object.values(top)) {
      count++;
      if (typeof inner === "object" && inner !== null) stack.push(inner);
    }
  }
  return count;
}

function readMachines(head: ClusterHead, problems: ProblemList): Map<string, MachineProfile> {
  const machines = new Map<string, MachineProfile>();
  for (const [name, entry] of Object.entries(head.machineTypes)) {
    const path = ["machineTypes", name];
    for (const table of ["throughputByLayers", "kvCapacityByLayers", "settings"] as const) {
      for (let k = 1; k <= entry.maxLayers; k++) {
        const rule = `must be there: the table has an entry for each number of layers from 1 to maxLayers, ${entry.maxLayers}`;
        if (entry[table][k] === undefined) problems.add([...path, table, String(k)], undefined, rule);
      }
    }
    const held = Math.min(entry.maxLayers, head.numLayers) * head.layerBytes;
    if (held > entry.vram_size)
      problems.add(
        [...path, "maxLayers"],
        entry.maxLayers,
        `must fit vram_size: ${held} bytes of layers, ${entry.vram_size} of memory`,
      );
    machines.set(name, machineOf(name, entry, head));
  }
  return machines;
}

function machineOf(name: string, entry: MachineTypeEntry, head: ClusterHead): MachineProfile {
  const table = (at: (k: number) => number | undefined) =>
    Array.from({ length: entry.maxLayers + 1 }, (_, k) => (k === 0 ? 0 : (at(k) ?? 0)));
  const nic = Math.min(entry.inbound_nic_speed, entry.outbound_nic_speed) / head.activationBytes;
  const rate = (k: number) => {
    const measured = entry.throughputByLayers[k] ?? 0;
    return k >= head.numLayers ? measured : Math.min(measured, nic); // a whole model sends tokens, no hidden states
  };
  return {
    name,
    layersMax: entry.maxLayers,
    tokensPerSecondByLayers: table(rate),
    kvTokenLayersByLayers: table((k) => entry.kvCapacityByLayers[k]),
    promptSecondsPerLayer: curveOf(entry.promptTokens2secPerLayer),
    decodeSecondsPerLayer: curveOf(entry.decodeTokens2secPerLayer),
    limitsByLayers: Array.from({ length: entry.maxLayers + 1 }, (_, k) => {
      const at = entry.settings[k];
      return {
        promptRequestsMax: at?.prompt_max_requests ?? 0,
        promptTokensMax: at?.prompt_max_tokens ?? 0,
        decodeContextTokensMax: at?.decode_max_context ?? 0,
        decodeTokensMax: at?.decode_max_tokens ?? 0,
      };
    }),
    nicInBytesPerSecond: entry.inbound_nic_speed,
    nicOutBytesPerSecond: entry.outbound_nic_speed,
    vramBytes: entry.vram_size,
  };
}

/** Keys that are whole numbers come in ascending order, whatever their order in the text. */
function curveOf(points: Readonly<Record<string, number>>): Curve {
  return { x: Object.keys(points).map(Number), y: Object.values(points) };
}

function readNodes(
  head: ClusterHead,
  machines: ReadonlyMap<string, MachineProfile>,
  problems: ProblemList,
): ClusterNode[] {
  const seen = new Set<string>();
  const nodes: ClusterNode[] = [];
  head.nodes.forEach((node, at) => {
    const { id, type } = node;
    const machine = machines.get(type);
    if (seen.has(id))
      problems.add(["nodes", at, "id"], id, 'must be unique, another node has it (1 and "1" are the same id)');
    if (machine === undefined)
      problems.add(
        ["nodes", at, "type"],
        type,
        `must be one of machineTypes: ${[...machines.keys()].slice(0, 20).map(showValue).join(", ")}`,
      );
    else if (node.layersMax !== undefined && node.layersMax > machine.layersMax)
      problems.add(
        ["nodes", at, "layersMax"],
        node.layersMax,
        `must be at most ${machine.layersMax}, the maxLayers of ${showValue(type)}`,
      );
    seen.add(id);
    if (machine === undefined) return;
    nodes.push({
      id,
      machine,
      region: node.region ?? null,
      owner: node.owner ?? null,
      network: node.network ?? null,
      trust: node.trust ?? 1,
      priceMicroUsdPerHour: node.priceMicroUsdPerHour ?? 0,
      survivalPerHour: node.survivalPerHour ?? 1,
      gramsCo2PerHour: node.gramsCo2PerHour ?? 0,
      layersMax: Math.min(node.layersMax ?? machine.layersMax, head.numLayers),
    });
  });
  return nodes;
}

function modelOf(head: ClusterHead): Cluster["model"] {
  return {
    layerCount: head.numLayers,
    layerBytes: head.layerBytes,
    tokenBytes: head.tokenBytes,
    activationBytes: head.activationBytes,
    promptTokensMean: head.avgInputLen,
    outputTokensMean: head.avgOutputLen,
  };
}

/** Source, the nodes as listed, sink: the order of a file's links changes nothing. */
function inOrder(links: readonly ClusterLink[], nodes: readonly ClusterNode[]): ClusterLink[] {
  const rank = new Map(["source", ...nodes.map(({ id }) => id), "sink"].map((id, at) => [id, at]));
  const at = (id: string) => {
    const found = rank.get(id);
    assert(found !== undefined, "every end of a link is known");
    return found;
  };
  return links.toSorted((a, b) => at(a.from) - at(b.from) || at(a.to) - at(b.to));
}

function fileWarnings(head: ClusterHead): string[] {
  const warnings: string[] = [];
  if (head.units !== undefined && head.units !== UNITS)
    warnings.push(`units is ${showValue(head.units)}: the numbers are read as ${UNITS} all the same`);
  for (const [type, count] of Object.entries(head.machineCounts ?? {})) {
    const found = head.nodes.filter((node) => node.type === type).length;
    if (found !== count)
      warnings.push(`machineCounts says ${count} of ${showValue(type)}, nodes has ${found}: nodes holds`);
  }
  return warnings;
}
