/** Means with their intervals, one row for each way of doing it: a dot and a line, so that what overlaps is seen to overlap. */
import { el, type Markup } from "./markup.ts";
import { COLOURS } from "./page.ts";
import { linearScale, readable, tickText } from "./scale.ts";

const WIDTH = 480;
const LEFT = 104;
const RIGHT = 160;
const TOP = 8;
const ROW = 26;
const BOTTOM = 42;
const LABEL_CHARS_MAX = 16;

export interface IntervalRow {
  readonly name: string;
  readonly mean: number;
  readonly low: number;
  readonly high: number;
  /** Place in the colours; the same for the same name in every plot. */
  readonly colour: number;
}

export function intervalPlot(plot: {
  readonly title: string;
  readonly label: string;
  readonly rows: readonly IntervalRow[];
}): Markup {
  const { rows } = plot;
  const low = Math.min(0, ...rows.map((row) => row.low));
  const high = Math.max(...rows.map((row) => row.high));
  const x = linearScale({ from: low, to: high, range: [LEFT, WIDTH - RIGHT] });
  const base = TOP + rows.length * ROW;
  // Half of the ticks: the plot is narrow and its numbers may be long.
  const ticks = x.ticks.filter((_, at) => at % 2 === 0);
  const drawing = el(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${base + BOTTOM}`, role: "img", "aria-label": plot.title },
    ...ticks.flatMap((tick) => [
      el("line", { class: "grid", x1: x.at(tick), x2: x.at(tick), y1: TOP, y2: base }),
      el("text", { class: "axis middle", x: x.at(tick), y: base + 16 }, tickText(tick, ticks)),
    ]),
    ...rows.flatMap((row, at) => rowMarks(row, TOP + at * ROW + ROW / 2, x.at)),
    el("text", { class: "axis middle", x: (LEFT + WIDTH - RIGHT) / 2, y: base + BOTTOM - 8 }, plot.label),
  );
  return el("figure", {}, el("h3", {}, plot.title), drawing);
}

function rowMarks(row: IntervalRow, y: number, at: (value: number) => number): Markup[] {
  const name = row.name.length > LABEL_CHARS_MAX ? `${row.name.slice(0, LABEL_CHARS_MAX - 1)}…` : row.name;
  const span = `${readable(row.low)} to ${readable(row.high)}`;
  const colour = `c${row.colour % COLOURS}`;
  return [
    el("text", { class: "end", x: LEFT - 10, y: y + 4 }, name, el("title", {}, row.name)),
    el("line", { class: `mark ${colour}`, x1: at(row.low), x2: at(row.high), y1: y, y2: y }),
    el(
      "circle",
      { class: `solid ${colour}`, cx: at(row.mean), cy: y, r: 4 },
      el("title", {}, `${row.name}: ${readable(row.mean)}, ${span}`),
    ),
    el("text", { class: "axis", x: WIDTH - RIGHT + 12, y: y + 4 }, `${readable(row.mean)} (${span})`),
  ];
}
