/**
 * One call, from the socket to its last event. Whatever happens, the caller gets one `end` or one `failed`, or nothing after `cancel`.
 *
 * | clock            | runs from    | until                | then       |
 * | ---------------- | ------------ | -------------------- | ---------- |
 * | first token      | the call     | something was said   | `too-slow` |
 * | silence          | each event   | the next one         | `too-slow` |
 * | total            | the call     | the end              | `too-slow` |
 *
 * Bytes that say nothing (comments, blanks) stop none of them.
 */
import type { Dispatcher } from "undici";
import { describeFault } from "../../domain/fault.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import type { UpstreamCall, UpstreamEvent } from "../../ports/cloud-upstream.ts";
import type { Log } from "../../ports/log.ts";
import { AnswerReader } from "./answer-reader.ts";
import type { CredentialBook } from "./credential-book.ts";
import { faultOf, faultOfStatus } from "./failure-of.ts";
import { addressProblem, type PrivateHosts } from "./provider-address.ts";
import { type HeaderMap, limitsOf, retryAfterMs } from "./rate-headers.ts";
import { readEventStream, readJsonAnswer } from "./read-answer.ts";
import { requestOf, type UpstreamRequest } from "./request-body.ts";
import { UpstreamFault } from "./upstream-fault.ts";

export interface CallParts {
  readonly dispatcher: Dispatcher;
  readonly credentials: CredentialBook;
  readonly privateHosts: PrivateHosts;
  readonly clock: Clock;
  readonly log: Log;
  /** A stream that says nothing for so long in its middle is dead. */
  readonly silentMsMax: number;
}

/** A body that does not end by then is cut off. */
const BODY_END_MS_MAX = 1_000;
/** What an error's body is read up to; the rest is not waited for. */
const ERROR_BYTES_MAX = 16_384;

export class CallRun {
  readonly #call: UpstreamCall;
  readonly #parts: CallParts;
  readonly #onEvent: (event: UpstreamEvent) => void;
  readonly #abort = new AbortController();
  readonly #timers: Timer[] = [];
  #state: "waiting" | "telling" | "over" = "waiting";
  #hasHead = false;
  #saidAtMs = 0;

