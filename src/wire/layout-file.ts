/**
 * Layout files: what `fallow plan --json` prints is what `fallow sim serve --layout` takes. A file names its format and version, the
 * cluster that it was made for and which node holds which layers; everything else in it (flow, bound, explanation) is for people and
 * is passed over here. A bare object of node ids with lists of layers, as in the Helix settings, is taken too.
 */
import { z } from "zod";
import type { Cluster, LayerInterval, Layout } from "../domain/cluster.ts";
import { no, type Outcome, ok } from "../domain/refusal.ts";
import { readLayout } from "./cluster-layouts.ts";
import { type FileRefusal, ProblemList, readJsonFile, showValue } from "./file-problems.ts";

export const LAYOUT_FORMAT = "fallow-layout";
export const LAYOUT_VERSION = 1;
/** Ten thousand nodes with a mesh of flow edges stay far below. */
export const LAYOUT_FILE_BYTES_MAX = 64 * 1024 * 1024;
const KV_TOKEN_LAYERS_MAX = 1e12;
const KV_RULE = `must be a number above 0 and at most ${KV_TOKEN_LAYERS_MAX} (tokens x layers)`;
const REFUSED = { code: "layout-file-invalid", title: "the layout file" } as const;

export interface LayoutFile {
  readonly layout: Layout;
  /** Node ids of pipelines that share nothing: a request stays in the one where it begins. Null: one graph. */
  readonly pipelines: readonly (readonly string[])[] | null;
  /** Whether a node may take a token over in the middle of its interval; null when the file does not say. */
  readonly isPartialAllowed: boolean | null;
  /** KV room of nodes where it is known better than by the profile, tokens x layers; such a node may hold all that its memory takes. */
  readonly kvTokenLayers: ReadonlyMap<string, number> | null;
  readonly warnings: readonly string[];
}

/** Unlike a cluster file, fields beside these are let through: they tell how the layout came about. */
const layoutFileSchema = z.object({
  format: z.literal(LAYOUT_FORMAT, { error: `must be ${JSON.stringify(LAYOUT_FORMAT)}` }),
  version: z.literal(LAYOUT_VERSION, { error: `must be ${LAYOUT_VERSION}: this program reads no other version` }),
  cluster: z.string({ error: "must be the name of the cluster" }).max(200, "must have at most 200 characters"),
  layers: z.number({ error: "must be the number of the model's layers" }),
  nodes: z.unknown(),
  pipelines: z.array(z.array(z.string()), { error: "must be a list of lists of node ids" }).nullish(),
  isPartialAllowed: z.boolean({ error: "must be true or false" }).nullish(),
  kvTokenLayers: z
    .record(z.string(), z.number({ error: KV_RULE }).positive(KV_RULE).max(KV_TOKEN_LAYERS_MAX, KV_RULE), {
      error: "must be an object: node id to tokens x layers",
    })
    .nullish(),
});

export function parseLayoutFile(text: string, cluster: Cluster): Outcome<LayoutFile, FileRefusal> {
  const json = text.length > LAYOUT_FILE_BYTES_MAX ? { problem: "is too long" } : readJsonFile(text);
  if ("problem" in json)
    return no({ code: REFUSED.code, message: `the layout file ${json.problem}`, problems: [], problemCount: 1 });
  const problems = new ProblemList();
  const found = isNamed(json.value)
    ? readNamed(json.value, cluster, problems)
    : readBare(json.value, cluster, problems);
  if (found === null || problems.count > 0) return no(problems.refusal(REFUSED));
  if (found.layout.size > 0) return ok(found);
  problems.addSaid([], "empty", "must give at least one node layers");
  return no(problems.refusal(REFUSED));
}

/** The `nodes` of a layout file, in the cluster's order. */
export function layoutEntries(layout: Layout, cluster: Cluster): Record<string, LayerInterval> {
  return Object.fromEntries(
    cluster.nodes.flatMap(({ id }) => {
      const held = layout.get(id);
      return held === undefined ? [] : [[id, { first: held.first, end: held.end }]];
    }),
  );
}

function isNamed(raw: unknown): boolean {
  return typeof raw === "object" && raw !== null && "format" in raw;
}

function readNamed(raw: unknown, cluster: Cluster, problems: ProblemList): LayoutFile | null {
  const parsed = layoutFileSchema.safeParse(raw);
  if (!parsed.success) {
    problems.addIssues(parsed.error, raw);
    return null;
  }
  const { data } = parsed;
  if (data.layers !== cluster.model.layerCount) {
    const rule = `must be ${cluster.model.layerCount}, the number of layers in the cluster file: the layout is of another model`;
    problems.add(["layers"], data.layers, rule);
  }
  const kvTokenLayers = data.kvTokenLayers == null ? null : new Map(Object.entries(data.kvTokenLayers));
  const layout = readLayout(data.nodes, { path: ["nodes"], bounds: boundsOf(cluster, kvTokenLayers), problems });
  for (const [id, room] of kvTokenLayers ?? [])
    if (!layout.has(id)) problems.add(["kvTokenLayers", id], room, "must be of a node of the layout");
  for (const [at, pipeline] of (data.pipelines ?? []).entries()) {
    for (const [place, id] of pipeline.entries())
      if (!layout.has(id)) problems.add(["pipelines", at, place], id, "must be a node of the layout");
  }
  const isOther = data.cluster !== cluster.name;
  return {
    layout,
    pipelines: data.pipelines ?? null,
    isPartialAllowed: data.isPartialAllowed ?? null,
    kvTokenLayers,
    warnings: isOther
      ? [`the layout was made for the cluster ${showValue(data.cluster)}, this is ${showValue(cluster.name)}`]
      : [],
  };
}

function readBare(raw: unknown, cluster: Cluster, problems: ProblemList): LayoutFile {
  const layout = readLayout(raw, { path: [], bounds: boundsOf(cluster, null), problems });
  return { layout, pipelines: null, isPartialAllowed: null, kvTokenLayers: null, warnings: [] };
}

function boundsOf({ model, nodes }: Cluster, kvTokenLayers: ReadonlyMap<string, number> | null) {
  const inMemory = (vramBytes: number): number => Math.min(model.layerCount, Math.floor(vramBytes / model.layerBytes));
  return {
    layerCount: model.layerCount,
    layersMaxOf: new Map(
      nodes.map(({ id, layersMax, machine }) => [
        id,
        kvTokenLayers?.has(id) === true ? Math.max(layersMax, inMemory(machine.vramBytes)) : layersMax,
      ]),
    ),
  };
}
