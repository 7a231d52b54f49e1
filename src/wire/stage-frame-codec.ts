/**
 * The bytes of stage frames (stage-frames.ts). What comes in is another machine's: every length and number is checked before it is used, a frame that is
 * not exactly what it says is refused by name, and no byte is left over. Whether it fits the chain, the width and the positions is for `agent/stages`.
 */
import { absurd, assert } from "../domain/assert.ts";
import { crc32 } from "./crc32.ts";
import { StageBytes, StageCursor } from "./stage-frame-bytes.ts";
import {
  type ActivationEntry,
  DRAFTS_MAX,
  ENTRIES_MAX,
  HOLDINGS_MAX,
  STAGE_FRAME_HEAD_BYTES,
  STAGE_PROTOCOL_VERSION,
  type StageFrame,
  type StageFrameHead,
} from "./stage-frames.ts";

const TYPES = ["hello", "activations", "tokens", "gap", "credit", "release", "pulse"] as const;
type FrameType = StageFrame["type"];

const VERSION_AT = 1;
const ENTRIES_AT = 2;
const CHANNEL_AT = 4;
const EPOCH_AT = 8;
const FRAME_AT = 12;
const CRC_AT = 16;
const BODY_AT = STAGE_FRAME_HEAD_BYTES;

export type StageFrameCode =
  | "frame-short"
  | "frame-long"
  | "frame-version"
  | "frame-type"
  /** Its checksum is another one. */
  | "frame-damaged"
  /** The hidden states are not a whole number of elements for each position. */
  | "frame-width"
  /** A field that cannot be. */
  | "frame-malformed";

/** The message says what was wrong, with the values. */
export type DecodedFrame =
  | { readonly ok: true; readonly frame: StageFrame }
  | { readonly ok: false; readonly code: StageFrameCode; readonly message: string };

/** Bytes that an entry adds to an activations frame, beside its hidden states. */
export function activationEntryBytes({ draw }: Pick<ActivationEntry, "draw">): number {
  return ACTIVATION_ENTRY_BYTES + 4 * (draw?.draftIds.length ?? 0);
}
const ACTIVATION_ENTRY_BYTES = 28;
/** Of an activations frame without entries. */
export const ACTIVATIONS_HEAD_BYTES = STAGE_FRAME_HEAD_BYTES + 1;

const IS_SINGLY = 1;
const HAS_DRAW = 2;
const IS_REBUILD = 4;
const FORMATS = ["f16", "f32"] as const;
export const ELEMENT_BYTES = { f16: 2, f32: 4 } as const;
const ENDS = [null, "stop-token", "stop-string", "length", "grammar-end"] as const;

// ---------------------------------------------------------------- writing

/** The frame's own numbers must be in range: those that are not are a bug of the sender. */
export function encodeStageFrame(frame: StageFrame): Uint8Array {
  const body = frame.type === "activations" ? new StageBytes(BODY_AT, bodyBytesOf(frame)) : new StageBytes(BODY_AT);
  const entries = writeBody(frame, body);
  assert(entries <= ENTRIES_MAX, `a stage frame has at most ${ENTRIES_MAX} entries, not ${entries}`);
  const bytes = body.done();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  view.setUint8(0, TYPES.indexOf(frame.type) + 1);
  view.setUint8(VERSION_AT, STAGE_PROTOCOL_VERSION);
  view.setUint16(ENTRIES_AT, entries, true);
  view.setUint32(CHANNEL_AT, frame.channel, true);
  view.setUint32(EPOCH_AT, frame.chainEpoch, true);
  view.setUint32(FRAME_AT, frame.frame, true);
  view.setUint32(CRC_AT, crc32(bytes.subarray(BODY_AT)), true);
  return bytes;
}

function bodyBytesOf({ entries, data }: Extract<StageFrame, { type: "activations" }>): number {
  return entries.reduce((sum, entry) => sum + activationEntryBytes(entry), 1 + data.length);
}

