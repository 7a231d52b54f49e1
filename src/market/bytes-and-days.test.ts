import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fromBase64, fromHex, toBase64, toHex } from "./hex.ts";
import { dayOf } from "./usage-day.ts";

describe("bytes as text", () => {
  test("hex and base64 are those of Node, and lead back", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        expect(toHex(bytes)).toBe(Buffer.from(bytes).toString("hex"));
        expect(toBase64(bytes)).toBe(Buffer.from(bytes).toString("base64"));
        expect(fromHex(toHex(bytes))).toEqual(bytes);
        expect(fromBase64(toBase64(bytes))).toEqual(bytes);
      }),
    );
  });

  test.each(["a", "0g", "zz"])("%s is no hex", (text) => expect(fromHex(text)).toBeNull());

  test.each(["a", "ab==c", "QQ", "QR==", "Q===", "QQ==\n", "_-A="])("%j is no canonical base64", (text) => {
    expect(fromBase64(text)).toBeNull();
  });
});

test("a day is the one that the calendar gives, from 1970 to 9999", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 253_402_300_799_999 }), (atMs) => {
      expect(dayOf(atMs)).toBe(new Date(atMs).toISOString().slice(0, 10));
    }),
    { examples: [[951_782_400_000], [951_868_799_999], [4_107_542_400_000], [253_402_300_799_999]] },
  );
});
