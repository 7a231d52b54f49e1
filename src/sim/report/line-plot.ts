/** Lines over a pair of axes with units, grid and ticks. The legend stands beside it, in HTML. */
import { el, type Markup } from "./markup.ts";
import { COLOURS, legend } from "./page.ts";
import { linearScale, logScale, type Scale, tickText } from "./scale.ts";

export interface Axis {
  /** With the unit, e.g. `seconds`. */
  readonly label: string;
  readonly isLog?: boolean;
  /** Ends of the axis; taken from the points where they are not given. */
  readonly from?: number;
  readonly to?: number;
  readonly isPercent?: boolean;
}

export interface Line {
  readonly name: string;
  /** By ascending x. */
  readonly points: readonly (readonly [x: number, y: number])[];
  /** Holds its value until the next point. */
  readonly isStepped?: boolean;
}

/** A level that the lines are to be read against. */
export interface Level {
  readonly name: string;
  readonly y: number;
}

export interface LinePlot {
  readonly title: string;
  readonly x: Axis;
  readonly y: Axis;
  readonly lines: readonly Line[];
  readonly levels?: readonly Level[];
}

const WIDTH = 480;
const HEIGHT = 270;
/** For the name of the axis; its numbers come on top. */
const LEFT_MIN = 28;
/** Digits are about so wide at 12 px. */
const CHAR_WIDTH = 7;
/** Half of a long number at the end of the axis. */
const RIGHT = 24;
const TOP = 16;
const BOTTOM = 44;
/** More points than pixels show nothing more. */
const POINTS_MAX = 600;
const LEVEL_TEXT_GAP = 5;

export function linePlot(plot: LinePlot): Markup {
  const lines = plot.lines.map((line) => ({ ...line, points: thinned(line.points) }));
  const xs = lines.flatMap(({ points }) => points.map(([x]) => x));
  const ys = [...lines.flatMap(({ points }) => points.map(([, y]) => y)), ...(plot.levels ?? []).map(({ y }) => y)];
  const y = scaleOf(plot.y, ys, { range: [HEIGHT - BOTTOM, TOP], isTight: false });
  const left = LEFT_MIN + CHAR_WIDTH * Math.max(...y.ticks.map((tick) => textOf(plot.y, y, tick).length));
  const x = scaleOf(plot.x, xs, { range: [left, WIDTH - RIGHT], isTight: true });
  const drawing = el(
    "svg",
    { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": plot.title },
    ...axisX(plot.x, x, left),
    ...axisY(plot.y, y, left),
    ...(plot.levels ?? []).flatMap((level) => levelMark(level, y, left)),
    ...lines.map((line, at) => el("path", { class: `curve c${at % COLOURS}`, d: pathOf(line, { x, y }) })),
  );
  return el(
    "figure",
    {},
    el("h3", {}, plot.title),
    ...(lines.length > 1
      ? [
          legend(
            lines.map(({ name }) => name),
            "line",
          ),
        ]
      : []),
    drawing,
  );
}

function scaleOf(
  axis: Axis,
  values: readonly number[],
  place: { readonly range: readonly [number, number]; readonly isTight: boolean },
): Scale {
  const known = values.filter((value) => Number.isFinite(value) && (axis.isLog !== true || value > 0));
  const least = axis.from ?? known.reduce((low, value) => Math.min(low, value), Number.POSITIVE_INFINITY);
  const most = axis.to ?? known.reduce((high, value) => Math.max(high, value), Number.NEGATIVE_INFINITY);
  if (axis.isLog === true) {
    const from = Number.isFinite(least) && least > 0 ? least : 0.1;
    return logScale({ from, to: Number.isFinite(most) ? most : from * 10, range: place.range });
  }
  return linearScale({ from: least, to: most, ...place });
}

function textOf(axis: Axis, scale: Scale, value: number): string {
  if (axis.isPercent === true) return `${Math.round(value * 100)} %`;
  return axis.isLog === true ? String(Number(value.toPrecision(2))) : tickText(value, scale.ticks);
}

function axisX(axis: Axis, scale: Scale, left: number): Markup[] {
  const y = HEIGHT - BOTTOM;
  return [
    ...scale.ticks.flatMap((tick) => [
      el("line", { class: "grid", x1: scale.at(tick), x2: scale.at(tick), y1: TOP, y2: y }),
      el("text", { class: "axis middle", x: scale.at(tick), y: y + 17 }, textOf(axis, scale, tick)),
    ]),
    el("text", { class: "axis middle", x: (left + WIDTH - RIGHT) / 2, y: HEIGHT - 8 }, axis.label),
  ];
}

function axisY(axis: Axis, scale: Scale, left: number): Markup[] {
  const middle = (TOP + HEIGHT - BOTTOM) / 2;
  return [
    ...scale.ticks.flatMap((tick) => [
      el("line", { class: "grid", x1: left, x2: WIDTH - RIGHT, y1: scale.at(tick), y2: scale.at(tick) }),
      el("text", { class: "axis end", x: left - 6, y: scale.at(tick) + 4 }, textOf(axis, scale, tick)),
    ]),
    el("text", { class: "axis middle", x: 12, y: middle, transform: `rotate(-90 12 ${middle})` }, axis.label),
  ];
}

function levelMark(level: Level, y: Scale, left: number): Markup[] {
  const place = y.at(level.y);
  return [
    el("line", { class: "rule", x1: left, x2: WIDTH - RIGHT, y1: place, y2: place }),
    el("text", { class: "axis", x: left + 6, y: place - LEVEL_TEXT_GAP }, level.name),
  ];
}

function pathOf(line: Line, scales: { readonly x: Scale; readonly y: Scale }): string {
  let text = "";
  let isDrawing = false;
  for (const [px, py] of line.points) {
    const place = [scales.x.at(px), scales.y.at(py)] as const;
    if (!place.every(Number.isFinite)) {
      isDrawing = false;
      continue;
    }
    const [left, top] = place.map((at) => at.toFixed(1));
    if (!isDrawing) text += `M${left} ${top}`;
    else text += line.isStepped === true ? `H${left}V${top}` : `L${left} ${top}`;
    isDrawing = true;
  }
  return text;
}

/** Keeps the first, the last and evenly spaced ones between. */
function thinned(points: Line["points"]): Line["points"] {
  if (points.length <= POINTS_MAX) return points;
  const step = (points.length - 1) / (POINTS_MAX - 1);
  return Array.from({ length: POINTS_MAX }, (_, at) => points[Math.round(at * step)] ?? [Number.NaN, Number.NaN]);
}

/** Shares of values at or below each value, of an ascending list. */
export function distribution(sorted: ArrayLike<number>): (readonly [number, number])[] {
  return Array.from({ length: sorted.length }, (_, at) => [sorted[at] ?? 0, (at + 1) / sorted.length] as const);
}
