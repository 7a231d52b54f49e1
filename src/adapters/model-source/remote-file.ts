/**
 * One file behind an address, read from any offset over as many requests as it takes. What comes is measured against what was promised when
 * the source was resolved: another size, another entity tag or another digest is another file, and the reader is told instead of given a mix.
 */
import type { IncomingMessage } from "node:http";
import { FallowError } from "../../domain/fault.ts";
import type { SourceFile } from "../../ports/model-source.ts";
import { type Followed, follow, type Route, refused, webPage } from "./follow.ts";
import { PassingFault, type Patience, Tries } from "./passing-fault.ts";
import { describeUrl, type SafeHttp } from "./safe-http.ts";

export interface RemoteFacts {
  readonly url: URL;
  readonly name: string;
  readonly fileBytes: number;
  readonly sha256: string | null;
  readonly version: string | null;
  /** Entity tag or date for `If-Range`; null when the address itself names the content. */
  readonly validator: string | null;
  /** Looks at the heads of an answer: throws `model-source-changed` when they tell of another file. */
  readonly check: (followed: Followed) => void;
}

export interface RemoteFileOptions {
  readonly http: SafeHttp;
  readonly route: Route;
  readonly patience: Patience;
}

/** So much in one go shows that the way works: the count of failures begins anew. */
const PROGRESS_BYTES = 1024 * 1024;
/** Over `silentMsMax` of waiting less than this is a connection that only pretends: 40 GB would take a year. */
const SLOWEST_BYTES_PER_SECOND = 1_024;
const MAGIC = "GGUF";
/** What stands in a repository for a file that was never uploaded. */
const POINTER = "version https://git-lfs";

export class RemoteFile implements SourceFile {
  readonly name: string;
  readonly fileBytes: number;
  readonly sha256: string | null;
  readonly version: string | null;
  readonly localPath = null;
  readonly #facts: RemoteFacts;
  readonly #options: RemoteFileOptions;

  constructor(facts: RemoteFacts, options: RemoteFileOptions) {
    this.name = facts.name;
    this.fileBytes = facts.fileBytes;
    this.sha256 = facts.sha256;
    this.version = facts.version;
    this.#facts = facts;
    this.#options = options;
  }