/** Returns the number of entries. */
function writeBody(frame: StageFrame, to: StageBytes): number {
  switch (frame.type) {
    case "hello":
      to.hex(frame.chainId).u16(frame.stage).u32(frame.embeddingLength);
      for (const { sequence, held } of frame.holdings) to.hex(sequence).u32(held);
      return frame.holdings.length;
    case "activations":
      to.u8(FORMATS.indexOf(frame.format));
      for (const entry of frame.entries) writeActivation(entry, to);
      to.bytes(frame.data);
      return frame.entries.length;
    case "tokens":
      for (const { sequence, leaseEpoch, position, tokenIds, end } of frame.entries) {
        to.hex(sequence).u53(leaseEpoch).u32(position).u8(ENDS.indexOf(end)).u8(tokenIds.length);
        for (const tokenId of tokenIds) to.u32(tokenId);
      }
      return frame.entries.length;
    case "gap":
      to.hex(frame.sequence).u53(frame.leaseEpoch).u32(frame.held);
      return 1;
    case "credit":
      to.u53(frame.taken);
      return 0;
    case "release":
      to.hex(frame.sequence).u53(frame.leaseEpoch);
      return 1;
    case "pulse":
      to.f64(frame.sentAtMs).f64(frame.echoMs ?? -1);
      return 0;
    default:
      return absurd(frame);
  }
}

function writeActivation(entry: ActivationEntry, to: StageBytes): void {
  const { sequence, leaseEpoch, start, count, how, draw, promptLength, isRebuild } = entry;
  const drafts = draw?.draftIds ?? [];
  assert(drafts.length <= DRAFTS_MAX, `${drafts.length} drafts in one pass, ${DRAFTS_MAX} at most`);
  const flags = (how === "singly" ? IS_SINGLY : 0) | (draw === null ? 0 : HAS_DRAW) | (isRebuild ? IS_REBUILD : 0);
  to.hex(sequence).u53(leaseEpoch).u8(flags).u8(drafts.length).u24(start).u32(count).u32(promptLength);
  for (const tokenId of drafts) to.u32(tokenId);
}

// ---------------------------------------------------------------- reading

