/** Metadata values: reading them, and looking into arrays that stay as bytes. */
import { assert } from "../domain/assert.ts";
import type { GgufCursor } from "./gguf-cursor.ts";
import { type GgufArray, type GgufValue, type ScalarType, VALUE_TYPE, type ValueType } from "./gguf-header.ts";
import { GgufProblem } from "./gguf-refusal.ts";

/** Tokens of the largest vocabulary are 262,144, its merges twice that. */
export const ARRAY_ELEMENTS_MAX = 2_000_000;
/** A chat template is some 10 KB. */
export const STRING_BYTES_MAX = 16 * 1024 * 1024;

const SCALARS: Readonly<Record<ScalarType, { bytes: number; read: (view: DataView, at: number) => number | bigint }>> =
  {
    uint8: { bytes: 1, read: (view, at) => view.getUint8(at) },
    int8: { bytes: 1, read: (view, at) => view.getInt8(at) },
    uint16: { bytes: 2, read: (view, at) => view.getUint16(at, true) },
    int16: { bytes: 2, read: (view, at) => view.getInt16(at, true) },
    uint32: { bytes: 4, read: (view, at) => view.getUint32(at, true) },
    int32: { bytes: 4, read: (view, at) => view.getInt32(at, true) },
    float32: { bytes: 4, read: (view, at) => view.getFloat32(at, true) },
    uint64: { bytes: 8, read: (view, at) => plain(view.getBigUint64(at, true)) },
    int64: { bytes: 8, read: (view, at) => plain(view.getBigInt64(at, true)) },
    float64: { bytes: 8, read: (view, at) => view.getFloat64(at, true) },
  };

/** A number where it is exact, else the bigint. */
function plain(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

const TYPE_NAMES: ReadonlyMap<number, ValueType> = new Map(valueTypes().map((name) => [VALUE_TYPE[name], name]));

function valueTypes(): readonly ValueType[] {
  const scalars: readonly ValueType[] = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32"];
  return [...scalars, "bool", "string", "array", "uint64", "int64", "float64"];
}

export async function readValue(cursor: GgufCursor, key: string): Promise<GgufValue> {
  await cursor.need(4, `the type of ${key}`);
  const type = typeNamed(cursor.u32(), key);
  if (type === "array") return readArray(cursor, key);
  if (type === "string") return { type, value: await readString(cursor, { what: key, bytesMax: STRING_BYTES_MAX }) };
  if (type === "bool") {
    await cursor.need(1, key);
    return { type, value: boolOf(cursor.u8(), key) };
  }
  const scalar = SCALARS[type];
  await cursor.need(scalar.bytes, key);
  return { type, value: cursor.scalar(scalar.bytes, scalar.read) };
}

export async function readString(
  cursor: GgufCursor,
  limit: { readonly what: string; readonly bytesMax: number },
): Promise<string> {
  const start = await skipString(cursor, limit);
  return decodeUtf8(cursor.copy(start, cursor.position));
}

/** Passes over a string; answers where its bytes begin. */
async function skipString(
  cursor: GgufCursor,
  limit: { readonly what: string; readonly bytesMax: number },
): Promise<number> {
  if (!cursor.has(8)) await cursor.need(8, `the length of ${limit.what}`);
  const length = cursor.u64();
  if (length > BigInt(limit.bytesMax)) {
    throw new GgufProblem(
      "too-large",
      `${limit.what} is a string of ${length} bytes; at most ${limit.bytesMax} are taken`,
    );
  }
  const bytes = Number(length);
  if (!cursor.has(bytes)) await cursor.need(bytes, limit.what);
  const start = cursor.position;
  cursor.skip(bytes);
  return start;
}

async function readArray(cursor: GgufCursor, key: string): Promise<GgufArray> {
  await cursor.need(12, `the array ${key}`);
  const elementType = typeNamed(cursor.u32(), key);
  const declared = cursor.u64();
  if (elementType === "array") throw new GgufProblem("malformed", `${key} is an array of arrays`);
  if (declared > BigInt(ARRAY_ELEMENTS_MAX)) {
    throw new GgufProblem("too-large", `${key} has ${declared} elements; at most ${ARRAY_ELEMENTS_MAX} are taken`);
  }
  const count = Number(declared);
  const start = cursor.position;
  if (elementType === "string") {
    const limit = { what: `an element of ${key}`, bytesMax: STRING_BYTES_MAX };
    for (let index = 0; index < count; index++) await skipString(cursor, limit);
  } else {
    const bytes = count * (elementType === "bool" ? 1 : SCALARS[elementType].bytes);
    await cursor.need(bytes, key);
    cursor.skip(bytes);
  }
  const bytes = cursor.copy(start, cursor.position);
  if (elementType === "bool") for (const byte of bytes) boolOf(byte, key);
  return { type: "array", elementType, count, bytes };
}

/** Bytes of one element of an array that holds no strings. */
export function elementBytesOf(type: Exclude<GgufArray["elementType"], "string">): number {
  return type === "bool" ? 1 : SCALARS[type].bytes;
}

function typeNamed(number: number, key: string): ValueType {
  const name = TYPE_NAMES.get(number);
  if (name === undefined) throw new GgufProblem("malformed", `${key} has value type ${number}; types are 0 to 12`);
  return name;
}

function boolOf(byte: number, key: string): boolean {
  if (byte > 1) throw new GgufProblem("malformed", `${key} holds the bool ${byte}, not 0 or 1`);
  return byte === 1;
}

/** The strings of an array, each as its bytes in the file. */
export function* stringsOf(array: GgufArray): Generator<Uint8Array> {
  assert(array.elementType === "string", `the array holds strings, not ${array.elementType}`);
  const view = new DataView(array.bytes.buffer, array.bytes.byteOffset, array.bytes.byteLength);
  let at = 0;
  for (let index = 0; index < array.count; index++) {
    // Lengths were checked when the array was read.
    const length = Number(view.getBigUint64(at, true));
    yield array.bytes.subarray(at + 8, at + 8 + length);
    at += 8 + length;
  }
}

/** The numbers of an array of scalars. */
export function numbersOf(array: GgufArray): readonly (number | bigint)[] {
  const { elementType } = array;
  assert(elementType !== "string" && elementType !== "bool", `the array holds numbers, not ${elementType}`);
  const view = new DataView(array.bytes.buffer, array.bytes.byteOffset, array.bytes.byteLength);
  const scalar = SCALARS[elementType];
  return Array.from({ length: array.count }, (_, index) => scalar.read(view, index * scalar.bytes));
}

/** Names and templates may hold bytes that are no UTF-8: they are shown, never executed, with replacement characters. */
export function decodeUtf8(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
