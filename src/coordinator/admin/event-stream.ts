/**
 * Progress as it happens: server-sent events, or a line of JSON for each when the caller accepts `application/x-ndjson`. The next event is made
 * when the last was taken, so that a slow reader gets fewer of them and holds nothing up; a reader that leaves ends the work behind it.
 */
import type { Context } from "hono";
import { describeFault, FallowError } from "../../domain/fault.ts";

/** The signal tells both ends of a stream: its last event was sent, or its reader left. */
const OVER = new FallowError("aborted", "the events are over");

export function eventStream(context: Context, start: (signal: AbortSignal) => AsyncIterable<unknown>): Response {
  const isLines = /application\/x-ndjson/.test(context.req.header("accept") ?? "");
  const left = new AbortController();
  const events = start(left.signal)[Symbol.asyncIterator]();
  const encoder = new TextEncoder();
  const framed = (event: unknown) =>
    encoder.encode(isLines ? `${JSON.stringify(event)}\n` : `data: ${JSON.stringify(event)}\n\n`);
  const body = new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        try {
          const { done, value } = await events.next();
          if (done !== true) {
            controller.enqueue(framed(value));
            return;
          }
          controller.close();
          left.abort(OVER);
        } catch (thrown) {
          if (left.signal.aborted) return;
          const code = thrown instanceof FallowError ? thrown.code : "internal";
          controller.enqueue(framed({ event: "error", code, message: describeFault(thrown) }));
          controller.close();
          left.abort(OVER);
        }
      },
      cancel: async () => {
        left.abort(new FallowError("aborted", "the caller left"));
        await events.return?.();
      },
    },
    { highWaterMark: 0 },
  );
  return new Response(body, {
    headers: { "content-type": isLines ? "application/x-ndjson" : "text/event-stream", "cache-control": "no-store" },
  });
}
