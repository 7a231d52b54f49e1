/**
 * Frames between two nodes (PeerLink). One byte of kind, four of length, then the body; numbers are big-endian. Every body has a bound of
 * its own, checked before a byte of it is kept. `data` alone is handed on in parts as it comes (peer-frame-reader.ts), so that no frame of
 * bulk is ever held whole.
 *
 * Who sends what, and when, is told in docs/peer-link.md.
 */
import {
  type ConnectionRole,
  Cursor,
  FRAME_HEAD_BYTES,
  getU48,
  setU48,
  TEXT_CHARS_MAX,
  viewOf,
  type WireRefusal,
  Writer,
} from "./peer-frame-bytes.ts";

export const PEER_PROTOCOL_VERSION = 1;
/** Stream and offset, before the bytes of a `data` frame. */
export const DATA_PREFIX_BYTES = 10;
export const SESSION_ID_BYTES = 16;
export const SESSION_SECRET_BYTES = 32;

export type PeerFrame =
  | {
      readonly kind: "hello";
      readonly version: number;
      readonly role: ConnectionRole;
      readonly credential: string;
    }
  | {
      readonly kind: "attach";
      readonly version: number;
      readonly role: ConnectionRole;
      /** 1, 2, …: each connection of a session has its own, in the order in which they were dialled. */
      readonly number: number;
      readonly sessionId: Uint8Array;
      readonly secret: Uint8Array;
    }
  | { readonly kind: "accepted"; readonly sessionId: Uint8Array; readonly secret: Uint8Array }
  | { readonly kind: "attached" }
  /** Answers `hello` and `attach` (id 0) and `present`. */
  | { readonly kind: "refused"; readonly id: number; readonly refusal: WireRefusal }
  | { readonly kind: "ping"; readonly id: number; readonly lossShare: number | null }
  | { readonly kind: "pong"; readonly id: number }
  | { readonly kind: "message"; readonly seq: number; readonly bytes: Uint8Array }
  /** All messages up to and with `seq` have come. */
  | { readonly kind: "ack"; readonly seq: number }
  /** Asks for `length` bytes from `offset` of what `request` names, and is the credit for them. */
  | {
      readonly kind: "ask";
      readonly stream: number;
      readonly offset: number;
      readonly length: number;
      readonly totalBytes: number;
      readonly request: Uint8Array;
    }
  | DataPart
  | { readonly kind: "fail"; readonly stream: number; readonly refusal: WireRefusal }
  /** The asker wants no more of the stream. */
  | { readonly kind: "stop"; readonly stream: number }
  /** Nothing more of the stream comes. */
  | { readonly kind: "stopped"; readonly stream: number }
  | { readonly kind: "present"; readonly id: number; readonly credential: string }
  | { readonly kind: "presented"; readonly id: number }
  | { readonly kind: "goodbye"; readonly reason: string };