  constructor(call: UpstreamCall, parts: CallParts, onEvent: (event: UpstreamEvent) => void) {
    this.#call = call;
    this.#parts = parts;
    this.#onEvent = onEvent;
    const { firstTokenMsMax, totalMsMax } = call;
    const { clock } = parts;
    this.#timers.push(
      clock.setTimer(totalMsMax, () => this.#fail(tooSlow(`its answer took more than ${totalMsMax} ms`))),
      clock.setTimer(firstTokenMsMax, () => {
        if (this.#state === "waiting") this.#fail(tooSlow(`it said nothing for ${firstTokenMsMax} ms`));
      }),
    );
    void this.#carryOut();
  }

  cancel(): void {
    this.#close();
  }

  async #carryOut(): Promise<void> {
    try {
      await this.#converse();
      this.#stop();
    } catch (thrown) {
      if (this.#state === "over") return;
      const fault = faultOf(thrown, this.#hasHead);
      this.#parts.log.debug(
        { providerId: this.#call.provider.providerId, cause: describeFault(fault.cause) },
        "cloud call failed",
      );
      this.#fail(fault);
    }
  }

  async #converse(): Promise<void> {
    const { provider } = this.#call;
    const { credentials, privateHosts } = this.#parts;
    const problem = addressProblem(provider.baseUrl, privateHosts);
    // Also lets the caller have the run in hand before its first event.
    const { secret, problem: keyProblem } = await credentials.secret(provider.credential);
    if (problem !== null) throw new UpstreamFault("unreachable", problem);
    if (keyProblem !== null) throw new UpstreamFault("unauthorised", keyProblem);
    const request = requestOf(this.#call);
    const answer = await this.#send(request, secret);
    this.#hasHead = true;
    const { statusCode: status, headers, body } = answer;
    const limits = limitsOf(headers);
    if (limits !== null) this.#emit({ kind: "limits", limits });
    // A body that ends early after we left it is of no interest to anybody.
    body.on("error", () => undefined);
    if (status !== 200) {
      const waitMs = retryAfterMs(headers, this.#parts.clock.wallMs());
      const location = singleHeader(headers, "location");
      const isRedirect = status >= 300 && status < 400;
      const text = isRedirect ? "" : await beginningOf(body);
      throw faultOfStatus({ status, body: text, location }, { retryAfterMs: waitMs, secret });
    }
    await this.#read(answer, { request, secret });
  }

  #send(request: UpstreamRequest, secret: string | null): Promise<Dispatcher.ResponseData> {
    const url = new URL(this.#call.provider.baseUrl);
    return this.#parts.dispatcher.request({
      origin: url.origin,
      path: `${url.pathname.replace(/\/+$/, "")}${request.path}`,
      method: "POST",
      headers: {
        accept: request.isStream ? "text/event-stream, application/json" : "application/json",
        // Nothing is unpacked, so that no small answer becomes a large one.
        "accept-encoding": "identity",
        "content-type": "application/json",
        "user-agent": "fallow",
        ...(secret === null ? {} : { authorization: `Bearer ${secret}` }),
      },
      body: request.body,
      signal: this.#abort.signal,
    });
  }

  async #read(
    answer: Dispatcher.ResponseData,
    more: { request: UpstreamRequest; secret: string | null },
  ): Promise<void> {
    const { headers, body } = answer;
    const { request, secret } = more;
    const kind = kindOfBody(headers);
    this.#emit({ kind: "opened" });
    const tokensMax = this.#call.tokensMax * request.choices;
    const reader = new AnswerReader({ choices: request.choices, tokensMax }, (event) => this.#emit(event));
    const onOddity = (what: "no-done" | "no-stream") => this.#emit({ kind: "noticed", what });
    const source = { body, reader, tokensMax, secret, onOddity };
    if (kind === "stream") await readEventStream(source);
    else {
      if (request.isStream) onOddity("no-stream");
      await readJsonAnswer(source);
    }
  }

  #emit(event: UpstreamEvent): void {
    if (this.#state === "over") return;
    if (event.kind === "failed") this.#close();
    else if (event.kind === "end") this.#leave();
    else if (isSaid(event)) this.#noteSaid();
    this.#onEvent(event);
  }

  #noteSaid(): void {
    const { clock, silentMsMax } = this.#parts;
    this.#saidAtMs = clock.monoMs();
    if (this.#state === "telling") return;
    this.#state = "telling";
    this.#watchSilence(silentMsMax);
  }

  /** One timer for the whole stream: it looks again when the silence could be over the bound. */
  #watchSilence(delayMs: number): void {
    const { clock, silentMsMax } = this.#parts;
    const timer = clock.setTimer(delayMs, () => {
      if (this.#state === "over") return;
      const silentMs = clock.monoMs() - this.#saidAtMs;
      if (silentMs >= silentMsMax) return this.#fail(tooSlow(`it said nothing for ${silentMsMax} ms in mid-answer`));
      this.#watchSilence(Math.max(1, silentMsMax - silentMs));
    });
    this.#timers[2] = timer; // takes the place of the one that fired
  }

  #fail(fault: UpstreamFault): void {
    const message = `provider ${this.#call.provider.providerId}: ${fault.message}`;
    this.#emit({ kind: "failed", failure: fault.failure, message, retryAfterMs: fault.retryAfterMs });
  }

  /** All is told; the body's own end may come, so that the connection can be used again. */
  #leave(): void {
    this.#stop();
    this.#timers.push(this.#parts.clock.setTimer(BODY_END_MS_MAX, () => this.#abort.abort()));
  }

  #close(): void {
    this.#stop();
    this.#abort.abort();
  }

  #stop(): void {
    this.#state = "over";
    for (const timer of this.#timers.splice(0)) timer.cancel();
  }
}

function isSaid({ kind }: UpstreamEvent): boolean {
  return kind !== "opened" && kind !== "limits" && kind !== "noticed";
}

function tooSlow(message: string): UpstreamFault {
  return new UpstreamFault("too-slow", message);
}

function kindOfBody(headers: HeaderMap): "stream" | "json" {
  const encoding = singleHeader(headers, "content-encoding");
  if (encoding !== null && encoding !== "identity") {
    throw new UpstreamFault("malformed", `its answer is packed (${encoding.slice(0, 40)}), though it was asked not to`);
  }
  const type = (singleHeader(headers, "content-type") ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
  if (type === "text/event-stream") return "stream";
  if (type === "application/json") return "json";
  const what = type === "text/html" ? "a page of HTML" : type === "" ? "a body of unnamed type" : type.slice(0, 60);
  throw new UpstreamFault("malformed", `it answered 200 with ${what}, where JSON or an event stream is due`);
}

function singleHeader(headers: HeaderMap, name: string): string | null {
  const value = headers[name];
  const first = typeof value === "object" ? value[0] : value;
  return first?.trim() ?? null;
}

async function beginningOf(body: AsyncIterable<unknown>): Promise<string> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const piece of body) {
      if (!(piece instanceof Uint8Array)) break;
      pieces.push(piece);
      bytes += piece.length;
      if (bytes >= ERROR_BYTES_MAX) break;
    }
  } catch {
    // What came of the message is enough, or there is none.
  }
  return Buffer.concat(pieces).toString("utf8", 0, ERROR_BYTES_MAX);
}
