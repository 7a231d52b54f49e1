import { expect, test } from "vitest";
import { quantisationClass } from "./quantisation-class.ts";

test.each([
  ["F32", "fp32"],
  ["F16", "fp16"],
  ["BF16", "bf16"],
  ["Q8_0", "int8"],
  ["Q4_K_M", "int4"],
  ["IQ4_NL", "int4"],
  ["MXFP4_MOE", "fp4"],
  ["FP8", "fp8"],
  ["int8", "int8"],
  ["Q6_K", null],
  ["Q5_K_S", null],
  ["IQ2_XS", null],
  ["unknown", null],
])("%s is of the class %s", (name, found) => {
  expect(quantisationClass(name)).toBe(found);
});
