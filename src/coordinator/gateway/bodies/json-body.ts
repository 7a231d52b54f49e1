/**
 * A request's body: bounded before it is read, valid UTF-8 with the position of the first wrong byte, nested no deeper than
 * the bound (found by a scan, so that a hostile body never reaches the parser's stack), and JSON.
 */
import { type Outcome, ok, refuse } from "../../../domain/refusal.ts";
import type { OpenBody } from "./body-budget.ts";

/** Bodies are read within seconds. */
const CROWDED_RETRY_MS = 1_000;

/** Nearly every prompt is shorter. */
const SMALL_BODY_BYTES = 65_536;

export interface BodyBounds {
  readonly bodyBytesMax: number;
  readonly jsonDepthMax: number;
}

/** `room`: where the bytes are counted among those of all requests. */
export async function readJsonBody(request: Request, bounds: BodyBounds, room: OpenBody): Promise<Outcome<unknown>> {
  const type = request.headers.get("content-type");
  if (type !== null && !/^\s*application\/(?:[\w.+-]+\+)?json\s*(?:;|$)/i.test(type)) {
    const shown = type.slice(0, 100);
    return refuse("unsupported-media-type", `content-type is ${JSON.stringify(shown)}; send application/json`);
  }
  const text = await readBodyText(request, bounds.bodyBytesMax, room);
  return text.ok ? parseJson(text.value, bounds.jsonDepthMax) : text;
}

/** Reads no more of it than the bound. */
export async function readBodyText(
  request: Request,
  bytesMax: number,
  room: OpenBody | null = null,
): Promise<Outcome<string>> {
  let bytes: Outcome<Uint8Array>;
  try {
    bytes = await readBounded(request, bytesMax, room);
  } catch {
    // Nothing but the connection can fail in reading: the client hung up, or was too slow, in the middle of its body.
    return refuse("cancelled", "the client closed the request before its body was whole");
  }
  return bytes.ok ? decodeUtf8(bytes.value) : bytes;
}

async function readBounded(request: Request, bytesMax: number, room: OpenBody | null): Promise<Outcome<Uint8Array>> {
  const declared = Number(request.headers.get("content-length") ?? 0);
  if (declared > bytesMax) return tooLarge(`${declared} bytes`, bytesMax);
  if (declared > 0 && declared <= SMALL_BODY_BYTES) return await readSmall(request, declared, room);
  if (request.body === null) return ok(new Uint8Array(0));
  const chunks: Uint8Array[] = [];
  let total = 0;
  const reader = request.body.getReader();
  for (;;) {
    const step = await reader.read();
    if (step.done) break;
    total += step.value.byteLength;
    if (total > bytesMax) {
      // The rest is not read; a failure to stop it is the connection's own end.
      void reader.cancel().catch(() => undefined);
      return tooLarge(`more than ${bytesMax} bytes`, bytesMax);
    }
    if (room?.take(step.value.byteLength) === false) {
      void reader.cancel().catch(() => undefined);
      return crowded();
    }
    chunks.push(step.value);
  }
  const [first] = chunks;
  if (chunks.length === 1 && first !== undefined) return ok(first);
  const bytes = new Uint8Array(total);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.byteLength;
  }
  return ok(bytes);
}

/**
 * The server hands over no more than the declared length, and a whole body in one piece skips the stream that would otherwise be
 * made for it: a third of a millisecond.
 */
async function readSmall(request: Request, declared: number, room: OpenBody | null): Promise<Outcome<Uint8Array>> {
  if (room?.take(declared) === false) return crowded();
  return ok(new Uint8Array(await request.arrayBuffer()));
}

function crowded() {
  return refuse("queue-full", "too much is being sent to this coordinator at once", { retryAfterMs: CROWDED_RETRY_MS });
}

function tooLarge(found: string, bytesMax: number) {
  return refuse("body-too-large", `the body has ${found}; at most ${bytesMax} bytes are taken`);
}

function decodeUtf8(bytes: Uint8Array): Outcome<string> {
  try {
    return ok(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    const at = invalidUtf8At(bytes);
    const found = (bytes[at] ?? 0).toString(16).padStart(2, "0");
    return refuse("invalid-request", `the body is not valid UTF-8: byte 0x${found} at position ${at}`);
  }
}

/** Index of the first byte of the first sequence that is not UTF-8 (RFC 3629). */
export function invalidUtf8At(bytes: Uint8Array): number {
  let at = 0;
  while (at < bytes.length) {
    const length = sequenceLengthAt(bytes, at);
    if (length === 0) return at;
    at += length;
  }
  return at;
}

function sequenceLengthAt(bytes: Uint8Array, at: number): number {
  const lead = bytes[at] ?? 0;
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  const length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  const second = bytes[at + 1] ?? 0;
  // Overlong forms, surrogates and values above U+10FFFF show in the second byte.
  if ((lead === 0xe0 && second < 0xa0) || (lead === 0xed && second > 0x9f)) return 0;
  if ((lead === 0xf0 && second < 0x90) || (lead === 0xf4 && second > 0x8f)) return 0;
  for (let offset = 1; offset < length; offset++) {
    if (((bytes[at + offset] ?? 0) & 0xc0) !== 0x80) return 0;
  }
  return length;
}

export function parseJson(text: string, depthMax: number): Outcome<unknown> {
  const depth = jsonDepth(text, depthMax);
  if (depth > depthMax) return refuse("invalid-request", `the body nests deeper than ${depthMax} levels`);
  if (text.trim() === "") return refuse("invalid-request", "the body is empty; send a JSON object");
  try {
    const value: unknown = JSON.parse(text);
    return ok(value);
  } catch (thrown) {
    const why = thrown instanceof Error ? thrown.message : String(thrown);
    return refuse("invalid-request", `the body is not valid JSON: ${why}`);
  }
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** How deep brackets nest outside of strings; stops counting beyond `depthMax`. */
function jsonDepth(text: string, depthMax: number): number {
  let depth = 0;
  let deepest = 0;
  let isInString = false;
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    if (isInString) {
      if (unit === BACKSLASH) at++;
      else if (unit === QUOTE) isInString = false;
    } else if (unit === QUOTE) {
      isInString = true;
    } else if (unit === 0x7b || unit === 0x5b) {
      depth++;
      if (depth > deepest) deepest = depth;
      if (deepest > depthMax) return deepest;
    } else if (unit === 0x7d || unit === 0x5d) {
      depth--;
    }
  }
  return deepest;
}
