/**
 * One server over HTTP, believed in nothing: no redirect is followed, every answer has a bound on its bytes and on its silence, and whatever
 * goes wrong becomes a `FallowError` with a code that says whose fault it is.
 *
 * | code                   | when                                                              |
 * | ---------------------- | ----------------------------------------------------------------- |
 * | `attached-unreachable` | refused, reset, name not found, ended in the middle of an answer   |
 * | `attached-refused`     | a status of 4xx; `data.status`                                     |
 * | `attached-overloaded`  | 429 or 503                                                        |
 * | `attached-broken`      | another status of 5xx                                             |
 * | `attached-malformed`   | a redirect, no JSON where JSON is due                              |
 * | `attached-endless`     | more bytes than could be                                           |
 * | `attached-silent`      | nothing for longer than the bound                                  |
 * | `aborted`              | by the caller                                                     |
 */
import { describeFault, FallowError } from "../../domain/fault.ts";

export interface ServerHttpOptions {
  /** With or without a path of its own; no query. */
  readonly baseUrl: string;
  /** Bearer, or null. Never told in a message. */
  readonly apiKey: string | null;
}

export interface ExchangeBounds {
  readonly signal: AbortSignal;
  /** From the start to the last byte. */
  readonly withinMs: number;
}

export interface StreamBounds {
  readonly signal: AbortSignal;
  /** Until the first byte: the prompt is read meanwhile. */
  readonly firstByteMsMax: number;
  /** Between two pieces. */
  readonly silenceMsMax: number;
  readonly bytesMax: number;
}

/** Lists of models, settings of a server: Ollama's description of a model with its vocabulary is the largest. */
const JSON_BYTES_MAX = 16 * 1024 * 1024;
/** Of an answer that is quoted in an error. */
const QUOTED_CHARS_MAX = 200;
/** One event of a stream: a token with twenty alternatives is a few KB. */
export const LINE_BYTES_MAX = 1024 * 1024;

export class ServerHttp {
  readonly baseUrl: string;
  readonly #headers: Readonly<Record<string, string>>;

  constructor({ baseUrl, apiKey }: ServerHttpOptions) {
    this.baseUrl = baseUrl.replace(/\/+$/, "");
    this.#headers = apiKey === null ? {} : { authorization: `Bearer ${apiKey}` };
  }

  /** The body as JSON, whatever it is. */
  get(path: string, bounds: ExchangeBounds): Promise<unknown> {
    return this.#exchange(path, null, bounds);
  }

  post(path: string, body: unknown, bounds: ExchangeBounds): Promise<unknown> {
    return this.#exchange(path, body, bounds);
  }

  /** Resolves when it answers with a status of 2xx; what the body is does not matter. */
  async touch(path: string, bounds: ExchangeBounds): Promise<void> {
    const watch = new SilenceWatch(bounds.signal, bounds.withinMs);
    try {
      const response = await this.#send(path, null, watch);
      await response.body?.cancel();
    } catch (thrown) {
      throw this.#explain(thrown, watch);
    } finally {
      watch.end();
    }
  }

  /** Lines of the answer as they come, without their ends. Whoever stops reading ends the request. */
  async *lines(path: string, body: unknown, bounds: StreamBounds): AsyncGenerator<string, void, undefined> {
    const watch = new SilenceWatch(bounds.signal, bounds.firstByteMsMax);
    const cutter = new LineCutter(bounds.bytesMax);
    try {
      const response = await this.#send(path, body, watch);
      for await (const bytes of bodyOf(response)) {
        watch.heard(bounds.silenceMsMax);
        yield* cutter.push(bytes);
      }
      yield* cutter.flush();
    } catch (thrown) {
      throw this.#explain(thrown, watch);
    } finally {
      watch.end();
    }
  }

