/**
 * A server that a node can attach, as a process of its own: the real engine with the bundled model behind the wire shapes of one kind
 * (attached-server-kinds.ts). `KIND [--port N] [--model FILE] …`; writes one JSON line with its address when it listens.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { ATTACHED_KINDS } from "../../src/domain/attached-engine.ts";
import { type Json, kindOfServer, type ServedEngine, streamEvents } from "./attached-server-kinds.ts";
import { engineHost, loadTiny, TINY_PATH } from "./engine-fixture.ts";
import { openTiny } from "./tokenizer-fixture.ts";

const [named, ...flags] = process.argv.slice(2);
const kind = ATTACHED_KINDS.find((known) => known === named);
if (kind === undefined) throw new Error(`${named} is none of ${ATTACHED_KINDS.join(", ")}`);
const flag = (name: string) => (flags.includes(name) ? flags[flags.indexOf(name) + 1] : undefined);
/** Between two tokens, so that a stream can be cut in its middle. */
const tokenMs = Number(flag("--token-ms") ?? "0");

const engine = await loadTiny(engineHost(), { weightsPath: flag("--model") ?? TINY_PATH });
const { tokenizer } = await openTiny();
const served: ServedEngine = { engine, tokenizer, servedAs: flag("--name") ?? "tiny" };
const server = kindOfServer(kind, served);

const http = createServer((request, response) => void answer(request, response));
http.listen(Number(flag("--port") ?? "0"), "127.0.0.1", () => {
  const address = http.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  process.stdout.write(
    `${JSON.stringify({ event: "listening", url: `http://127.0.0.1:${port}`, pid: process.pid })}\n`,
  );
});
process.once("SIGTERM", () => void engine.close().then(() => process.exit(0)));

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const path = request.url ?? "/";
  const json = (status: number, value: unknown) =>
    void response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
  if (request.method === "GET") {
    if (path === "/health") return json(200, { status: "ok" });
    const value = server.get(path);
    return value === undefined ? json(404, { error: { message: "no such path" } }) : json(200, value);
  }
  const body = await bodyOf(request);
  const value = await server.post(path, body);
  if (value !== undefined) return json(200, value);
  const streaming = await server.stream(path, body);
  if (streaming === null) return json(404, { error: { message: "no such path" } });
  response.writeHead(200, { "content-type": streaming.isLines ? "application/x-ndjson" : "text/event-stream" });
  let chain = Promise.resolve();
  const sequence = streamEvents(served, streaming, (event, isLast) => {
    chain = chain
      .then(() => wait(tokenMs))
      .then(() => {
        const text = JSON.stringify(event);
        response.write(streaming.isLines ? `${text}\n` : `data: ${text}\n\n`);
        if (isLast) response.end(streaming.isLines ? "" : "data: [DONE]\n\n");
      });
  });
  response.once("close", () => sequence.abort());
}

function wait(ms: number): Promise<void> {
  return ms === 0 ? Promise.resolve() : new Promise((resolve) => setTimeout(resolve, ms));
}

async function bodyOf(request: IncomingMessage): Promise<Json> {
  let text = "";
  for await (const chunk of request) text += String(chunk);
  return JSON.parse(text);
}
