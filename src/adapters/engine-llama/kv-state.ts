/**
 * The bytes in which libllama 0.5.0 gives a sequence's keys and values (llama_state_seq_get_data), read before they go to
 * another process's library. The library trusts their counts: wrong ones make it loop or abort. So a state is taken only when it
 * reads to its last byte, has the shape that this stage's own states have, and holds the positions from 0 on in order. Values
 * are not looked at: broken ones show as broken outputs.
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
 */

const MAGIC = 0xaf143cd8;
const HEADER_BYTES = 8;
const CELL_BYTES = 12;
/** `LLAMA_MAX_SEQ`, `LLAMA_MAX_LAYERS`, and caches of one model. */
const STREAMS_MAX = 256;
const LAYERS_MAX = 512;
const CACHES_MAX = 2;

/** What one cache holds of the sequence. */
export interface KvCache {
  readonly cells: number;
  /** Types and sizes of all layers: alike in all states of one stage. */
  readonly shape: string;
  /** The stream's bytes. */
  readonly bytes: Uint8Array;
}

/** What a state holds, or null where it is not one whose positions run from 0 on. */
export function readKvState(data: Uint8Array): readonly KvCache[] | null {
  const cursor = new Cursor(data);
  if (cursor.u32() !== MAGIC) return null;
  cursor.u32();
  const caches: KvCache[] = [];
  while (!cursor.isAtEnd) {
    const cache = caches.length < CACHES_MAX ? readCache(cursor) : null;
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

function readCache(cursor: Cursor): KvCache | null {
  const streams = cursor.u32();
  if (streams < 1 || streams > STREAMS_MAX) return null;
  let found: KvCache | null = null;
  for (let stream = 0; stream < streams; stream++) {
    const start = cursor.at;
    const cells = cursor.u32();
    if (cells === 0) continue;
    if (found !== null || !areInOrder(cursor, cells)) return null;
    const shape = readLayers(cursor, cells);
    if (shape === null) return null;
    found = { cells, shape, bytes: cursor.since(start) };
  }
  return cursor.isBroken ? null : found;
}

function areInOrder(cursor: Cursor, cells: number): boolean {
  if (cells * CELL_BYTES > cursor.left) return false;
  for (let position = 0; position < cells; position++) {
    if (cursor.u32() !== position || cursor.u32() !== 1) return false;
    cursor.u32();
  }
  return true;
}

function readLayers(cursor: Cursor, cells: number): string | null {
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
  for (let layer = 0; layer < layers; layer++) {
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
