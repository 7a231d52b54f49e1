import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { pieceText, Utf8Stream } from "./detokenise.ts";

const encoder = new TextEncoder();

function streamed(bytes: Uint8Array, cuts: readonly number[]): string {
  const stream = new Utf8Stream();
  const at = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  const texts = at.slice(1).map((end, index) => stream.push(bytes.subarray(at[index], end)));
  return texts.join("") + stream.flush();
}

const cuts = fc.array(fc.nat(), { maxLength: 20 });

describe("bytes that arrive in pieces", () => {
  test("become the same text however they are cut", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), cuts, (text, at) => {
        const whole = text.toWellFormed();
        expect(streamed(encoder.encode(whole), at)).toBe(whole);
      }),
    );
  });

  test("that are no UTF-8 become what a whole-text decoder makes of them", () => {
    const bytes = fc.uint8Array({ maxLength: 40 });
    fc.assert(
      fc.property(bytes, cuts, (some, at) => {
        expect(streamed(some, at)).toBe(new TextDecoder("utf-8", { ignoreBOM: true }).decode(some));
      }),
    );
  });

  test("hold back half a character and say so", () => {
    const stream = new Utf8Stream();
    expect([stream.push(Uint8Array.of(0xf0, 0x9f)), stream.isHolding]).toEqual(["", true]);
    expect([stream.push(Uint8Array.of(0x98)), stream.isHolding]).toEqual(["", true]);
    expect([stream.push(Uint8Array.of(0x80, 0x21)), stream.isHolding]).toEqual(["😀!", false]);
  });

  test("of one token show half a character as such", () => {
    expect(pieceText(Uint8Array.of(0xf0, 0x9f))).toBe("\ufffd");
    expect(pieceText(encoder.encode("é"))).toBe("é");
  });
});
