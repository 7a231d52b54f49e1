import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { linePlot } from "./line-plot.ts";
import { el } from "./markup.ts";
import { pageHtml, section } from "./page.ts";
import { linearScale, logScale, readable, tickText } from "./scale.ts";

// Control characters, markup, Latin and halves of characters. fast-check's own unit takes seconds to build.
const anyUnit = fc
  .oneof(fc.nat(0x2ff), fc.integer({ min: 0xd800, max: 0xdfff }))
  .map((code) => String.fromCharCode(code));

describe("markup", () => {
  test("never lets a text become a tag or leave its attribute, whatever it holds", () => {
    fc.assert(
      fc.property(fc.string({ unit: anyUnit }), fc.string(), (text, value) => {
        const markup = el("p", { title: value }, text).toString();
        expect(markup.match(/</g)).toHaveLength(2);
        expect(markup.match(/"/g)).toHaveLength(2);
      }),
    );
  });

  test("shows that a control character stood there", () => {
    expect(el("p", {}, "a\u0000b\u001b[2Jc").toString()).toBe("<p>a\u{fffd}b\u{fffd}[2Jc</p>");
  });
});

describe("an axis", () => {
  const ends = fc.tuple(
    fc.double({ min: -1e9, max: 1e9, noNaN: true }),
    fc.double({ min: 1e-6, max: 1e9, noNaN: true }),
  );

  test("has two to twenty ticks, ascending, and covers its domain, for any domain", () => {
    fc.assert(
      fc.property(ends, ([from, width]) => {
        const to = from + width;
        fc.pre(to > from && width > Math.abs(from) * 1e-9);
        const scale = linearScale({ from, to, range: [0, 100] });
        expect(scale.ticks.length).toBeGreaterThanOrEqual(2);
        expect(scale.ticks.length).toBeLessThanOrEqual(20);
        expect(scale.at(from)).toBeGreaterThanOrEqual(-0.01);
        expect(scale.at(to)).toBeLessThanOrEqual(100.01);
        for (const [at, tick] of scale.ticks.entries())
          if (at > 0) expect(tick).toBeGreaterThan(scale.ticks[at - 1] ?? tick);
      }),
    );
  });

  test("that is tight ends where its domain does, with ticks within", () => {
    const scale = linearScale({ from: 0, to: 60_005, range: [0, 100], isTight: true });
    expect(scale.at(60_005)).toBe(100);
    expect(scale.ticks).toEqual([0, 20_000, 40_000, 60_000]);
    expect(scale.ticks.map((tick) => tickText(tick, scale.ticks))).toEqual(["0", "20,000", "40,000", "60,000"]);
  });

  test("of nothing, or of one value, is still an axis", () => {
    for (const [from, to] of [
      [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
      [5, 5],
      [0, 0],
    ] as const) {
      expect(linearScale({ from, to, range: [0, 1] }).ticks.every(Number.isFinite)).toBe(true);
    }
  });

  test("by powers has ticks at 1, 2 and 5", () => {
    expect(logScale({ from: 0.1, to: 10, range: [0, 1] }).ticks.map((tick) => readable(tick))).toEqual([
      "0.1",
      "0.2",
      "0.5",
      "1",
      "2",
      "5",
      "10",
    ]);
  });
});

describe("a number for people", () => {
  test.each([
    [0, "0"],
    [1_212.18, "1,212"],
    [97.5016, "97.5"],
    [0.9672, "0.967"],
    [60_007, "60,007"],
    [1e12, "1.0e+12"],
    [-3.456, "-3.46"],
    [Number.POSITIVE_INFINITY, "–"],
    [Number.NaN, "–"],
  ])("%d reads %s", (value, text) => {
    expect(readable(value)).toBe(text);
  });
});

describe("a plot", () => {
  test("passes over points that are no numbers, and holds no more points than pixels", () => {
    const points = Array.from({ length: 5_000 }, (_, at) => [at, at % 7 === 0 ? Number.NaN : at] as const);
    const text = linePlot({
      title: "t",
      x: { label: "x" },
      y: { label: "y" },
      lines: [{ name: "a", points }],
    }).toString();
    expect(text).not.toMatch(/NaN|Infinity/);
    expect(text.match(/[ML]\d/g)?.length ?? 0).toBeLessThanOrEqual(600);
  });

  test("of no points is drawn without a line", () => {
    const text = linePlot({ title: "t", x: { label: "x", isLog: true }, y: { label: "y" }, lines: [] }).toString();
    expect(text).not.toMatch(/NaN|Infinity|class="curve/);
  });
});

describe("a page", () => {
  const html = pageHtml({
    title: "</title><script>x</script>",
    subtitle: "<img src=x>",
    notes: ["<b>"],
    sections: [section("s", "l")],
    footer: "f",
  });

  test("lets nothing in but its own style sheet, by digest", () => {
    expect(html).toMatch(
      /content="default-src 'none'; style-src 'sha256-[A-Za-z0-9+/=]{44}'; base-uri 'none'; form-action 'none'"/,
    );
    expect(html).not.toMatch(/<script|<img|<b>|https?:|url\(|@import/);
  });

  test("is the same for the same report", () => {
    expect(html).toBe(
      pageHtml({
        title: "</title><script>x</script>",
        subtitle: "<img src=x>",
        notes: ["<b>"],
        sections: [section("s", "l")],
        footer: "f",
      }),
    );
  });
});
