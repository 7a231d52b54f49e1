/**
 * One HTTP request over undici's dispatcher, its body as a queue of pieces: without the stream object and the abort signal that `request()` makes
 * for each, which cost as much as reading a short answer. A reader that is slower than the line holds it up; one that leaves ends it.
 */
import type { Dispatcher } from "undici";
import type { HeaderMap } from "./rate-headers.ts";

/** What waits for its reader before the line is held up. */
const WAITING_BYTES_MAX = 262_144;

export interface SentRequest {
  /** Rejects with what the connection failed with, or what `abort` was called with before the head came. */
  readonly head: Promise<ResponseHead>;
  /** May be called at any time, and more than once. */
  abort(): void;
}

export interface ResponseHead {
  readonly statusCode: number;
  readonly headers: HeaderMap;
  /** Read once. Throws what the connection failed with. */
  readonly body: AsyncIterable<Uint8Array>;
}

export function sendRequest(dispatcher: Dispatcher, options: Dispatcher.DispatchOptions): SentRequest {
  const answer = new Answer();
  const { promise: head, resolve, reject } = Promise.withResolvers<ResponseHead>();
  // Whoever sent it may have left before it is read.
  head.catch(() => undefined);
  dispatcher.dispatch(options, {
    onRequestStart: (controller) => answer.begin(controller),
    onResponseStart: (_controller, statusCode, headers) => {
      if (statusCode >= 200) resolve({ statusCode, headers, body: answer });
    },
    onResponseData: (_controller, piece) => answer.push(piece),
    onResponseEnd: () => answer.end(null),
    onResponseError: (_controller, error) => {
      reject(error);
      answer.end(error);
    },
  });
  return { head, abort: () => answer.abort() };
}

class Answer implements AsyncIterableIterator<Uint8Array> {
  #controller: Dispatcher.DispatchController | null = null;
  #pieces: Uint8Array[] = [];
  #waitingBytes = 0;
  #isOver = false;
  #isAborted = false;
  #error: Error | null = null;
  #wake: (() => void) | null = null;

  begin(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#isAborted) controller.abort(new Error("given up"));
  }

  push(piece: Uint8Array): void {
    this.#pieces.push(piece);
    this.#waitingBytes += piece.length;
    if (this.#waitingBytes > WAITING_BYTES_MAX) this.#controller?.pause();
    this.#wake?.();
  }

  end(error: Error | null): void {
    this.#isOver = true;
    this.#error = error;
    this.#wake?.();
  }

  abort(): void {
    if (this.#isAborted || this.#isOver) return;
    this.#isAborted = true;
    this.#controller?.abort(new Error("given up"));
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    for (;;) {
      const piece = this.#pieces.shift();
      if (piece !== undefined) {
        this.#waitingBytes -= piece.length;
        if (this.#waitingBytes === 0 && this.#controller?.paused === true) this.#controller.resume();
        return { done: false, value: piece };
      }
      if (this.#error !== null) throw this.#error;
      if (this.#isOver) return { done: true, value: undefined };
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = null;
    }
  }

  return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.abort();
    return Promise.resolve({ done: true, value: undefined });
  }
}
