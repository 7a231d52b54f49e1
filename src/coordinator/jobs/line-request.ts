/** What a line of an input file asks, and what a line of an output file says: OpenAI's Batch API. */
import { type BatchId, type RequestId, requestId } from "../../domain/ids.ts";
import { type Outcome, ok } from "../../domain/refusal.ts";
import type { Crypto } from "../../ports/crypto.ts";
import { parseJson } from "../gateway/bodies/json-body.ts";
import { CUSTOM_ID_CHARS_MAX } from "./job-options.ts";

export interface LineRequest {
  readonly customId: string;
  readonly model: string;
  readonly body: Readonly<Record<string, unknown>>;
}

/** Without its place in the file. */
export interface LineProblem {
  readonly code: string;
  readonly message: string;
  readonly param: string | null;
}

const JSON_DEPTH_MAX = 64;
const METHOD = "POST";

/** Checks all but what the endpoint itself checks when the line runs. */
export function parseLine(bytes: Uint8Array, endpoint: string): Outcome<LineRequest, LineProblem> {
  const decoded = decode(bytes);
  const parsed = decoded === null ? null : parseJson(decoded, JSON_DEPTH_MAX);
  if (parsed === null) return problem("invalid_json_line", "This line is not valid UTF-8.");
  if (!parsed.ok)
    return problem("invalid_json_line", `This line is not parseable as valid JSON: ${parsed.reason.message}`);
  const line = parsed.value;
  if (!isRecord(line)) return problem("invalid_json_line", "This line is not a JSON object.");
  const { custom_id: customId, method, url, body } = line;
  if (typeof customId !== "string" || customId === "" || customId.length > CUSTOM_ID_CHARS_MAX) {
    const wanted = `a string of 1 to ${CUSTOM_ID_CHARS_MAX} characters`;
    const code = customId === undefined ? "missing_required_parameter" : "invalid_custom_id";
    return problem(code, `'custom_id' is ${shown(customId)}; it must be ${wanted}.`, "custom_id");
  }
  if (method !== METHOD)
    return problem("invalid_method", `'method' is ${shown(method)}; only "POST" is supported.`, "method");
  if (url !== endpoint) {
    const message = `The URL provided for this request (${shown(url)}) does not match the batch endpoint (${endpoint}).`;
    return problem("url_mismatch", message, "url");
  }
  if (!isRecord(body)) return problem("missing_required_parameter", "'body' must be a JSON object.", "body");
  const { model } = body;
  if (typeof model !== "string") {
    return problem(
      "missing_required_parameter",
      `'body.model' is ${shown(model)}; it must name a model.`,
      "body.model",
    );
  }
  if (body["stream"] === true)
    return problem("unsupported_parameter", "A batch does not stream; leave 'stream' out.", "body.stream");
  return ok({ customId, model, body });
}

function problem(code: string, message: string, param: string | null = null) {
  return { ok: false as const, reason: { code, message, param } };
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const utf8 = new TextDecoder("utf-8", { fatal: true });

function decode(bytes: Uint8Array): string | null {
  try {
    return utf8.decode(bytes);
  } catch {
    return null; // the caller says which line it is
  }
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? "missing";
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

const CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const ULID_CHARS = 26;

/** The same for a line whenever it runs: so a line that is run again meets the receipt of its first run. `line` from 0. */
export function requestIdOf(batchId: BatchId, line: number, crypto: Crypto): RequestId {
  return requestId(`req_${derived(`${batchId}/${line}`, crypto)}`);
}

function derived(name: string, crypto: Crypto): string {
  const digest = crypto.sha256(new TextEncoder().encode(name));
  let text = "";
  for (let at = 0; at < ULID_CHARS; at++) {
    // Five bits for each character; a ULID's first one has three.
    const byte = digest[at] ?? 0;
    text += CROCKFORD[at === 0 ? byte & 0x07 : byte & 0x1f] ?? "0";
  }
  return text;
}

/** A line of the output or error file. `bodyJson` is JSON already. */
export function answerLine(line: {
  readonly requestId: RequestId;
  readonly customId: string;
  readonly status: number;
  readonly bodyJson: string;
}): string {
  const head = `{"id":${JSON.stringify(lineId(line.requestId))},"custom_id":${JSON.stringify(line.customId)}`;
  const response = `{"status_code":${line.status},"request_id":${JSON.stringify(line.requestId)},"body":${line.bodyJson}}`;
  return `${head},"response":${response},"error":null}`;
}

/** Of a line that was never answered. */
export function unansweredLine(line: {
  readonly requestId: RequestId;
  readonly customId: string;
  readonly code: string;
  readonly message: string;
}): string {
  const { customId, code, message } = line;
  const error = { code, message };
  return JSON.stringify({ id: lineId(line.requestId), custom_id: customId, response: null, error });
}

function lineId(request: RequestId): string {
  return `batch_${request}`;
}