  async #exchange(path: string, body: unknown, bounds: ExchangeBounds): Promise<unknown> {
    const watch = new SilenceWatch(bounds.signal, bounds.withinMs);
    try {
      const response = await this.#send(path, body, watch);
      const text = await textOf(response, JSON_BYTES_MAX);
      return parsed(text, `${this.baseUrl}${path}`);
    } catch (thrown) {
      throw this.#explain(thrown, watch);
    } finally {
      watch.end();
    }
  }

  /** An answer of 2xx, or a fault. */
  async #send(path: string, body: unknown, watch: SilenceWatch): Promise<Response> {
    const url = `${this.baseUrl}${path}`;
    const response = await fetch(url, {
      method: body === null ? "GET" : "POST",
      headers: { ...this.#headers, ...(body === null ? {} : { "content-type": "application/json" }) },
      ...(body === null ? {} : { body: JSON.stringify(body) }),
      redirect: "manual",
      signal: watch.signal,
    });
    if (response.ok) return response;
    const { status } = response;
    const said = await textOf(response, LINE_BYTES_MAX).catch(() => "");
    throw new FallowError(codeOf(status), `${url} answered ${status}: ${quoted(said)}`, { data: { status } });
  }

  #explain(thrown: unknown, watch: SilenceWatch): FallowError {
    if (thrown instanceof FallowError) return thrown;
    if (watch.wasSilentMs !== null) {
      return new FallowError("attached-silent", `${this.baseUrl} said nothing for ${watch.wasSilentMs} ms`);
    }
    if (watch.signal.aborted) return new FallowError("aborted", "the request was aborted", { cause: thrown });
    const why = describeFault(thrown).slice(0, QUOTED_CHARS_MAX);
    return new FallowError("attached-unreachable", `${this.baseUrl} does not answer: ${why}`, { cause: thrown });
  }
}

function codeOf(status: number): string {
  if (status >= 300 && status < 400) return "attached-malformed";
  if (status === 429 || status === 503) return "attached-overloaded";
  return status >= 500 ? "attached-broken" : "attached-refused";
}

/** Aborts what it watches after so much silence. */
class SilenceWatch {
  readonly signal: AbortSignal;
  readonly #own = new AbortController();
  #timer: NodeJS.Timeout;
  wasSilentMs: number | null = null;

  constructor(outer: AbortSignal, firstMs: number) {
    this.signal = AbortSignal.any([outer, this.#own.signal]);
    this.#timer = this.#start(firstMs);
  }

  heard(nextMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = this.#start(nextMs);
  }

  end(): void {
    clearTimeout(this.#timer);
    // What is not read to its end is given up: a connection must not stay open for it.
    this.#own.abort();
  }

  #start(ms: number): NodeJS.Timeout {
    return setTimeout(() => {
      this.wasSilentMs = ms;
      this.#own.abort();
    }, ms);
  }
}

/** Bytes to lines; the bound on a line is the bound on what is held. */
class LineCutter {
  readonly #decoder = new TextDecoder("utf-8");
  #held = "";
  #bytesLeft: number;

  constructor(bytesMax: number) {
    this.#bytesLeft = bytesMax;
  }

  *push(bytes: Uint8Array): Generator<string> {
    this.#bytesLeft -= bytes.length;
    if (this.#bytesLeft < 0) throw new FallowError("attached-endless", "the server sends more than was asked for");
    const lines = (this.#held + this.#decoder.decode(bytes, { stream: true })).split("\n");
    this.#held = lines.pop() ?? "";
    if (this.#held.length > LINE_BYTES_MAX) {
      throw new FallowError("attached-endless", `the server sends a line of more than ${LINE_BYTES_MAX} bytes`);
    }
    for (const line of lines) yield line.replace(/\r$/, "");
  }

  *flush(): Generator<string> {
    const rest = this.#held + this.#decoder.decode();
    if (rest !== "") yield rest;
  }
}

async function* bodyOf(response: Response): AsyncGenerator<Uint8Array, void, undefined> {
  const { body } = response;
  if (body === null) return;
  for await (const chunk of body) {
    // fetch gives bytes; the type says `any`.
    if (chunk instanceof Uint8Array) yield chunk;
  }
}

async function textOf(response: Response, bytesMax: number): Promise<string> {
  const decoder = new TextDecoder("utf-8");
  let text = "";
  let bytesLeft = bytesMax;
  for await (const bytes of bodyOf(response)) {
    bytesLeft -= bytes.length;
    if (bytesLeft < 0) throw new FallowError("attached-endless", `the server answers with more than ${bytesMax} bytes`);
    text += decoder.decode(bytes, { stream: true });
  }
  return text + decoder.decode();
}

/** Throws `attached-malformed`. */
export function parsed(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new FallowError("attached-malformed", `${where} answered with no JSON: ${quoted(text)}`);
  }
}

function quoted(text: string): string {
  const line = text.replace(/\s+/g, " ").trim();
  return line === "" ? "nothing" : line.slice(0, QUOTED_CHARS_MAX);
}
