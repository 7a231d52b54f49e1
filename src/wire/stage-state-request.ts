/**
 * What a stage asks the one whose place it takes for, over a peer link: the keys and values of live sequences. Answers have a length that the asker knows.
 *
 * | asks for | answer                                                                                                      |
 * | -------- | ----------------------------------------------------------------------------------------------------------- |
 * | list     | u32 count, then `HOLDINGS_MAX` entries: sequence (8), u32 positions; the rest zeros                          |
 * | prepare  | of one sequence: u32 positions, u48 bytes, SHA-256 (32) of its state; zeros when it is not held any more    |
 * | state    | of one that was prepared, by its digest: the bytes                                                          |
 *
 * Little-endian. The first byte differs from that of every request for weights.
 */
import { assert } from "../domain/assert.ts";
import type { SequenceId } from "../domain/chain.ts";
import { toHex } from "../domain/hex.ts";
import { type Sha256Hex, sha256Hex } from "../domain/ids.ts";
import { StageBytes, StageCursor } from "./stage-frame-bytes.ts";
import { HOLDINGS_MAX } from "./stage-frames.ts";

export const STAGE_STATE_REQUEST = 0x53;
const VERSION = 1;
const KINDS = ["list", "prepare", "state"] as const;

export type StageStateRequest = {
  readonly chainId: string;
  /** First layer of the stage. */
  readonly first: number;
} & (
  | { readonly kind: "list" }
  | { readonly kind: "prepare"; readonly sequence: SequenceId }
  | { readonly kind: "state"; readonly sequence: SequenceId; readonly sha256: Sha256Hex }
);

export interface PreparedState {
  readonly positions: number;
  readonly bytes: number;
  readonly sha256: Sha256Hex;
}

export interface HeldSequence {
  readonly sequence: SequenceId;
  readonly held: number;
}

export const STATE_LIST_BYTES = 4 + HOLDINGS_MAX * 12;
export const PREPARED_BYTES = 4 + 7 + 32;

export function encodeStateRequest(request: StageStateRequest): Uint8Array {
  const bytes = new StageBytes(0).u8(STAGE_STATE_REQUEST).u8(VERSION).u8(KINDS.indexOf(request.kind));
  bytes.hex(request.chainId).u16(request.first);
  if (request.kind !== "list") bytes.hex(request.sequence);
  if (request.kind === "state") bytes.hex(request.sha256);
  return bytes.done();
}

/** Null when it is no such request. */
export function decodeStateRequest(bytes: Uint8Array): StageStateRequest | null {
  const from = new StageCursor(bytes);
  if (from.u8() !== STAGE_STATE_REQUEST || from.u8() !== VERSION) return null;
  const kind = KINDS[from.u8()];
  const place = { chainId: from.hex(16), first: from.u16() };
  if (kind === undefined || from.isBroken) return null;
  const request = readRequest(kind, place, from);
  return from.isBroken || !from.isAtEnd ? null : request;
}

function readRequest(
  kind: StageStateRequest["kind"],
  place: { readonly chainId: string; readonly first: number },
  from: StageCursor,
): StageStateRequest | null {
  if (kind === "list") return { ...place, kind };
  const sequence = from.sequence();
  if (kind === "prepare") return { ...place, kind, sequence };
  const digest = from.hex(32);
  return from.isBroken ? null : { ...place, kind, sequence, sha256: sha256Hex(digest) };
}

/** At most `HOLDINGS_MAX`. */
export function encodeStateList(held: readonly HeldSequence[]): Uint8Array {
  assert(held.length <= HOLDINGS_MAX, `${held.length} sequences in a list of ${HOLDINGS_MAX}`);
  const bytes = new StageBytes(0).u32(held.length);
  for (const one of held) bytes.hex(one.sequence).u32(one.held);
  return bytes.bytes(new Uint8Array((HOLDINGS_MAX - held.length) * 12)).done();
}

/** Null when it is no such list. */
export function decodeStateList(bytes: Uint8Array): readonly HeldSequence[] | null {
  const from = new StageCursor(bytes);
  const count = from.u32();
  if (bytes.length !== STATE_LIST_BYTES || count > HOLDINGS_MAX) return null;
  return Array.from({ length: count }, () => ({ sequence: from.sequence(), held: from.u32() }));
}

export function encodePrepared(prepared: PreparedState | null): Uint8Array {
  if (prepared === null) return new Uint8Array(PREPARED_BYTES);
  return new StageBytes(0).u32(prepared.positions).u53(prepared.bytes).hex(prepared.sha256).done();
}

/** Null when there is none, or it is no such answer. */
export function decodePrepared(bytes: Uint8Array): PreparedState | null {
  if (bytes.length !== PREPARED_BYTES) return null;
  const from = new StageCursor(bytes);
  const [positions, length] = [from.u32(), from.u53()];
  if (positions === 0 || length === 0 || from.isBroken) return null;
  return { positions, bytes: length, sha256: sha256Hex(toHex(from.rest())) };
}
