/**
 * Hidden states as they travel: little-endian f16 or f32, and the numbers that the library takes. f16 rounds to nearest, ties to
 * even; a value beyond its range makes the whole piece f32. NaN and infinity never pass, in either direction.
 */
import type { WireFormat } from "../../domain/chain.ts";

export const WIRE_BYTES: Readonly<Record<WireFormat, number>> = { f16: 2, f32: 4 };

/** Exponent bits: all set in infinities and NaN. */
const F16_EXPONENT = 0x7c00;
const F32_EXPONENT = 0x7f800000;

/** The numbers, or null where one of them is NaN or infinite. The bytes are a whole number of elements. */
export function readHidden(data: Uint8Array, format: WireFormat): Float32Array | null {
  const size = WIRE_BYTES[format];
  // A message's bytes may begin anywhere, and views of numbers may not. The slice of a Buffer is no copy.
  const aligned = data.byteOffset % size === 0 ? data : new Uint8Array(data);
  const count = aligned.byteLength / size;
  if (format === "f32") {
    const numbers = new Float32Array(aligned.buffer, aligned.byteOffset, count);
    return isFinite32(numbers) ? numbers : null;
  }
  if (!isFinite16(new Uint16Array(aligned.buffer, aligned.byteOffset, count))) return null;
  return new Float32Array(new Float16Array(aligned.buffer, aligned.byteOffset, count));
}

/** Null where a number is NaN or infinite. */
export function writeHidden(
  numbers: Float32Array,
  format: WireFormat,
): { readonly format: WireFormat; readonly data: Uint8Array } | null {
  if (!isFinite32(numbers)) return null;
  if (format === "f16") {
    const half = new Float16Array(numbers);
    const data = new Uint8Array(half.buffer);
    if (isFinite16(new Uint16Array(half.buffer))) return { format: "f16", data };
  }
  return { format: "f32", data: new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength) };
}

function isFinite16(bits: Uint16Array): boolean {
  for (let at = 0; at < bits.length; at++) if (((bits[at] ?? 0) & F16_EXPONENT) === F16_EXPONENT) return false;
  return true;
}

function isFinite32(numbers: Float32Array): boolean {
  const bits = new Uint32Array(numbers.buffer, numbers.byteOffset, numbers.length);
  for (let at = 0; at < bits.length; at++) if (((bits[at] ?? 0) & F32_EXPONENT) === F32_EXPONENT) return false;
  return true;
}
