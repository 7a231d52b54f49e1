/**
 * Server-sent events, written only as fast as they are read: nothing is made before the stream is pulled, and what arrived
 * since the last pull becomes one event for each choice. The last events (usage, `[DONE]`) follow the settlement.
 */
import { describeFault } from "../../../domain/fault.ts";
import { keptHeaders, STORED_ANSWER_CHARS_MAX } from "../callers/idempotency.ts";
import type { AnswerFormat } from "./answer-format.ts";
import { endComment } from "./grid-headers.ts";
import type { RunningAnswer } from "./running-answer.ts";

export function streamAnswer(run: RunningAnswer, format: AnswerFormat): Response {
  const headers = new Headers({
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    // Tells proxies not to collect events, and our own server not to wait for more of the body.
    "x-accel-buffering": "no",
    "transfer-encoding": "chunked",
    ...run.headers(),
  });
  const writer = new EventWriter({ run, format, headers });
  const { metrics } = run.runner;
  metrics.streamsOpen.inc();
  let isOpen = true;
  const over = () => {
    if (!isOpen) return;
    isOpen = false;
    metrics.streamsOpen.dec();
    const { route, startedMonoMs } = run.context;
    metrics.requestSeconds.observe({ route }, (run.runner.deps.clock.monoMs() - startedMonoMs) / 1000);
  };
  const body = new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        const written = await writer.next().catch(async (thrown: unknown) => {
          over();
          const { requestId } = run.context.ticket;
          run.runner.deps.log.error({ requestId, cause: describeFault(thrown) }, "stream failed");
          await run.abandon();
          throw thrown;
        });
        if (!isOpen) return;
        if (written.text !== "") controller.enqueue(new TextEncoder().encode(written.text));
        if (!written.isLast) return;
        over();
        controller.close();
      },
      cancel: () => {
        over();
        run.answer.cancel("closed");
      },
    },
    { highWaterMark: 0 },
  );
  return new Response(body, { status: 200, headers });
}

interface Written {
  readonly text: string;
  readonly isLast: boolean;
}

class EventWriter {
  readonly #run: RunningAnswer;
  readonly #format: AnswerFormat;
  readonly #headers: Headers;
  /** The stream so far, kept for replays; null when nobody asked for it or it grew too long. */
  #kept: string[] | null;
  #keptChars = 0;

  constructor(options: { run: RunningAnswer; format: AnswerFormat; headers: Headers }) {
    this.#run = options.run;
    this.#format = options.format;
    this.#headers = options.headers;
    this.#kept = options.run.context.idempotent === null ? null : [];
  }

  async next(): Promise<Written> {
    for (;;) {
      const pulled = await this.#run.answer.pull();
      switch (pulled.kind) {
        case "outputs": {
          const text = pulled.outputs.map((output) => this.#format.events(output)).join("");
          if (text === "") continue;
          this.#keep(text);
          return { text, isLast: false };
        }
        case "failed":
          await this.#run.void();
          return { text: this.#format.failure(pulled.reason), isLast: true };
        case "over":
          return this.#run.answer.isGone ? { text: "", isLast: true } : await this.#end();
      }
    }
  }

  async #end(): Promise<Written> {
    const ended = await this.#run.settle();
    if (!ended.ok) return { text: this.#format.failure(ended.reason), isLast: true };
    const { usage } = ended.ending;
    await this.#format.keep?.(usage);
    const text = this.#format.end(usage, endComment(ended.ending));
    this.#keep(text);
    const { idempotent } = this.#run.context;
    if (this.#kept === null) await idempotent?.forget();
    else await this.#run.keep({ status: 200, headersJson: keptHeaders(this.#headers), body: this.#kept.join("") });
    return { text, isLast: true };
  }

  #keep(text: string): void {
    if (this.#kept === null) return;
    this.#keptChars += text.length;
    if (this.#keptChars > STORED_ANSWER_CHARS_MAX) this.#kept = null;
    else this.#kept.push(text);
  }
}
