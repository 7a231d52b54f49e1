/** Columns of a struct-of-arrays table: typed arrays that double, dense ids that are reused, and names that become small numbers. */
import { assert } from "../../domain/assert.ts";

export function grownFloats(column: Float64Array, length: number): Float64Array<ArrayBuffer> {
  const next = new Float64Array(length);
  next.set(column);
  return next;
}

export function grownInts(column: Int32Array, length: number): Int32Array<ArrayBuffer> {
  const next = new Int32Array(length);
  next.set(column);
  return next;
}

export function grownBytes(column: Uint8Array, length: number): Uint8Array<ArrayBuffer> {
  const next = new Uint8Array(length);
  next.set(column);
  return next;
}

/**
 * Dense ids from a free list, each with a generation that grows when the id is given back: whoever kept an id can tell whether it still
 * stands for what it stood for.
 */
export class DenseIds<Key> {
  readonly #indexes = new Map<Key, number>();
  readonly #keys: (Key | null)[] = [];
  readonly #free: number[] = [];
  #generations = new Int32Array(16);

  get size(): number {
    return this.#indexes.size;
  }

  /** One more than the highest id that was ever given out. */
  get capacity(): number {
    return this.#keys.length;
  }

  find(key: Key): number {
    return this.#indexes.get(key) ?? -1;
  }

  key(index: number): Key {
    const key = this.#keys[index] ?? null;
    assert(key !== null, `the id ${index} is in use`);
    return key;
  }

  isUsed(index: number): boolean {
    return (this.#keys[index] ?? null) !== null;
  }

  generation(index: number): number {
    return this.#generations[index] ?? 0;
  }

  add(key: Key): number {
    assert(!this.#indexes.has(key), "a key gets one id");
    const index = this.#free.pop() ?? this.#keys.length;
    this.#keys[index] = key;
    this.#indexes.set(key, index);
    if (index >= this.#generations.length) {
      this.#generations = grownInts(this.#generations, this.#generations.length * 2);
    }
    return index;
  }

  remove(key: Key): void {
    const index = this.#indexes.get(key);
    assert(index !== undefined, "what is removed has an id");
    this.#indexes.delete(key);
    this.#keys[index] = null;
    this.#generations[index] = (this.#generations[index] ?? 0) + 1;
    this.#free.push(index);
  }

  /** In the order in which they were added. */
  entries(): IterableIterator<[Key, number]> {
    return this.#indexes.entries();
  }
}

/** Names as small numbers, for good: regions, GPU classes, owners. -1 is no name. */
export class Names {
  readonly #codes = new Map<string, number>();
  readonly #names: string[] = [];

  code(name: string | null): number {
    if (name === null) return -1;
    const known = this.#codes.get(name);
    if (known !== undefined) return known;
    this.#codes.set(name, this.#names.length);
    return this.#names.push(name) - 1;
  }

  /** Like `code`, without making one: -2 when nobody ever had this name. */
  find(name: string): number {
    return this.#codes.get(name) ?? -2;
  }

  /** Null for -1. */
  name(code: number): string | null {
    return this.#names[code] ?? null;
  }

  get size(): number {
    return this.#names.length;
  }
}
