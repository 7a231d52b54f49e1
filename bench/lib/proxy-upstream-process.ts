/**
 * The fastest provider there is: OpenAI's chat API on plain sockets, with answers that are made beforehand. A stream is one event a token,
 * and each turn of the event loop writes one event to every open stream, so that what is between it and the client is what is measured.
 * argv: tokens of an answer. Says its port to whoever forked it.
 */
import { createServer, type Socket } from "node:net";
import { z } from "zod";
import { ANSWER_PROMPT_TOKENS, answerText, tokenText } from "./proxy-answer.ts";

const CREATED = 1_700_000_000;
const tokens = z.coerce.number().int().min(1).max(100_000).parse(process.argv[2]);

const head = { id: "chatcmpl-bench", created: CREATED, model: "bench-upstream" };
const usage = {
  prompt_tokens: ANSWER_PROMPT_TOKENS,
  completion_tokens: tokens,
  total_tokens: ANSWER_PROMPT_TOKENS + tokens,
};
const whole = JSON.stringify({
  ...head,
  object: "chat.completion",
  choices: [{ index: 0, message: { role: "assistant", content: answerText(tokens) }, finish_reason: "stop" }],
  usage,
});
const WHOLE = Buffer.from(
  `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(whole)}\r\n\r\n${whole}`,
);
const STREAM_HEAD = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const events = Array.from({ length: tokens }, (_, at) =>
  event({ choices: [{ index: 0, delta: { content: tokenText(at) }, finish_reason: null }] }),
);
const LAST = Buffer.concat([
  event({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] }),
  event({ choices: [], usage }),
  chunk("data: [DONE]\n\n"),
  Buffer.from("0\r\n\r\n"),
]);

const streams = new Map<Socket, number>();
let isTurning = false;

const server = createServer({ noDelay: true }, (socket) => {
  let unread = "";
  socket.setEncoding("latin1");
  socket.on("error", () => socket.destroy());
  socket.on("close", () => streams.delete(socket));
  socket.on("data", (data: string) => {
    unread += data;
    for (let end = endOfRequest(unread); end !== null; end = endOfRequest(unread)) {
      answer(socket, unread.slice(0, end));
      unread = unread.slice(end);
    }
  });
});
server.listen(0, "127.0.0.1", () => {
  const address = server.address();
  if (typeof address === "object" && address !== null) process.send?.({ port: address.port });
});
process.on("disconnect", () => process.exit(0));

/** Where the first request ends; null while it is not whole. */
function endOfRequest(unread: string): number | null {
  const headEnd = unread.indexOf("\r\n\r\n");
  if (headEnd < 0) return null;
  const length = /\r\ncontent-length: *(\d+)/i.exec(unread.slice(0, headEnd))?.[1];
  if (length === undefined) throw new Error("this provider takes bodies of a told length only");
  const end = headEnd + 4 + Number(length);
  return unread.length < end ? null : end;
}

function answer(socket: Socket, request: string): void {
  if (!/"stream": *true/.test(request)) {
    socket.write(WHOLE);
    return;
  }
  socket.write(STREAM_HEAD);
  streams.set(socket, 0);
  if (isTurning) return;
  isTurning = true;
  setImmediate(turn);
}

/** One event to every stream that takes more; one that does not is asked again the next turn. */
function turn(): void {
  for (const [socket, at] of streams) {
    if (socket.writableNeedDrain) continue;
    const next = events[at];
    socket.write(next ?? LAST);
    if (next === undefined) streams.delete(socket);
    else streams.set(socket, at + 1);
  }
  isTurning = streams.size > 0;
  if (isTurning) setImmediate(turn);
}

function event(more: object): Buffer {
  return chunk(`data: ${JSON.stringify({ ...head, object: "chat.completion.chunk", ...more })}\n\n`);
}

function chunk(text: string): Buffer {
  return Buffer.from(`${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`);
}
