/**
 * The bytes in which libllama 0.5.0 gives a sequence's keys and values (llama_state_seq_get_data), read before they go to
 * another process's library. The library trusts their counts: wrong ones make it loop or abort. So a state is taken only when it
 * reads to its last byte, has the shape that this stage's own states have, and holds its positions in order. Values are not looked
 * at: broken ones show as broken outputs.
 *
 * Also, a state names how many sequences its context had, and is refused by a context with another number: `kvStateFor` writes
 * the number that a context has.
 *
 *     magic u32, sequence u32, then for each cache (models with sliding windows have two):
 *       streams u32, then for each stream:
 *         cells u32, and unless 0: cells x (position i32, sequences u32 = 1, sequence i32),
 *         are values transposed u32, layers u32,
 *         layers x (type i32, row bytes u64, cells x row)                       keys
 *         layers x (type i32, row bytes u64, cells x row)                       values, or transposed:
 *         layers x (type i32, element bytes u32, elements u32, elements x cells x element)
 *
 * Models whose values are part of their keys (compressed ones) have no values. Of a cache with windows only the cells that the next
 * position sees are there.
 */

const MAGIC = 0xaf143cd8;
const HEADER_BYTES = 8;
const CELL_BYTES = 12;
/** `LLAMA_MAX_SEQ`, `LLAMA_MAX_LAYERS`, and caches of one model. */
const STREAMS_MAX = 256;
const LAYERS_MAX = 512;
const CACHES_MAX = 2;

/** What one cache holds of the sequence: positions from `first` on, without a gap. */
export interface KvCache {
  readonly first: number;
  readonly cells: number;
  /** Types and sizes of all layers: alike in all states of one stage. */
  readonly shape: string;
  /** The stream's bytes. */
  readonly bytes: Uint8Array;
}

/** What a state holds, or null where it is none. */
export function readKvState(data: Uint8Array): readonly KvCache[] | null {
  return readCaches(data, true) ?? readCaches(data, false);
}

/** Positions that a state is good for, to its end or cut; null where it is good for none. */
export function positionsOf(caches: readonly KvCache[]): { readonly end: number; readonly canBeCut: boolean } | null {
  const end = Math.max(...caches.map(({ first, cells }) => first + cells));
  if (caches.some(({ first, cells }) => first + cells !== end)) return null;
  return { end, canBeCut: caches.every(({ first }) => first === 0) };
}

function readCaches(data: Uint8Array, hasValues: boolean): readonly KvCache[] | null {
  const cursor = new Cursor(data);
  if (cursor.u32() !== MAGIC) return null;
  cursor.u32();
  const caches: KvCache[] = [];
  while (!cursor.isAtEnd) {
    const cache = caches.length < CACHES_MAX ? readCache(cursor, hasValues) : null;
    if (cache === null) return null;
    caches.push(cache);
  }
  return cursor.isBroken || caches.length === 0 ? null : caches;
}

/** The state as a context of so many sequences reads it into one of them. */
export function kvStateFor(caches: readonly KvCache[], streams: number): Uint8Array {
  const padding = 4 * streams; // The number of streams, and a zero for each of the others.
  const data = new Uint8Array(caches.reduce((sum, { bytes }) => sum + padding + bytes.length, HEADER_BYTES));
  const view = new DataView(data.buffer);
  view.setUint32(0, MAGIC, true);
  let at = HEADER_BYTES;
  for (const { bytes } of caches) {
    view.setUint32(at, streams, true);
    data.set(bytes, at + 4);
    at += padding + bytes.length;
  }
  return data;
}

function readCache(cursor: Cursor, hasValues: boolean): KvCache | null {
  const streams = cursor.u32();
  if (streams < 1 || streams > STREAMS_MAX) return null;
  let found: KvCache | null = null;
  for (let stream = 0; stream < streams; stream++) {
    const start = cursor.at;
    const cells = cursor.u32();
    if (cells === 0) continue;
    const first: number | null = found === null ? firstOf(cursor, cells) : null;
    const shape: string | null = first === null ? null : readLayers(cursor, { cells, hasValues });
    if (first === null || shape === null) return null;
    found = { first, cells, shape, bytes: cursor.since(start) };
  }
  return cursor.isBroken ? null : found;
}

/** The first position of so many in order, or null where they are not. */
function firstOf(cursor: Cursor, cells: number): number | null {
  if (cells * CELL_BYTES > cursor.left) return null;
  let first = 0;
  for (let at = 0; at < cells; at++) {
    const position = cursor.u32();
    if (at === 0) first = position;
    if (position !== first + at || cursor.u32() !== 1) return null;
    cursor.u32();
  }
  return first;
}

function readLayers(
  cursor: Cursor,
  { cells, hasValues }: { readonly cells: number; readonly hasValues: boolean },
): string | null {
  const isTransposed = cursor.u32();
  const layers = cursor.u32();
  if (isTransposed > 1 || layers > LAYERS_MAX) return null;
  const sizes: number[] = [];
  const rows = (): void => {
    const [type, bytes] = [cursor.u32(), cursor.u64()];
    sizes.push(type, bytes);
    cursor.skip(cells * bytes);
  };
  for (let layer = 0; layer < layers; layer++) rows();
  for (let layer = 0; hasValues && layer < layers; layer++) {
    if (isTransposed === 0) {
      rows();
      continue;
    }
    const [type, bytes, elements] = [cursor.u32(), cursor.u32(), cursor.u32()];
    sizes.push(type, bytes, elements);
    cursor.skip(elements * cells * bytes);
  }
  return cursor.isBroken ? null : [isTransposed, layers, ...sizes].join(" ");
}

/** Reads zeros past the end, and remembers that it did. */
class Cursor {
  readonly #data: Uint8Array;
  readonly #view: DataView;
  at = 0;
  isBroken = false;

  constructor(data: Uint8Array) {
    this.#data = data;
    this.#view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  }

  get left(): number {
    return this.#data.length - this.at;
  }

  get isAtEnd(): boolean {
    return this.isBroken || this.left === 0;
  }

  u32(): number {
    const at = this.#take(4);
    return at < 0 ? 0 : this.#view.getUint32(at, true);
  }

  u64(): number {
    const at = this.#take(8);
    return at < 0 ? 0 : Number(this.#view.getBigUint64(at, true));
  }

  skip(bytes: number): void {
    this.#take(bytes);
  }

  since(start: number): Uint8Array {
    return this.#data.subarray(start, this.at);
  }

  #take(bytes: number): number {
    if (this.isBroken || bytes > this.left) {
      this.isBroken = true;
      return -1;
    }
    const at = this.at;
    this.at += bytes;
    return at;
  }
}
