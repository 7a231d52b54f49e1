import fc from "fast-check";
import { expect, test } from "vitest";
import { readHidden, writeHidden } from "./hidden-states.ts";

const finite = fc.float({ noNaN: true, noDefaultInfinity: true });

test("f32 gives back every number, wherever in a message it stands", () => {
  fc.assert(
    fc.property(fc.array(finite, { maxLength: 40 }), fc.nat(7), (values, shift) => {
      const written = writeHidden(Float32Array.from(values), "f32");
      const message = new Uint8Array(shift + values.length * 4);
      message.set(written?.data ?? [], shift);
      expect(written?.format).toBe("f32");
      expect(Array.from(readHidden(message.subarray(shift), "f32") ?? [])).toEqual(values);
    }),
  );
});

test("f16 rounds to nearest, ties to even, and gives back what fits exactly", () => {
  const written = writeHidden(Float32Array.from([1, -0.5, 65504, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 2 ** -24]), "f16");
  expect(written?.format).toBe("f16");
  const read = readHidden(written?.data ?? new Uint8Array(), "f16");
  expect(Array.from(read ?? [])).toEqual([1, -0.5, 65504, 1, 1 + 2 ** -9, 2 ** -24]);
});

test("a number beyond f16 makes the piece f32", () => {
  const written = writeHidden(Float32Array.from([1, 65_520]), "f16");
  expect(written?.format).toBe("f32");
  expect(Array.from(readHidden(written?.data ?? new Uint8Array(), "f32") ?? [])).toEqual([1, 65_520]);
});

test("NaN and infinity are neither written nor read", () => {
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
    for (const format of ["f16", "f32"] as const) {
      expect(writeHidden(Float32Array.from([0, value]), format)).toBeNull();
      const data = format === "f16" ? new Float16Array([0, value]) : new Float32Array([0, value]);
      expect(readHidden(new Uint8Array(data.buffer), format)).toBeNull();
    }
  }
});
