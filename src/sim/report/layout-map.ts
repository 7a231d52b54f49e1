/** Which node holds which layers: a row for each node, layers from left to right; below, how many nodes hold each layer. */
import type { Cluster, ClusterNode, Layout } from "../../domain/cluster.ts";
import { el, type Markup } from "./markup.ts";
import { nodeGroups } from "./node-groups.ts";
import { COLOURS, legend } from "./page.ts";
import { linearScale, tickText } from "./scale.ts";

const WIDTH = 980;
const LEFT = 190;
const RIGHT = 14;
const TOP = 26;
const ROW = 22;
const COPIES_HEIGHT = 64;
const BOTTOM = 46;
/** More rows are no picture any more; the note says how many are left out. */
export const ROWS_MAX = 300;
const LABEL_CHARS_MAX = 26;
/** Room for `12–24` in a bar. */
const BAR_TEXT_WIDTH = 44;
/** Of a digit at the size of the axis, with a little room. */
const CHARACTER_WIDTH = 8;

export function layoutMap({ cluster, layout }: { readonly cluster: Cluster; readonly layout: Layout }): Markup {
  const groupOf = nodeGroups(cluster);
  const groups = [...new Set(groupOf.values())].sort();
  const rows = cluster.nodes
    .map((node, at) => ({
      node,
      at,
      held: layout.get(node.id) ?? null,
      group: groups.indexOf(groupOf.get(node.id) ?? ""),
    }))
    .sort((a, b) => a.group - b.group || (a.held?.first ?? 1e9) - (b.held?.first ?? 1e9) || a.at - b.at);
  const shown = rows.slice(0, ROWS_MAX);
  const { layerCount } = cluster.model;
  const { at, ticks } = linearScale({ from: 0, to: layerCount, range: [LEFT, WIDTH - RIGHT], isTight: true });
  const mapHeight = TOP + shown.length * ROW;
  const height = mapHeight + COPIES_HEIGHT + BOTTOM;
  const drawing = el(
    "svg",
    { class: "broad", viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": "layers held by each node" },
    ...ticks.flatMap((tick) => [
      el("line", { class: "grid", x1: at(tick), x2: at(tick), y1: TOP, y2: mapHeight + COPIES_HEIGHT }),
      el("text", { class: "axis middle", x: at(tick), y: TOP - 9 }, tickText(tick, ticks)),
    ]),
    ...shown.flatMap(({ node, held, group }, row) => nodeRow({ node, held, group, top: TOP + row * ROW, at })),
    ...copies(cluster, layout, { top: mapHeight, at }),
    el("text", { class: "axis middle", x: (LEFT + WIDTH - RIGHT) / 2, y: height - 6 }, "layer of the model"),
  );
  const rest = rows.length - shown.length;
  return el(
    "figure",
    {},
    legend(groups),
    el("div", { class: "wide" }, drawing),
    ...(rest > 0 ? [el("figcaption", {}, `${rest} further nodes are not drawn.`)] : []),
  );
}

interface Row {
  readonly node: ClusterNode;
  readonly held: { readonly first: number; readonly end: number } | null;
  readonly group: number;
  readonly top: number;
  readonly at: (layer: number) => number;
}

function nodeRow({ node, held, group, top, at }: Row): Markup[] {
  const label = `${node.id} · ${node.machine.name}`;
  const text = label.length > LABEL_CHARS_MAX ? `${label.slice(0, LABEL_CHARS_MAX - 1)}…` : label;
  const name = el(
    "text",
    { class: held === null ? "axis end" : "end", x: LEFT - 10, y: top + ROW - 7 },
    text,
    el("title", {}, label),
  );
  if (held === null) return [name, el("text", { class: "axis", x: LEFT + 6, y: top + ROW - 7 }, "holds nothing")];
  const left = at(held.first);
  const width = at(held.end) - left;
  const range = held.end - held.first === 1 ? String(held.first) : `${held.first}–${held.end - 1}`;
  const said = `${label}: layers ${range}, ${held.end - held.first} of at most ${node.layersMax}`;
  return [
    name,
    el(
      "rect",
      {
        class: `bar c${group % COLOURS}`,
        x: left + 1,
        y: top + 3,
        width: Math.max(2, width - 2),
        height: ROW - 6,
        rx: 3,
      },
      el("title", {}, said),
    ),
    rangeText(range, { left, width, top }),
  ];
}

/** In the bar where it has room, else beside it, on the side where the drawing goes on. */
function rangeText(
  range: string,
  bar: { readonly left: number; readonly width: number; readonly top: number },
): Markup {
  const { left, width, top } = bar;
  const y = top + ROW - 7;
  if (width >= BAR_TEXT_WIDTH) return el("text", { class: "middle", x: left + width / 2, y }, range);
  if (left + width + 5 + CHARACTER_WIDTH * range.length < WIDTH)
    return el("text", { class: "axis", x: left + width + 5, y }, range);
  return el("text", { class: "axis end", x: left - 5, y }, range);
}

/** How many nodes hold each layer: a layer that none holds stops everything. */
function copies(
  cluster: Cluster,
  layout: Layout,
  place: { readonly top: number; readonly at: (layer: number) => number },
): Markup[] {
  const { layerCount } = cluster.model;
  const counts = Array.from({ length: layerCount }, () => 0);
  for (const { first, end } of layout.values())
    for (let layer = first; layer < end; layer++) counts[layer] = (counts[layer] ?? 0) + 1;
  const most = Math.max(1, ...counts);
  const base = place.top + COPIES_HEIGHT;
  const scale = (COPIES_HEIGHT - 18) / most;
  return [
    el("text", { class: "axis end", x: LEFT - 10, y: base - 4 }, "nodes with the layer"),
    el("text", { class: "axis end", x: LEFT - 10, y: base - most * scale + 8 }, `at most ${most}`),
    el("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: base, y2: base }),
    ...counts.map((count, layer) =>
      el(
        "rect",
        {
          class: count === 0 ? "solid c7" : "area c0",
          x: place.at(layer),
          y: base - Math.max(count * scale, 2),
          width: place.at(1) - place.at(0),
          height: Math.max(count * scale, 2),
        },
        el("title", {}, `layer ${layer}: ${count === 1 ? "1 node" : `${count} nodes`}`),
      ),
    ),
  ];
}