/** What the frame holds lies in `bytes`: it is not copied. */
export function decodeStageFrame(bytes: Uint8Array): DecodedFrame {
  if (bytes.length < BODY_AT) return no("frame-short", `${bytes.length} bytes, a stage frame has ${BODY_AT} at least`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const version = view.getUint8(VERSION_AT);
  if (version !== STAGE_PROTOCOL_VERSION) {
    return no("frame-version", `version ${version} of stage frames, ${STAGE_PROTOCOL_VERSION} is spoken here`);
  }
  const type = TYPES[view.getUint8(0) - 1];
  if (type === undefined) return no("frame-type", `a stage frame of type ${view.getUint8(0)}`);
  const body = bytes.subarray(BODY_AT);
  const [said, is] = [view.getUint32(CRC_AT, true), crc32(body)];
  if (said !== is)
    return no("frame-damaged", `CRC-32 ${is.toString(16)} of a ${type} frame that says ${said.toString(16)}`);
  const entries = view.getUint16(ENTRIES_AT, true);
  const head = {
    channel: view.getUint32(CHANNEL_AT, true),
    chainEpoch: view.getUint32(EPOCH_AT, true),
    frame: view.getUint32(FRAME_AT, true),
  };
  const from = new StageCursor(body);
  const read = readBody({ type, entries, head }, from);
  if (from.isBroken)
    return no("frame-short", `a ${type} frame of ${bytes.length} bytes ends before its ${entries} entries do`);
  if (typeof read === "string") return no("frame-malformed", `a ${type} frame: ${read}`);
  if (!from.isAtEnd)
    return no("frame-long", `a ${type} frame of ${bytes.length} bytes goes on after its ${entries} entries`);
  const width = read.type === "activations" ? widthProblem(read) : null;
  return width === null ? { ok: true, frame: read } : no("frame-width", width);
}

function no(code: StageFrameCode, message: string): DecodedFrame {
  return { ok: false, code, message };
}

function widthProblem({ format, entries, data }: Extract<StageFrame, { type: "activations" }>): string | null {
  const positions = entries.reduce((sum, { count }) => sum + count, 0);
  const isWhole = data.length > 0 && data.length % (positions * ELEMENT_BYTES[format]) === 0;
  return isWhole ? null : `${data.length} bytes of ${format} are no whole elements of ${positions} positions`;
}

interface Begun {
  readonly type: FrameType;
  readonly entries: number;
  readonly head: StageFrameHead;
}

/** The frame, or what is wrong with it; of no use when the cursor is broken. */
function readBody({ type, entries, head }: Begun, from: StageCursor): StageFrame | string {
  switch (type) {
    case "hello":
      return readHello(entries, head, from);
    case "activations":
      return readActivations(entries, head, from);
    case "tokens":
      return readTokens(entries, head, from);
    case "gap":
      if (entries !== 1) return `${entries} entries, not 1`;
      return { ...head, type, sequence: from.sequence(), leaseEpoch: from.u53(), held: from.u32() };
    case "credit":
      if (entries !== 0) return `${entries} entries, not 0`;
      return { ...head, type, taken: from.u53() };
    case "release":
      if (entries !== 1) return `${entries} entries, not 1`;
      return { ...head, type, sequence: from.sequence(), leaseEpoch: from.u53() };
    case "pulse":
      return readPulse(entries, head, from);
    default:
      return absurd(type);
  }
}

function readPulse(entries: number, head: StageFrameHead, from: StageCursor): StageFrame | string {
  if (entries !== 0) return `${entries} entries, not 0`;
  const [sentAtMs, echoMs] = [from.f64(), from.f64()];
  if (!Number.isFinite(sentAtMs) || sentAtMs < 0) return `sent at ${sentAtMs} ms`;
  if (!Number.isFinite(echoMs) || (echoMs < 0 && echoMs !== -1)) return `an echo of ${echoMs} ms`;
  return { ...head, type: "pulse", sentAtMs, echoMs: echoMs === -1 ? null : echoMs };
}

function readHello(entries: number, head: StageFrameHead, from: StageCursor): StageFrame | string {
  if (entries > HOLDINGS_MAX) return `${entries} holdings, at most ${HOLDINGS_MAX}`;
  const [chainId, stage, embeddingLength] = [from.hex(16), from.u16(), from.u32()];
  const holdings = [];
  for (let at = 0; at < entries && !from.isBroken; at++) holdings.push({ sequence: from.sequence(), held: from.u32() });
  return { ...head, type: "hello", chainId, stage, embeddingLength, holdings };
}

function readActivations(entries: number, head: StageFrameHead, from: StageCursor): StageFrame | string {
  if (entries < 1 || entries > ENTRIES_MAX) return `${entries} entries, 1 to ${ENTRIES_MAX}`;
  const code = from.u8();
  const format = FORMATS[code];
  if (format === undefined) return `format ${code}`;
  const list: ActivationEntry[] = [];
  for (let at = 0; at < entries && !from.isBroken; at++) {
    const entry = readActivation(from);
    if (typeof entry === "string") return entry;
    list.push(entry);
  }
  return { ...head, type: "activations", format, entries: list, data: from.rest() };
}

function readActivation(from: StageCursor): ActivationEntry | string {
  const [sequence, leaseEpoch, flags, drafts] = [from.sequence(), from.u53(), from.u8(), from.u8()];
  const [start, count, promptLength] = [from.u24(), from.u32(), from.u32()];
  const draftIds: number[] = [];
  if (drafts > DRAFTS_MAX) return `${drafts} drafts in one pass, ${DRAFTS_MAX} at most`;
  for (let at = 0; at < drafts; at++) draftIds.push(from.tokenId());
  if (flags > (IS_SINGLY | HAS_DRAW | IS_REBUILD)) return `flags ${flags}`;
  if (count < 1 || count > POSITIONS_MAX) return `${count} positions in one entry`;
  if (drafts > 0 && (flags & HAS_DRAW) === 0) return `${drafts} drafts and nothing to draw`;
  if (drafts >= count) return `${drafts} drafts in ${count} positions`;
  return {
    sequence,
    leaseEpoch,
    start,
    count,
    how: (flags & IS_SINGLY) !== 0 ? "singly" : "together",
    draw: (flags & HAS_DRAW) !== 0 ? { draftIds } : null,
    promptLength,
    isRebuild: (flags & IS_REBUILD) !== 0,
  };
}

/** A message of 1 MiB holds no more, however narrow the model. */
const POSITIONS_MAX = 1024 * 1024;

function readTokens(entries: number, head: StageFrameHead, from: StageCursor): StageFrame | string {
  if (entries < 1 || entries > ENTRIES_MAX) return `${entries} entries, 1 to ${ENTRIES_MAX}`;
  const list = [];
  for (let at = 0; at < entries && !from.isBroken; at++) {
    const [sequence, leaseEpoch, position] = [from.sequence(), from.u53(), from.u32()];
    const [endCode, tokens] = [from.u8(), from.u8()];
    const end = ENDS[endCode];
    if (end === undefined) return `end ${endCode}`;
    if (tokens > DRAFTS_MAX + 1) return `${tokens} tokens at once, ${DRAFTS_MAX + 1} at most`;
    if (tokens === 0 && end === null) return "neither a token nor an end";
    const tokenIds: number[] = [];
    for (let token = 0; token < tokens; token++) tokenIds.push(from.tokenId());
    list.push({ sequence, leaseEpoch, position, tokenIds, end });
  }
  return { ...head, type: "tokens", entries: list };
}
