/**
 * The page around a report: one HTML file without scripts, pictures or fonts from anywhere. Its policy lets nothing in but its own
 * style sheet, by digest, so that what a file under test is called can do no harm in it. Drawings are plain SVG: a report has a dozen
 * of them, they print, and a plotting library would need scripts in the page.
 */
import { createHash } from "node:crypto";
import { type Content, el, Markup } from "./markup.ts";
import { STYLE } from "./style.ts";

export interface Page {
  readonly title: string;
  /** One line below the title: what was run on what. */
  readonly subtitle: string;
  /** Sentences that must not be missed: warnings, what is synthetic. */
  readonly notes: readonly string[];
  readonly sections: readonly Markup[];
  /** Last line: the command, the program's version. */
  readonly footer: string;
}

export function pageHtml(page: Page): string {
  const digest = createHash("sha256").update(STYLE).digest("base64");
  const policy = `default-src 'none'; style-src 'sha256-${digest}'; base-uri 'none'; form-action 'none'`;
  const head = [
    '<meta charset="utf-8">',
    `<meta http-equiv="content-security-policy" content="${policy}">`,
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    '<meta name="color-scheme" content="light dark">',
    '<meta name="referrer" content="no-referrer">',
    el("title", {}, page.title).toString(),
    Markup.style(STYLE).toString(),
  ];
  const notes = page.notes.map((note) => el("li", {}, note));
  const body = el(
    "main",
    {},
    el("header", {}, el("h1", {}, page.title), el("p", { class: "subtitle" }, page.subtitle)),
    ...(notes.length === 0 ? [] : [el("ul", { class: "notes" }, ...notes)]),
    ...page.sections,
    el("footer", {}, page.footer),
  );
  return `<!doctype html>\n<html lang="en">\n<head>\n${head.join("\n")}\n</head>\n<body>${body.toString()}</body>\n</html>\n`;
}

export function section(title: string, lead: string, ...content: readonly Content[]): Markup {
  return el("section", {}, el("h2", {}, title), ...(lead === "" ? [] : [el("p", { class: "lead" }, lead)]), ...content);
}

export interface Tile {
  readonly label: string;
  readonly value: string;
  readonly unit: string;
  /** A short remark below; empty for none. */
  readonly remark: string;
}

export function tiles(list: readonly Tile[]): Markup {
  const items = list.map(({ label, value, unit, remark }) =>
    el(
      "div",
      { class: "tile" },
      el("dt", {}, label),
      el("dd", {}, value, ...(unit === "" ? [] : [el("small", {}, ` ${unit}`)])),
      ...(remark === "" ? [] : [el("p", {}, remark)]),
    ),
  );
  return el("dl", { class: "tiles" }, ...items);
}

export interface TableColumn {
  readonly title: string;
  readonly isNumber?: boolean;
}

export function htmlTable(
  columns: readonly TableColumn[],
  rows: readonly (readonly Content[])[],
  empty: string,
): Markup {
  if (rows.length === 0) return el("p", { class: "empty" }, empty);
  const classOf = (at: number) => (columns[at]?.isNumber === true ? "number" : null);
  return el(
    "div",
    { class: "wide" },
    el(
      "table",
      {},
      el(
        "thead",
        {},
        el("tr", {}, ...columns.map(({ title }, at) => el("th", { class: classOf(at), scope: "col" }, title))),
      ),
      el(
        "tbody",
        {},
        ...rows.map((row) => el("tr", {}, ...row.map((cell, at) => el("td", { class: classOf(at) }, cell)))),
      ),
    ),
  );
}

/** Names of colours, beside a plot and never on it. */
export function legend(names: readonly string[], kind: "line" | "box" = "box"): Markup {
  return el(
    "ul",
    { class: "legend" },
    ...names.map((name, at) => el("li", {}, el("span", { class: `swatch ${kind} c${at % COLOURS}` }), name)),
  );
}

/** Colour classes c0 to c7 of the style sheet. */
export const COLOURS = 8;