  async *read(offset: number, signal: AbortSignal, onWait?: (why: string) => void): AsyncIterable<Uint8Array> {
    const tries = new Tries(this.#options.patience, onWait);
    let at = offset;
    while (at < this.fileBytes) {
      let came = 0;
      try {
        for await (const piece of this.#pieces(at, signal)) {
          at += piece.length;
          came += piece.length;
          if (came >= PROGRESS_BYTES) tries.passed();
          yield piece;
        }
        if (at < this.fileBytes) {
          const { host } = this.#facts.url;
          throw new PassingFault(`${host} ended after ${at} of ${this.fileBytes} bytes of ${this.name}`);
        }
      } catch (thrown) {
        await tries.wait(thrown, signal);
      }
    }
  }

  async *#pieces(at: number, signal: AbortSignal): AsyncIterable<Uint8Array> {
    const { url, validator } = this.#facts;
    const range = at === 0 ? {} : { range: `bytes=${at}-`, ...(validator === null ? {} : { "if-range": validator }) };
    const followed = await follow(this.#options.http, { url, headers: range, signal }, this.#options.route);
    const { response } = followed;
    try {
      const skip = this.#begin(followed, at);
      const limits = { skip, take: this.fileBytes - at, silentMs: this.#options.http.silentMsMax };
      yield* at === 0 ? checked(flow(response, limits, url, signal), url) : flow(response, limits, url, signal);
    } finally {
      response.destroy();
    }
  }

  /** Whether the answer is of this file and begins where it should; how many bytes of it come before that. */
  #begin(followed: Followed, at: number): number {
    const { response, url } = followed;
    const status = response.statusCode ?? 0;
    this.#facts.check(followed);
    if (status === 206) {
      const [, first, last, total = ""] =
        /^bytes (\d{1,16})-(\d{1,16})\/(\d{1,16}|\*)$/.exec(response.headers["content-range"] ?? "") ?? [];
      if (Number(first) !== at || Number(last) < at) {
        throw refused(`${describeUrl(url)} answers a request for bytes from ${at} with others`, url);
      }
      if (total !== "*" && Number(total) !== this.fileBytes)
        throw this.#changed(`it has ${total} bytes, not ${this.fileBytes}`);
      return 0;
    }
    if (status === 416) throw this.#changed(`it does not reach to byte ${at}`);
    const length = response.headers["content-length"];
    if (length !== undefined && Number(length) !== this.fileBytes) {
      throw this.#changed(`it has ${length} bytes, not ${this.fileBytes}`);
    }
    return at;
  }

  #changed(why: string): FallowError {
    return changed(this.#facts.url, this.name, why);
  }
}

export function changed(url: URL, name: string, why: string): FallowError {
  const message = `${name} at ${describeUrl(url)} is not the file it was: ${why}`;
  return new FallowError("model-source-changed", message, { data: { url: describeUrl(url), name } });
}

interface FlowLimits {
  readonly skip: number;
  readonly take: number;
  readonly silentMs: number;
}

/** The bytes as they come, without the first `skip`, at most `take`. Silence and a drip end it as something that may pass. */
async function* flow(
  response: IncomingMessage,
  { skip, take, silentMs }: FlowLimits,
  url: URL,
  signal: AbortSignal,
): AsyncIterable<Buffer> {
  const pieces: AsyncIterator<unknown> = response[Symbol.asyncIterator]();
  let toSkip = skip;
  let left = take;
  let waitedMs = 0;
  let cameBytes = 0;
  while (left > 0) {
    const beganMs = performance.now();
    const next = await nextPiece(pieces, response, { silentMs, url, signal });
    if (next === null) return;
    waitedMs += performance.now() - beganMs;
    cameBytes += next.length;
    if (waitedMs >= silentMs) {
      if (cameBytes < (SLOWEST_BYTES_PER_SECOND * waitedMs) / 1_000) {
        throw new PassingFault(`${url.host} sent ${cameBytes} bytes in ${Math.round(waitedMs / 1_000)} s`);
      }
      waitedMs = 0;
      cameBytes = 0;
    }
    const piece = next.subarray(toSkip);
    toSkip -= next.length - piece.length;
    if (piece.length > left) {
      throw refused(`${describeUrl(url)} sends more than the ${skip + take} bytes that it promised`, url);
    }
    left -= piece.length;
    if (piece.length > 0) yield piece;
  }
}

async function nextPiece(
  pieces: AsyncIterator<unknown>,
  response: IncomingMessage,
  { silentMs, url, signal }: { silentMs: number; url: URL; signal: AbortSignal },
): Promise<Buffer | null> {
  const silence = () => new PassingFault(`${url.host} sent nothing for ${silentMs / 1_000} s`);
  const timer = setTimeout(() => response.destroy(silence()), silentMs);
  try {
    const { done, value } = await pieces.next();
    if (done === true) return null;
    return Buffer.isBuffer(value) ? value : Buffer.from(String(value));
  } catch (thrown) {
    signal.throwIfAborted();
    if (thrown instanceof PassingFault) throw thrown;
    throw new PassingFault(`${url.host} cut the connection`, { cause: thrown });
  } finally {
    clearTimeout(timer);
  }
}

/** Looks at a file's first bytes before any of it is passed on: 40 GB are not fetched to find out that they are something else. */
async function* checked(pieces: AsyncIterable<Buffer>, url: URL): AsyncIterable<Buffer> {
  let head: Buffer | null = Buffer.alloc(0);
  for await (const piece of pieces) {
    if (head === null) {
      yield piece;
      continue;
    }
    head = Buffer.concat([head, piece]);
    if (head.length < MAGIC.length) continue;
    checkMagic(head, url);
    yield head;
    head = null;
  }
  if (head !== null && head.length > 0) checkMagic(head, url);
}

export function checkMagic(head: Buffer, url: URL): void {
  const text = head.toString("latin1", 0, 200);
  if (text.startsWith(MAGIC)) return;
  if (/^\s*</.test(text)) throw webPage(url);
  if (text.startsWith(POINTER)) {
    throw refused(`${describeUrl(url)} is a pointer to a file that the repository does not hold (git-lfs)`, url);
  }
  const begins = JSON.stringify(text.slice(0, 16));
  throw refused(`${describeUrl(url)} is no GGUF file: it begins with ${begins} instead of "${MAGIC}"`, url);
}
