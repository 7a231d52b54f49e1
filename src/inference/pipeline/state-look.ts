/**
 * Looks at hidden states as they travel: what a position's root mean square is, and the fingerprint of the first positions (domain/state-fingerprint.ts).
 * Signs come from a hash of the element's index and the width, so that every node takes the same; element i falls into bucket i modulo their number.
 * A position costs two multiplications and additions for each element.
 */
import type { WireFormat } from "../../domain/chain.ts";
import { FINGERPRINT_POSITIONS_MAX, SKETCH_BUCKETS, type StateFingerprint } from "../../domain/state-fingerprint.ts";

export interface TravellingStates {
  readonly format: WireFormat;
  /** `positions` x `width` little-endian elements. */
  readonly data: Uint8Array;
  readonly width: number;
  readonly positions: number;
}

/** Sketches travel as text: four decimals are far finer than engines agree. */
const DECIMALS = 10_000;

/** Null where an element is no finite number. */
export function fingerprintOf(states: TravellingStates): StateFingerprint | null {
  const { width } = states;
  const positions = Math.min(states.positions, FINGERPRINT_POSITIONS_MAX);
  const read = elementReader(states);
  const signs = Int8Array.from({ length: width }, (_, index) => signOf(index, width));
  const rms: number[] = [];
  const sketch: number[] = [];
  const buckets = new Float64Array(SKETCH_BUCKETS);
  for (let position = 0; position < positions; position++) {
    buckets.fill(0);
    let squares = 0;
    for (let index = 0; index < width; index++) {
      const value = read(position * width + index);
      squares += value * value;
      buckets[index % SKETCH_BUCKETS] = (buckets[index % SKETCH_BUCKETS] ?? 0) + value * (signs[index] ?? 1);
    }
    if (!Number.isFinite(squares)) return null;
    const size = Math.sqrt(squares / width);
    // A bucket holds so many elements of mean square one.
    const scale = size * Math.sqrt(width / SKETCH_BUCKETS);
    rms.push(size);
    for (const sum of buckets) sketch.push(scale === 0 ? 0 : Math.round((sum / scale) * DECIMALS) / DECIMALS);
  }
  return { rms, sketch };
}

/** Root mean squares of some of the positions, evenly spread; not finite where an element is not. */
export function sizesOf(states: TravellingStates, positionsMax: number): readonly number[] {
  const { width, positions } = states;
  const read = elementReader(states);
  const looked = Math.min(positions, positionsMax);
  return Array.from({ length: looked }, (_, at) => {
    const from = Math.floor((at * positions) / looked) * width;
    let squares = 0;
    for (let index = 0; index < width; index++) squares += read(from + index) ** 2;
    return Math.sqrt(squares / width);
  });
}

/** No element is anything but zero. */
export function areAllZero({ format, data }: TravellingStates): boolean {
  // The sign of a zero is in the last byte of an element.
  const size = format === "f16" ? 2 : 4;
  for (let at = 0; at < data.length; at++) {
    const byte = data[at] ?? 0;
    if (at % size === size - 1 ? (byte & 0x7f) !== 0 : byte !== 0) return false;
  }
  return true;
}

function elementReader({ format, data }: TravellingStates): (index: number) => number {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  if (format === "f32") return (index) => view.getFloat32(index * 4, true);
  return (index) => fromHalf(view.getUint16(index * 2, true));
}

const HALF_MANTISSA = 1_024;

function fromHalf(bits: number): number {
  const exponent = (bits >>> 10) & 0x1f;
  const mantissa = bits & 0x3ff;
  const sign = bits >= 0x8000 ? -1 : 1;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  if (exponent === 31) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (HALF_MANTISSA + mantissa) * (POWERS[exponent] ?? 0);
}

/** 2^(exponent - 25): a power is slow to compute, and there are 30 of them. */
const POWERS = Float64Array.from({ length: 32 }, (_, exponent) => 2 ** (exponent - 25));

/** Murmur's finaliser: one bit of 32 in which every bit of the index and the width counts. */
function signOf(index: number, width: number): 1 | -1 {
  let hash = Math.imul(index + 1, 0x9e3779b1) ^ Math.imul(width, 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) & 1) === 0 ? 1 : -1;
}
