/** Fields of stage frames: little-endian numbers; ids as the bytes of their hex. */
import { assert } from "../domain/assert.ts";
import { type SequenceId, sequenceId } from "../domain/chain.ts";
import { fromHex, toHex } from "../domain/hex.ts";

const SEQUENCE_BYTES = 8;
const BYTES_START = 256;

/** Collects a frame behind room for its head. */
export class StageBytes {
  #bytes: Uint8Array;
  #view: DataView;
  #length: number;

  /** `bodyBytes`: as far as it is known; more is made room for. */
  constructor(headBytes: number, bodyBytes = BYTES_START) {
    this.#bytes = new Uint8Array(headBytes + bodyBytes);
    this.#view = new DataView(this.#bytes.buffer);
    this.#length = headBytes;
  }

  u8(value: number): this {
    checkRange(value, 2 ** 8);
    const at = this.#grow(1);
    this.#view.setUint8(at, value);
    return this;
  }

  u16(value: number): this {
    checkRange(value, 2 ** 16);
    const at = this.#grow(2);
    this.#view.setUint16(at, value, true);
    return this;
  }

  u24(value: number): this {
    checkRange(value, 2 ** 24);
    return this.u8(value & 255).u16(value >>> 8);
  }

  u32(value: number): this {
    checkRange(value, 2 ** 32);
    const at = this.#grow(4);
    this.#view.setUint32(at, value, true);
    return this;
  }

  /** Any safe integer, in seven bytes. */
  u53(value: number): this {
    checkRange(value, Number.MAX_SAFE_INTEGER + 1);
    return this.u32(value % 2 ** 32).u24(Math.floor(value / 2 ** 32));
  }

  f64(value: number): this {
    const at = this.#grow(8);
    this.#view.setFloat64(at, value, true);
    return this;
  }

  hex(text: string): this {
    const bytes = fromHex(text);
    assert(bytes !== null, `${text} is hex`);
    return this.bytes(bytes);
  }

  bytes(part: Uint8Array): this {
    const at = this.#grow(part.length);
    this.#bytes.set(part, at);
    return this;
  }

  done(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  #grow(count: number): number {
    const at = this.#length;
    this.#length += count;
    if (this.#length > this.#bytes.length) {
      const more = new Uint8Array(Math.max(this.#length, this.#bytes.length * 2));
      more.set(this.#bytes.subarray(0, at));
      this.#bytes = more;
      this.#view = new DataView(more.buffer);
    }
    return at;
  }
}

function checkRange(value: number, end: number): void {
  assert(Number.isInteger(value) && value >= 0 && value < end, `${value} is an integer below ${end}`);
}

/** Reads the fields of a body; beyond its end it is broken, and what it gives is of no use. */
export class StageCursor {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;
  isBroken = false;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  u8(): number {
    const at = this.#take(1);
    return at === null ? 0 : this.#view.getUint8(at);
  }

  u16(): number {
    const at = this.#take(2);
    return at === null ? 0 : this.#view.getUint16(at, true);
  }

  u24(): number {
    return this.u8() + this.u16() * 256;
  }

  u32(): number {
    const at = this.#take(4);
    return at === null ? 0 : this.#view.getUint32(at, true);
  }

  /** Beyond the safe integers it is broken. */
  u53(): number {
    const value = this.u32() + this.u24() * 2 ** 32;
    if (!Number.isSafeInteger(value)) this.isBroken = true;
    return value;
  }

  /** Ids of tokens are below 2^31 wherever they travel. */
  tokenId(): number {
    const value = this.u32();
    if (value >= 2 ** 31) this.isBroken = true;
    return value;
  }

  f64(): number {
    const at = this.#take(8);
    return at === null ? 0 : this.#view.getFloat64(at, true);
  }

  hex(count: number): string {
    const at = this.#take(count);
    return at === null ? "" : toHex(this.#bytes.subarray(at, at + count));
  }

  sequence(): SequenceId {
    return sequenceId(this.hex(SEQUENCE_BYTES) || "0".repeat(2 * SEQUENCE_BYTES));
  }

  rest(): Uint8Array {
    const at = this.#at;
    this.#at = this.#bytes.length;
    return this.#bytes.subarray(at);
  }

  #take(count: number): number | null {
    const start = this.#at;
    if (start + count > this.#bytes.length) {
      this.isBroken = true;
      return null;
    }
    this.#at += count;
    return start;
  }
}
