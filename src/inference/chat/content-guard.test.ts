import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SpecialTexts } from "./content-guard.ts";

describe("special texts", () => {
  test("are found longest first, wherever they begin alike", () => {
    const specials = new SpecialTexts(["<a>", "<a>b", "<ab>"]);
    const plain = (text: string) =>
      specials
        .split(text)
        ?.filter((part) => !part.special)
        .map((part) => part.text);
    expect(plain("x<a>bx")).toEqual(["<a>b"]);
    expect(plain("x<a>x<ab>x")).toEqual(["<a>", "<ab>"]);
    expect(plain("x<ac>x")).toBeUndefined();
  });

  test("leave every text whole, and none of them is left in what may name control tokens", () => {
    const texts = ["<a>", "<a>b", "<<", "ab"];
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(..."<>abx "), maxLength: 30 }), (text) => {
        const parts = new SpecialTexts(texts).split(text) ?? [{ text, special: true }];
        expect(parts.map((part) => part.text).join("")).toBe(text);
        for (const part of parts) if (part.special) expect(texts.filter((one) => part.text.includes(one))).toEqual([]);
      }),
    );
  });

  // Tried one by one at each letter, this takes minutes of everybody's event loop.
  test("that are many cost a text of nothing but their first letter no more than few", () => {
    const specials = new SpecialTexts(Array.from({ length: 6_000 }, (_, at) => `<unused${at}>`));
    expect(specials.split("<".repeat(300_000))).toEqual([
      { text: "<".repeat(299_999), special: true },
      { text: "<", special: false },
    ]);
  });
});
