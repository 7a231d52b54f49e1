/**
 * Which node holds which layers, as files say it: a list of layer ids (`[7, 8, 9]`, as in the Helix settings) or a half-open interval
 * (`{"first": 7, "end": 10}`). A node that is absent, or has an empty list, holds none.
 */
import type { LayerInterval, Layout } from "../domain/cluster.ts";
import type { PathPart, ProblemList } from "./file-problems.ts";

export const LAYOUTS_MAX = 64;
export const LAYOUT_NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/;

/** What a layout must fit: how many layers there are, and how many each node can hold. */
export interface LayoutBounds {
  readonly layerCount: number;
  readonly layersMaxOf: ReadonlyMap<string, number>;
}

export function readLayouts(raw: unknown, bounds: LayoutBounds, problems: ProblemList): Map<string, Layout> {
  const layouts = new Map<string, Layout>();
  if (raw === undefined) return layouts;
  if (!isObject(raw)) {
    problems.add(["layouts"], raw, "must be an object: name to layout");
    return layouts;
  }
  const entries = Object.entries(raw);
  if (entries.length > LAYOUTS_MAX) {
    problems.addSaid(["layouts"], `${entries.length} layouts`, `must hold at most ${LAYOUTS_MAX} layouts`);
    return layouts;
  }
  for (const [name, layout] of entries) {
    if (LAYOUT_NAME_PATTERN.test(name))
      layouts.set(name, readLayout(layout, { path: ["layouts", name], bounds, problems }));
    else problems.add(["layouts", name], layout, "must be named by 1 to 64 letters, digits, _, - and .");
  }
  return layouts;
}

export function readLayout(
  raw: unknown,
  more: { readonly path: readonly PathPart[]; readonly bounds: LayoutBounds; readonly problems: ProblemList },
): Layout {
  const { path, bounds, problems } = more;
  const layout = new Map<string, LayerInterval>();
  if (!isObject(raw)) {
    problems.add(path, raw, "must be an object: node id to layers");
    return layout;
  }
  for (const [id, layers] of Object.entries(raw)) {
    const here = [...path, id];
    const layersMax = bounds.layersMaxOf.get(id);
    const interval = readInterval(layers);
    if (layersMax === undefined) problems.add(here, layers, "must be the id of a node of the cluster");
    else if (typeof interval === "string") problems.add(here, layers, interval);
    else if (interval !== null && interval.end > bounds.layerCount)
      problems.addSaid(
        here,
        `layer ${interval.end - 1}`,
        `must be a layer of the model: 0 to ${bounds.layerCount - 1}`,
      );
    else if (interval !== null && interval.end - interval.first > layersMax)
      problems.addSaid(
        here,
        `${interval.end - interval.first} layers`,
        `must be at most ${layersMax}, which is what the node can hold`,
      );
    else if (interval !== null) layout.set(id, interval);
  }
  return layout;
}

/** Null: no layers. A text: what is wrong. */
function readInterval(raw: unknown): LayerInterval | null | string {
  if (Array.isArray(raw)) {
    const ids: readonly unknown[] = raw;
    const first = ids[0];
    if (first === undefined) return null;
    if (!isLayer(first)) return "must be a list of layer numbers";
    const gap = ids.findIndex((id, at) => id !== first + at);
    return gap === -1
      ? { first, end: first + ids.length }
      : `must be one run of layers: ${first + gap} has to stand at place ${gap}, there is ${String(JSON.stringify(ids[gap])).slice(0, 40)}`;
  }
  if (!isObject(raw)) return "must be a list of layer numbers, or an object with first and end";
  const { first, end, ...others } = raw;
  if (Object.keys(others).length > 0)
    return `has an unknown field ${JSON.stringify(Object.keys(others)[0])}; known are first, end`;
  return isLayer(first) && isLayer(end) && first < end
    ? { first, end }
    : "must have whole numbers first and end, with 0 <= first < end";
}

function isLayer(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
