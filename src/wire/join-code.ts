/**
 * A join code is one line of text that brings a machine into a grid: where the coordinator is, what proves that it is the
 * right one, and a token that lets a stranger in a limited number of times.
 *
 * `fallow1_` + base64url(length of the payload as u16, payload, CRC-32 of the payload as u32), big-endian; the payload is
 * JSON. The length tells a code that was cut when copied from one that was altered, the checksum finds a wrong letter, and
 * the digit is the version. The code holds a secret: whoever has it can join until the token expires or is used up.
 */
import { z } from "zod";
import { assert } from "../domain/assert.ts";
import { no, type Outcome, ok } from "../domain/refusal.ts";
import { fromBase64Url, toBase64Url } from "./base64url.ts";

export const JOIN_CODE_VERSION = 1;
/** Longest code that is read: four long addresses and every field at its bound stay below. */
export const JOIN_CODE_CHARS_MAX = 4_096;
/** What a grid may be called: the id is signed as one line in the proof of identity, so it must not hold a line break. */
export const GRID_ID_PATTERN = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/;

const ADDRESSES_MAX = 4;
const PREFIX = /^fallow(\d{1,4})_(.*)$/s;
const LENGTH_BYTES = 2;
const CHECKSUM_BYTES = 4;

export interface JoinCode {
  /** `http(s)://host:port`, to be tried in this order; 1 to 4. */
  readonly urls: readonly string[];
  readonly token: string;
  /** SHA-256 of the coordinator's certificate; null when the grid is on this machine only. */
  readonly certificateSha256: string | null;
  readonly gridId: string;
}

export interface JoinCodeRefusal {
  readonly code:
    | "join-code-foreign"
    | "join-code-version-unknown"
    | "join-code-truncated"
    | "join-code-altered"
    | "join-code-too-long";
  /** For the person who pasted it: what is wrong, and what to do. */
  readonly message: string;
}

const payloadSchema = z.strictObject({
  u: z
    .array(
      z
        .string()
        .max(512)
        .regex(/^https?:\/\/[^\s/]+$/),
    )
    .min(1)
    .max(ADDRESSES_MAX),
  t: z.string().min(16).max(128),
  c: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .nullable(),
  g: z.string().regex(GRID_ID_PATTERN),
});

export function encodeJoinCode(code: JoinCode): string {
  const parsed = payloadSchema.safeParse({ u: code.urls, t: code.token, c: code.certificateSha256, g: code.gridId });
  assert(parsed.success, `a join code holds 1 to ${ADDRESSES_MAX} http(s) addresses, a token, a digest and a grid id`);
  const payload = new TextEncoder().encode(JSON.stringify(parsed.data));
  const bytes = new Uint8Array(LENGTH_BYTES + payload.length + CHECKSUM_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, payload.length);
  bytes.set(payload, LENGTH_BYTES);
  view.setUint32(LENGTH_BYTES + payload.length, crc32(payload));
  return `fallow${JOIN_CODE_VERSION}_${toBase64Url(bytes)}`;
}

/** Reads what a person pasted. White space around and inside (a line that was wrapped) is ignored. */
export function decodeJoinCode(pasted: string): Outcome<JoinCode, JoinCodeRefusal> {
  if (pasted.length > JOIN_CODE_CHARS_MAX) {
    return refused(
      "join-code-too-long",
      `a join code has at most ${JOIN_CODE_CHARS_MAX} characters, this has ${pasted.length}`,
    );
  }
  const [, version, body] = PREFIX.exec(pasted.replace(/\s+/g, "")) ?? [];
  if (version === undefined || body === undefined) {
    return refused(
      "join-code-foreign",
      "this is not a join code: it starts with fallow1_ and is printed by `fallow up`",
    );
  }
  if (Number(version) !== JOIN_CODE_VERSION) {
    const hint = Number(version) > JOIN_CODE_VERSION ? "update fallow on this machine" : "ask the grid for a new code";
    return refused(
      "join-code-version-unknown",
      `the join code has version ${version}, this program reads version ${JOIN_CODE_VERSION}: ${hint}`,
    );
  }
  return decodeBody(body);
}

function decodeBody(body: string): Outcome<JoinCode, JoinCodeRefusal> {
  // A cut can leave a length or leftover bits that no encoder writes; whole groups before it tell how much is missing.
  const whole = fromBase64Url(body) ?? fromBase64Url(body.slice(0, body.length - (body.length % 4)));
  if (whole === null)
    return refused("join-code-altered", "the join code holds letters that do not belong: copy it again");
  const bytesExpected =
    whole.length < LENGTH_BYTES ? null : new DataView(whole.buffer).getUint16(0) + LENGTH_BYTES + CHECKSUM_BYTES;
  if (bytesExpected === null || whole.length < bytesExpected) {
    const whereof = bytesExpected === null ? "" : ` of ${Math.ceil((bytesExpected * 4) / 3)}`;
    return refused(
      "join-code-truncated",
      `the join code was cut: ${body.length}${whereof} characters arrived; copy it again`,
    );
  }
  const payload = whole.subarray(LENGTH_BYTES, bytesExpected - CHECKSUM_BYTES);
  const checksum = new DataView(whole.buffer).getUint32(bytesExpected - CHECKSUM_BYTES);
  if (whole.length > bytesExpected || checksum !== crc32(payload)) {
    return refused("join-code-altered", "the join code's checksum does not fit: a letter was changed; copy it again");
  }
  const parsed = payloadSchema.safeParse(parseJson(new TextDecoder("utf-8").decode(payload)));
  if (!parsed.success) {
    return refused(
      "join-code-altered",
      "the join code's content is none that fallow writes: ask the grid for a new code",
    );
  }
  const { u, t, c, g } = parsed.data;
  return ok({ urls: u, token: t, certificateSha256: c, gridId: g });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // no JSON: the schema refuses it
  }
}

function refused(
  code: JoinCodeRefusal["code"],
  message: string,
): { readonly ok: false; readonly reason: JoinCodeRefusal } {
  return no({ code, message });
}

/** CRC-32 (ISO 3309, as in zip): finds every single wrong letter. It is no protection against intent. */
function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}
