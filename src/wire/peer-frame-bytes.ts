/** Fields of the frames between nodes: big-endian numbers, texts in UTF-8 with their length before them. */
import { REFUSAL_CODES, type RefusalCode } from "../domain/refusal.ts";

export const FRAME_HEAD_BYTES = 5;
/** Of any text but a credential; longer ones are cut. */
export const TEXT_CHARS_MAX = 500;

/** `spare`: for measuring another carrier, and used when nothing else is left. */
export type ConnectionRole = "message" | "bulk" | "spare";
const ROLES: readonly ConnectionRole[] = ["message", "bulk", "spare"];

export interface WireRefusal {
  readonly code: RefusalCode;
  readonly message: string;
  readonly retryAfterMs: number | null;
}

const NO_RETRY = 0xffff_ffff;
const NO_SHARE = 0xffff;

/** Reads the fields of a body; beyond its end it is broken, and what it gives is of no use. */
export class Cursor {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;
  isBroken = false;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
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

  u8(): number {
    const at = this.#take(1);
    return at === null ? 0 : this.#view.getUint8(at);
  }

  u16(): number {
    const at = this.#take(2);
    return at === null ? 0 : this.#view.getUint16(at);
  }

  u32(): number {
    const at = this.#take(4);
    return at === null ? 0 : this.#view.getUint32(at);
  }

  u48(): number {
    const at = this.#take(6);
    return at === null ? 0 : getU48(this.#view, at);
  }

  role(): ConnectionRole {
    const role = ROLES[this.u8()];
    if (role === undefined) this.isBroken = true;
    return role ?? "message";
  }

  share(): number | null {
    const code = this.u16();
    return code === NO_SHARE ? null : code / (NO_SHARE - 1);
  }

  bytes(count: number): Uint8Array {
    const at = this.#take(count);
    return at === null ? new Uint8Array(0) : this.#bytes.subarray(at, at + count);
  }

  rest(): Uint8Array {
    return this.bytes(this.#bytes.length - this.#at);
  }

  text(): string {
    return new TextDecoder().decode(this.bytes(this.u16()));
  }

  refusal(): WireRefusal {
    const code = REFUSAL_CODES[this.u8()];
    const retryAfterMs = this.u32();
    const message = this.text();
    if (code === undefined) this.isBroken = true;
    return { code: code ?? "internal", message, retryAfterMs: retryAfterMs === NO_RETRY ? null : retryAfterMs };
  }
}

/** Collects the fields of a body. */
export class Writer {
  readonly #parts: Uint8Array[] = [];
  #length = 0;

  #number(bytes: number, set: (view: DataView) => void): this {
    const part = new Uint8Array(bytes);
    set(viewOf(part));
    return this.bytes(part);
  }

  u8(value: number): this {
    return this.#number(1, (view) => view.setUint8(0, value));
  }

  u16(value: number): this {
    return this.#number(2, (view) => view.setUint16(0, value));
  }

  u32(value: number): this {
    return this.#number(4, (view) => view.setUint32(0, value));
  }

  u48(value: number): this {
    return this.#number(6, (view) => setU48(view, 0, value));
  }

  role(role: ConnectionRole): this {
    return this.u8(ROLES.indexOf(role));
  }

  share(share: number | null): this {
    return this.u16(share === null ? NO_SHARE : Math.round(Math.min(1, Math.max(0, share)) * (NO_SHARE - 1)));
  }

  bytes(part: Uint8Array): this {
    this.#parts.push(part);
    this.#length += part.length;
    return this;
  }

  text(text: string): this {
    const bytes = new TextEncoder().encode(text);
    return this.u16(bytes.length).bytes(bytes);
  }

  refusal({ code, message, retryAfterMs }: WireRefusal): this {
    const retry = retryAfterMs === null ? NO_RETRY : Math.min(NO_RETRY - 1, Math.max(0, Math.ceil(retryAfterMs)));
    return this.u8(REFUSAL_CODES.indexOf(code)).u32(retry).text(message.slice(0, TEXT_CHARS_MAX));
  }

  frame(kind: number): Uint8Array {
    const whole = new Uint8Array(FRAME_HEAD_BYTES + this.#length);
    const view = viewOf(whole);
    view.setUint8(0, kind);
    view.setUint32(1, this.#length);
    let at = FRAME_HEAD_BYTES;
    for (const part of this.#parts) {
      whole.set(part, at);
      at += part.length;
    }
    return whole;
  }
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function getU48(view: DataView, at: number): number {
  return view.getUint16(at) * 2 ** 32 + view.getUint32(at + 2);
}

export function setU48(view: DataView, at: number, value: number): void {
  view.setUint16(at, Math.floor(value / 2 ** 32));
  view.setUint32(at + 2, value % 2 ** 32);
}
