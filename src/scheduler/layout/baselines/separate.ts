/**
 * Separate pipelines, one per machine type, as Helix's artefact lays them out; our own implementation, as a baseline. All machines of
 * a type share the model out evenly, in the order of the cluster file; where they can hold it several times over within their
 * limits, there are several pipelines. A type that holds the model only beyond its usual share of weights does so, with the KV room
 * that is left when the profile's table goes on as its last two entries do; a type that has no room at all is left out.
 */
import type { Cluster, LayerInterval, Layout, MachineProfile } from "../../../domain/cluster.ts";

export interface SeparatePipelines {
  readonly layout: Layout;
  /** Node ids of each pipeline: a request stays in the one where it starts. */
  readonly pipelines: readonly (readonly string[])[];
  /** Machine types that cannot hold the model. */
  readonly leftOut: readonly string[];
}

export function separateLayout(cluster: Cluster): SeparatePipelines {
  const { layerCount } = cluster.model;
  const byType = new Map<string, string[]>();
  for (const { id, machine } of cluster.nodes) byType.set(machine.name, [...(byType.get(machine.name) ?? []), id]);
  const layout = new Map<string, LayerInterval>();
  const pipelines: string[][] = [];
  const leftOut: string[] = [];
  for (const [name, ids] of byType) {
    const machine = cluster.nodes.find((node) => node.machine.name === name)?.machine;
    if (machine === undefined) continue;
    const shortest = Math.ceil(layerCount / machine.layersMax);
    const count = Math.max(1, Math.floor(ids.length / shortest));
    const perPipeline = Math.floor(ids.length / count);
    if (!hasRoom(cluster, machine, Math.ceil(layerCount / perPipeline))) {
      leftOut.push(name);
      continue;
    }
    for (let pipeline = 0; pipeline < count; pipeline++) {
      const members = ids.slice(pipeline * perPipeline, (pipeline + 1) * perPipeline).slice(0, layerCount);
      for (const [at, id] of members.entries()) layout.set(id, share(layerCount, { at, of: members.length }));
      pipelines.push(members);
    }
  }
  return { layout, pipelines, leftOut };
}

/** The longer shares first. */
function share(layerCount: number, part: { at: number; of: number }): LayerInterval {
  const short = Math.floor(layerCount / part.of);
  const longer = layerCount % part.of;
  const start = (at: number): number => at * short + Math.min(at, longer);
  return { first: start(part.at), end: start(part.at + 1) };
}

/** Weights fit, and KV for one mean request beside them. */
function hasRoom(cluster: Cluster, machine: MachineProfile, held: number): boolean {
  const { model } = cluster;
  if (held * model.layerBytes > machine.vramBytes) return false;
  return kvRoom(machine, held) >= held * (model.promptTokensMean + model.outputTokensMean);
}

function kvRoom(machine: MachineProfile, held: number): number {
  const table = machine.kvTokenLayersByLayers;
  const last = table.length - 1;
  const slope = (table[last] ?? 0) - (table[last - 1] ?? 0);
  return held <= last ? (table[held] ?? 0) : (table[last] ?? 0) + slope * (held - last);
}
