/**
 * Reads the body of a good answer into an `AnswerReader`: an event stream piece by piece, or one JSON document. Bytes are bounded, an
 * event is bounded, and nothing is unpacked.
 */
import { createParser } from "eventsource-parser";
import type { AnswerReader } from "./answer-reader.ts";
import { wordsOf } from "./failure-of.ts";
import { UpstreamFault } from "./upstream-fault.ts";

/** The longest event: a chunk with arguments of a tool and the log probabilities of several tokens has some 20 kB. */
export const EVENT_CHARS_MAX = 1_048_576;
/** A token in a stream costs some 250 bytes, and with 20 log probabilities 3 kB. */
const BYTES_PER_TOKEN_MAX = 8_192;
const BYTES_MARGIN = 1_048_576;
/** A whole body is held in memory; a million tokens of text have 4 MB. */
const BODY_BYTES_MAX = 64 * 1_048_576;
/** A stream is not held: a million tokens with 20 log probabilities each. */
const STREAM_BYTES_MAX = 4 * 1_073_741_824;
/** Behind `[DONE]` comes the end of the body, which is waited for so that the connection can be used again. */
const AFTER_DONE_BYTES_MAX = 4_096;

export interface AnswerSource {
  readonly body: AsyncIterable<unknown>;
  readonly reader: AnswerReader;
  readonly tokensMax: number;
  readonly secret: string | null;
  /** Told of each thing that is odd and no failure. */
  readonly onOddity: (what: "no-done" | "no-stream") => void;
}

/** Emits all of a stream up to `end`, then waits for the body's own end. Throws `UpstreamFault`, or what the connection throws. */
export async function readEventStream(source: AnswerSource): Promise<void> {
  const { reader, secret } = source;
  let isDone = false;
  const parser = createParser({
    maxBufferSize: EVENT_CHARS_MAX,
    onEvent: ({ data, event }) => {
      if (isDone) return;
      if (data.trim() === "[DONE]") {
        isDone = true;
        if (!reader.isComplete)
          throw new UpstreamFault("cut", "the stream was declared done before the answer had its end");
        reader.end();
        return;
      }
      const value = parsedJson(data);
      refuseError(value, { secret, isErrorEvent: event === "error", failure: "overloaded" });
      reader.take(value);
    },
    onError: ({ type }) => {
      if (type === "max-buffer-size-exceeded") {
        throw new UpstreamFault("malformed", `an event of its stream is longer than ${EVENT_CHARS_MAX} characters`);
      }
    },
  });
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let bytesAfter = 0;
  for await (const piece of bounded(source)) {
    if (isDone) bytesAfter += piece.length;
    if (bytesAfter > AFTER_DONE_BYTES_MAX) return;
    parser.feed(decoder.decode(piece, { stream: true }));
  }
  if (isDone) return;
  if (reader.isComplete) source.onOddity("no-done");
  reader.end();
}

export async function readJsonAnswer(source: AnswerSource): Promise<void> {
  const pieces: Uint8Array[] = [];
  for await (const piece of bounded(source, BODY_BYTES_MAX)) pieces.push(piece);
  const text = new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(pieces));
  const value = parsedJson(text);
  refuseError(value, { secret: source.secret, isErrorEvent: false, failure: "malformed" });
  source.reader.take(value);
  if (!source.reader.isComplete)
    throw new UpstreamFault("malformed", "it answered 200 with a body that holds no whole answer");
  source.reader.end();
}

async function* bounded({ body, tokensMax }: AnswerSource, most = STREAM_BYTES_MAX): AsyncGenerator<Uint8Array> {
  const bytesMax = Math.min(most, tokensMax * BYTES_PER_TOKEN_MAX + BYTES_MARGIN);
  let bytes = 0;
  for await (const piece of body) {
    if (!(piece instanceof Uint8Array)) throw new UpstreamFault("malformed", "the body is no run of bytes");
    bytes += piece.length;
    if (bytes > bytesMax)
      throw new UpstreamFault("endless", `it sent more than ${bytesMax} bytes for ${tokensMax} tokens`);
    yield piece;
  }
}

function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const isPage = /^\s*</.test(text);
    throw new UpstreamFault("malformed", isPage ? "it sent a page of HTML" : "what it sent is no JSON", { cause });
  }
}

function refuseError(
  value: unknown,
  more: { secret: string | null; isErrorEvent: boolean; failure: "overloaded" | "malformed" },
): void {
  const hasError = typeof value === "object" && value !== null && "error" in value && value.error !== null;
  if (!hasError && !more.isErrorEvent) return;
  const words = wordsOf(value, more.secret);
  const where = more.failure === "malformed" ? "it answered 200 with an error" : "it sent an error in its stream";
  throw new UpstreamFault(more.failure, words === null ? where : `${where}: ${words}`);
}
