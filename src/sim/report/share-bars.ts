/** Shares of something used, as bars from 0 to 100 %: one row for each node or link, with a mark for a second share. */
import { el, type Markup } from "./markup.ts";
import { legend } from "./page.ts";
import { percent } from "./scale.ts";

const WIDTH = 980;
const LEFT = 190;
const RIGHT = 210;
const TOP = 24;
const ROW = 20;
export const ROWS_MAX = 120;
const LABEL_CHARS_MAX = 26;
const TICKS = [0, 0.25, 0.5, 0.75, 1] as const;

export interface ShareRow {
  readonly label: string;
  readonly share: number;
  /** Null: no mark. */
  readonly mark: number | null;
  /** Figures at the end of the row. */
  readonly remark: string;
}

export interface ShareBars {
  readonly title: string;
  readonly shareName: string;
  /** Null when no row has a mark. */
  readonly markName: string | null;
  /** In the order in which they are drawn. */
  readonly rows: readonly ShareRow[];
}

export function shareBars(bars: ShareBars): Markup {
  const shown = bars.rows.slice(0, ROWS_MAX);
  const height = TOP + shown.length * ROW + 6;
  const at = (share: number) => LEFT + Math.min(1, Math.max(0, share)) * (WIDTH - RIGHT - LEFT);
  const drawing = el(
    "svg",
    { class: "broad", viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": bars.title },
    ...TICKS.flatMap((tick) => [
      el("line", { class: "grid", x1: at(tick), x2: at(tick), y1: TOP - 4, y2: height - 6 }),
      el("text", { class: "axis middle", x: at(tick), y: TOP - 9 }, percent(tick)),
    ]),
    ...shown.flatMap((row, place) => bar(row, TOP + place * ROW, at)),
  );
  const rest = bars.rows.length - shown.length;
  return el(
    "figure",
    {},
    el("h3", {}, bars.title),
    legend(bars.markName === null ? [bars.shareName] : [bars.shareName, bars.markName]),
    el("div", { class: "wide" }, drawing),
    ...(rest > 0 ? [el("figcaption", {}, `${rest} further rows are not drawn.`)] : []),
  );
}

function bar(row: ShareRow, top: number, at: (share: number) => number): Markup[] {
  const text = row.label.length > LABEL_CHARS_MAX ? `${row.label.slice(0, LABEL_CHARS_MAX - 1)}…` : row.label;
  return [
    el("text", { class: "end", x: LEFT - 10, y: top + ROW - 6 }, text, el("title", {}, row.label)),
    el("rect", { class: "track", x: LEFT, y: top + 3, width: at(1) - LEFT, height: ROW - 6 }),
    el(
      "rect",
      { class: "bar c0", x: LEFT, y: top + 3, width: at(row.share) - LEFT, height: ROW - 6 },
      el("title", {}, `${row.label}: ${percent(row.share)}`),
    ),
    ...(row.mark === null
      ? []
      : [el("line", { class: "mark c1", x1: at(row.mark), x2: at(row.mark), y1: top + 1, y2: top + ROW - 1 })]),
    el("text", { class: "axis", x: at(1) + 12, y: top + ROW - 6 }, row.remark),
  ];
}