export interface DataPart {
  readonly kind: "data";
  readonly stream: number;
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export type FrameKind = PeerFrame["kind"];

const KINDS: readonly FrameKind[] = [
  "hello",
  "attach",
  "accepted",
  "attached",
  "refused",
  "ping",
  "pong",
  "message",
  "ack",
  "ask",
  "data",
  "fail",
  "stop",
  "stopped",
  "present",
  "presented",
  "goodbye",
];

/** UTF-8 takes at most three bytes for a UTF-16 unit. */
const CREDENTIAL_BYTES_MAX = 3 * 4_096;
const TEXT_BYTES_MAX = 3 * TEXT_CHARS_MAX;
/** Code, pause, and a text with its length. */
const REFUSAL_BYTES_MIN = 1 + 4 + 2;
const REFUSAL_BYTES_MAX = REFUSAL_BYTES_MIN + TEXT_BYTES_MAX;
export const REQUEST_BYTES_MAX = 1_024;
export const MESSAGE_BYTES_MAX = 1024 * 1024;
/** Of one `data` frame: what a serving node reads and writes at once. */
export const DATA_BYTES_MAX = 256 * 1024;

/** The body's length: least and most of each kind. */
const BODY_BYTES: Readonly<Record<FrameKind, readonly [min: number, max: number]>> = {
  hello: [3 + 2, 3 + 2 + CREDENTIAL_BYTES_MAX],
  attach: [7 + SESSION_ID_BYTES + SESSION_SECRET_BYTES, 7 + SESSION_ID_BYTES + SESSION_SECRET_BYTES],
  accepted: [SESSION_ID_BYTES + SESSION_SECRET_BYTES, SESSION_ID_BYTES + SESSION_SECRET_BYTES],
  attached: [0, 0],
  refused: [4 + REFUSAL_BYTES_MIN, 4 + REFUSAL_BYTES_MAX],
  ping: [6, 6],
  pong: [4, 4],
  message: [6, 6 + MESSAGE_BYTES_MAX],
  ack: [6, 6],
  ask: [4 + 6 + 4 + 6, 4 + 6 + 4 + 6 + REQUEST_BYTES_MAX],
  data: [DATA_PREFIX_BYTES + 1, DATA_PREFIX_BYTES + DATA_BYTES_MAX],
  fail: [4 + REFUSAL_BYTES_MIN, 4 + REFUSAL_BYTES_MAX],
  stop: [4, 4],
  stopped: [4, 4],
  present: [4 + 2, 4 + 2 + CREDENTIAL_BYTES_MAX],
  presented: [4, 4],
  goodbye: [2, 2 + TEXT_BYTES_MAX],
};

/** The kind and body length that a head names, or what is wrong with it. */
export function readHead(
  head: Uint8Array,
):
  | { readonly ok: true; readonly kind: FrameKind; readonly bodyBytes: number }
  | { readonly ok: false; readonly reason: string } {
  const view = viewOf(head);
  const kind = KINDS[view.getUint8(0)];
  const bodyBytes = view.getUint32(1);
  if (kind === undefined) return { ok: false, reason: `a frame of the unknown kind ${view.getUint8(0)}` };
  const [min, max] = BODY_BYTES[kind];
  if (bodyBytes < min || bodyBytes > max) {
    return { ok: false, reason: `a ${kind} frame of ${bodyBytes} bytes has ${min} to ${max}` };
  }
  return { ok: true, kind, bodyBytes };
}

/** Null when the body does not read as its kind. `data` is read by the frame reader. */
export function readBody(kind: Exclude<FrameKind, "data">, body: Uint8Array): PeerFrame | null {
  const cursor = new Cursor(body);
  const frame = readFields(kind, cursor);
  return frame === null || cursor.isBroken || !cursor.isAtEnd ? null : frame;
}

function readFields(kind: Exclude<FrameKind, "data">, at: Cursor): PeerFrame | null {
  switch (kind) {
    case "hello":
      return { kind, version: at.u16(), role: at.role(), credential: at.text() };
    case "attach": {
      const [version, role, number] = [at.u16(), at.role(), at.u32()];
      return {
        kind,
        version,
        role,
        number,
        sessionId: at.bytes(SESSION_ID_BYTES),
        secret: at.bytes(SESSION_SECRET_BYTES),
      };
    }
    case "accepted":
      return { kind, sessionId: at.bytes(SESSION_ID_BYTES), secret: at.bytes(SESSION_SECRET_BYTES) };
    case "attached":
      return { kind };
    case "refused":
      return { kind, id: at.u32(), refusal: at.refusal() };
    case "ping":
      return { kind, id: at.u32(), lossShare: at.share() };
    case "pong":
    case "presented":
      return { kind, id: at.u32() };
    case "message":
      return { kind, seq: at.u48(), bytes: at.rest() };
    case "ack":
      return { kind, seq: at.u48() };
    case "ask": {
      const [stream, offset, length, totalBytes] = [at.u32(), at.u48(), at.u32(), at.u48()];
      if (length < 1 || offset + length > totalBytes) return null;
      return { kind, stream, offset, length, totalBytes, request: at.rest() };
    }
    case "fail":
      return { kind, stream: at.u32(), refusal: at.refusal() };
    case "stop":
    case "stopped":
      return { kind, stream: at.u32() };
    case "present":
      return { kind, id: at.u32(), credential: at.text() };
    case "goodbye":
      return { kind, reason: at.text() };
  }
}

/** The whole frame as bytes. */
export function writeFrame(frame: Exclude<PeerFrame, DataPart>): Uint8Array {
  const body = new Writer();
  writeFields(frame, body);
  return body.frame(KINDS.indexOf(frame.kind));
}

/** What goes before the bytes of a `data` frame: they follow as they are, uncopied. */
export function writeDataHead(part: {
  readonly stream: number;
  readonly offset: number;
  readonly length: number;
}): Uint8Array {
  const head = new Uint8Array(FRAME_HEAD_BYTES + DATA_PREFIX_BYTES);
  const view = viewOf(head);
  view.setUint8(0, KINDS.indexOf("data"));
  view.setUint32(1, DATA_PREFIX_BYTES + part.length);
  view.setUint32(5, part.stream);
  setU48(view, 9, part.offset);
  return head;
}

export function readDataPrefix(prefix: Uint8Array): { readonly stream: number; readonly offset: number } {
  const view = viewOf(prefix);
  return { stream: view.getUint32(0), offset: getU48(view, 4) };
}

function writeFields(frame: Exclude<PeerFrame, DataPart>, to: Writer): Writer {
  switch (frame.kind) {
    case "hello":
      return to.u16(frame.version).role(frame.role).text(frame.credential);
    case "attach":
      return to.u16(frame.version).role(frame.role).u32(frame.number).bytes(frame.sessionId).bytes(frame.secret);
    case "accepted":
      return to.bytes(frame.sessionId).bytes(frame.secret);
    case "attached":
      return to;
    case "refused":
      return to.u32(frame.id).refusal(frame.refusal);
    case "ping":
      return to.u32(frame.id).share(frame.lossShare);
    case "pong":
    case "presented":
      return to.u32(frame.id);
    case "message":
      return to.u48(frame.seq).bytes(frame.bytes);
    case "ack":
      return to.u48(frame.seq);
    case "ask":
      return to.u32(frame.stream).u48(frame.offset).u32(frame.length).u48(frame.totalBytes).bytes(frame.request);
    case "fail":
      return to.u32(frame.stream).refusal(frame.refusal);
    case "stop":
    case "stopped":
      return to.u32(frame.stream);
    case "present":
      return to.u32(frame.id).text(frame.credential);
    case "goodbye":
      return to.text(frame.reason.slice(0, TEXT_CHARS_MAX));
  }
}
