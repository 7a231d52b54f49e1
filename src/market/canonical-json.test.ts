import { describe, expect, test } from "vitest";
import { canonicalJson, canonicalSignedJson } from "./canonical-json.ts";

describe("canonical JSON", () => {
  test("gives the example of RFC 8785 section 3.2.2", () => {
    const value = {
      numbers: [Number("333333333.33333329"), 1e30, 4.5, 2e-3, 0.000000000000000000000000001],
      string: '\u20ac$\u000f\nA\'B"\\\\"/',
      literals: [null, true, false],
    };
    expect(canonicalJson(value)).toBe(
      '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
    );
  });

  test("sorts keys by UTF-16 code units, as in RFC 8785 section 3.2.3", () => {
    const value = {
      "\u20ac": "Euro Sign",
      "\r": "Carriage Return",
      "\ufb33": "Hebrew Letter Dalet With Dagesh",
      "1": "One",
      "\ud83d\ude00": "Emoji: Grinning Face",
      "\u0080": "Control",
      "\u00f6": "Latin Small Letter O With Diaeresis",
    };
    expect(Object.values(JSON.parse(canonicalJson(value)))).toEqual([
      "One", // JSON.parse puts integer-like keys first; it is second in the text
      "Carriage Return",
      "Control",
      "Latin Small Letter O With Diaeresis",
      "Euro Sign",
      "Emoji: Grinning Face",
      "Hebrew Letter Dalet With Dagesh",
    ]);
    expect(canonicalJson(value).startsWith('{"\\r":"Carriage Return","1":"One",')).toBe(true);
  });

  test("prints the numbers of RFC 8785 appendix B", () => {
    const numbers: readonly (readonly [number, string])[] = [
      [-0, "0"],
      [5e-324, "5e-324"],
      [1.7976931348623157e308, "1.7976931348623157e+308"],
      [9007199254740992, "9007199254740992"],
      [295147905179352830000, "295147905179352830000"],
      [9.999999999999997e22, "9.999999999999997e+22"],
      [1e23, "1e+23"],
      [0.000001, "0.000001"],
      [9.999999999999997e-7, "9.999999999999997e-7"],
      [333333333.3333332, "333333333.3333332"],
      [-0.0000033333333333333333, "-0.0000033333333333333333"],
      [1424953923781206.2, "1424953923781206.2"],
    ];
    for (const [number, text] of numbers) expect(canonicalJson([number])).toBe(`[${text}]`);
  });

  test("refuses what has no JSON form", () => {
    expect(() => canonicalJson({ a: Number.NaN })).toThrow();
    expect(() => canonicalJson("\ud800")).toThrow();
    expect(() => canonicalJson(undefined)).toThrow();
  });
});

describe("a signed body", () => {
  test("may hold strings, booleans, null and safe integers at any place", () => {
    expect(canonicalSignedJson({ b: [1, null, { c: "ü" }], a: true })).toBe('{"a":true,"b":[1,null,{"c":"ü"}]}');
  });

  test.each([
    ["a float", { a: [{ b: 0.5 }] }, "$.a[0].b"],
    ["an unsafe integer", { a: 2 ** 53 }, "$.a"],
    ["undefined", { a: undefined }, "$.a"],
    ["a date", { a: new Date(0) }, "$.a"],
    ["bytes", { a: new Uint8Array(2) }, "$.a"],
    ["a bigint", { a: 1n }, "$.a"],
  ])("may not hold %s", (_, value, path) => {
    expect(() => canonicalSignedJson(value)).toThrow(path);
  });

  test("may not be nested without end", () => {
    let value: unknown = 1;
    for (let depth = 0; depth < 40; depth++) value = [value];
    expect(() => canonicalSignedJson(value)).toThrow("levels deep");
  });
});
