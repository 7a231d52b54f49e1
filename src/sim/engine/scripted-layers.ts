/**
 * Layers without weights. A layer keeps what came in at each position, as a transformer keeps keys and values, and what it puts out at a position
 * is a hash over all that it keeps up to there: a position that is missing, doubled, stale or of another sequence changes everything after it.
 *
 * A state is 32 bits, told as eight small whole numbers, which both f16 and f32 hold exactly. As on a CPU, positions that were decoded together
 * are rounded otherwise than those decoded one by one: the way is hashed in, so that who replays a position the other way gets another text.
 */
import { assert } from "../../domain/assert.ts";
import type { WireFormat } from "../../domain/chain.ts";

/** Elements of a hidden state. */
export const SCRIPTED_EMBEDDING_LENGTH = 8;
/** What an element is below. */
const ELEMENT_RANGE = 16;
const TOKEN_SALT = 0x51ed270b;
const LAYER_SALT = 0x2545f491;

export interface LayerRange {
  readonly first: number;
  readonly count: number;
}

/** How a position is decoded: a piece of one position is a single one, whatever it is called. */
export type DecodeWay = "together" | "singly";

interface Cell {
  readonly position: number;
  /** Of each layer: the hash over what it keeps, up to this cell. */
  readonly kept: Uint32Array;
}

/** One sequence's keys and values in some layers. */
export class ScriptedKv {
  readonly #range: LayerRange;
  readonly #cells: Cell[] = [];

  constructor(range: LayerRange) {
    this.#range = range;
  }

  /** Positions that it holds. */
  get held(): number {
    const last = this.#cells.at(-1);
    return last === undefined ? 0 : last.position + 1;
  }

  /** Drops the positions from `start` on. */
  truncate(start: number): void {
    for (let last = this.#cells.at(-1); last !== undefined && last.position >= start; last = this.#cells.at(-1)) {
      this.#cells.pop();
    }
  }

  /** Takes a position in and gives what the layers make of it. */
  append(position: number, hidden: number, way: DecodeWay): number {
    const { first, count } = this.#range;
    const before = this.#cells.at(-1)?.kept;
    const kept = new Uint32Array(count);
    let state = hidden;
    for (let layer = 0; layer < count; layer++) {
      const all = mixed(mixed(before?.[layer] ?? LAYER_SALT, state), position);
      kept[layer] = all;
      state = mixed(mixed(all, first + layer), way === "together" ? 1 : 0);
    }
    this.#cells.push({ position, kept });
    return state;
  }

  /** Of the first positions, as bytes; null when it does not hold so many. */
  export(positions: number): Uint8Array | null {
    if (positions > this.held) return null;
    const words = this.#range.count + 1;
    const cells = this.#cells.filter(({ position }) => position < positions);
    const data = new Uint32Array(2 + cells.length * words);
    data.set([this.#range.first, this.#range.count]);
    for (const [at, { position, kept }] of cells.entries()) data.set([position, ...kept], 2 + at * words);
    return new Uint8Array(data.buffer);
  }

  /** Null when the bytes are not of these layers. */
  static read(range: LayerRange, bytes: Uint8Array): ScriptedKv | null {
    if (bytes.length % 4 !== 0 || bytes.length < 8) return null;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const data = Uint32Array.from({ length: bytes.length / 4 }, (_, at) => view.getUint32(at * 4, true));
    const words = range.count + 1;
    if (data[0] !== range.first || data[1] !== range.count || (data.length - 2) % words !== 0) return null;
    const kv = new ScriptedKv(range);
    for (let at = 2; at < data.length; at += words) {
      kv.#cells.push({ position: data[at] ?? 0, kept: data.slice(at + 1, at + words) });
    }
    return kv;
  }
}

/** What the first layer gets for a token. */
export function embeddedToken(tokenId: number): number {
  return mixed(TOKEN_SALT, tokenId);
}

/** States as they travel: little-endian elements. */
export function hiddenBytes(states: readonly number[], format: WireFormat): Uint8Array {
  const size = elementBytes(format);
  const bytes = new Uint8Array(states.length * SCRIPTED_EMBEDDING_LENGTH * size);
  const view = new DataView(bytes.buffer);
  for (const [at, state] of states.entries()) {
    for (let element = 0; element < SCRIPTED_EMBEDDING_LENGTH; element++) {
      const value = (state >>> (element * 4)) % ELEMENT_RANGE;
      const offset = (at * SCRIPTED_EMBEDDING_LENGTH + element) * size;
      if (format === "f32") view.setFloat32(offset, value, true);
      else view.setUint16(offset, halfOf(value), true);
    }
  }
  return bytes;
}

/** Null where an element is no number that a hidden state can hold. */
export function statesOf(bytes: Uint8Array, format: WireFormat): readonly number[] | null {
  const size = elementBytes(format);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  assert(bytes.length % (SCRIPTED_EMBEDDING_LENGTH * size) === 0, `${bytes.length} bytes are whole hidden states`);
  const states: number[] = [];
  for (let offset = 0; offset < bytes.length; offset += SCRIPTED_EMBEDDING_LENGTH * size) {
    let state = 0;
    for (let element = 0; element < SCRIPTED_EMBEDDING_LENGTH; element++) {
      const at = offset + element * size;
      const value = format === "f32" ? view.getFloat32(at, true) : (HALVES.get(view.getUint16(at, true)) ?? Number.NaN);
      if (!Number.isFinite(value)) return null;
      state |= (Math.trunc(value) % ELEMENT_RANGE) << (element * 4);
    }
    states.push(state >>> 0);
  }
  return states;
}

/** Of as many positions: what a broken engine lets through. */
export function brokenBytes(positions: number, format: WireFormat): Uint8Array {
  const bytes = hiddenBytes(new Array<number>(positions).fill(0), format);
  const view = new DataView(bytes.buffer);
  if (format === "f32") view.setFloat32(0, Number.NaN, true);
  else view.setUint16(0, HALF_NAN, true);
  return bytes;
}

export function elementBytes(format: WireFormat): number {
  return format === "f32" ? 4 : 2;
}

/** FNV-1a step with MurmurHash3's finaliser: 32 bits in which every input bit counts. */
export function mixed(state: number, value: number): number {
  let hash = Math.imul(state ^ value, 0x01000193) >>> 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

const HALF_NAN = 0x7e00;

/** A small whole number as f16. */
function halfOf(value: number): number {
  if (value === 0) return 0;
  const exponent = Math.floor(Math.log2(value));
  return ((exponent + 15) << 10) | ((value / 2 ** exponent - 1) * 1_024);
}

const HALVES: ReadonlyMap<number, number> = new Map(
  Array.from({ length: ELEMENT_RANGE }, (_, value) => [halfOf(value), value]),
);
