/**
 * Many streaming clients in a process of their own, on plain sockets: it writes all requests, keeps what comes as it comes, and
 * reads the events only when all streams have ended, so that the client takes as little as it can from what is measured.
 */
import { connect } from "node:net";
import { z } from "zod";
import type { LoadAnswer } from "./stream-client.ts";

const orderSchema = z.object({
  port: z.number(),
  key: z.string(),
  path: z.string(),
  bodies: z.array(z.string()),
});
const chunkSchema = z.looseObject({
  choices: z.array(
    z.looseObject({ text: z.string().optional(), delta: z.looseObject({ content: z.string().nullish() }).optional() }),
  ),
  usage: z.looseObject({ completion_tokens: z.number() }).nullish(),
});

interface Stream {
  readonly parts: Buffer[];
  firstAtMs: number | null;
  endedAtMs: number;
}

process.on("message", (message) => {
  const order = orderSchema.parse(message);
  void load(order).then((answer) => process.send?.(answer));
});

async function load(order: z.infer<typeof orderSchema>): Promise<LoadAnswer> {
  const cpuBefore = process.cpuUsage();
  const startMs = performance.now();
  const streams = await Promise.all(order.bodies.map((body) => stream(order, body)));
  const endMs = Math.max(...streams.map(({ endedAtMs }) => endedAtMs));
  const { user, system } = process.cpuUsage(cpuBefore);
  return {
    wallMs: endMs - startMs,
    cpuMs: (user + system) / 1_000,
    streams: streams.map(({ parts, firstAtMs }) => ({
      firstMs: firstAtMs === null ? null : firstAtMs - startMs,
      ...readEvents(Buffer.concat(parts).toString("utf8")),
    })),
  };
}

function stream({ port, key, path }: z.infer<typeof orderSchema>, body: string): Promise<Stream> {
  return new Promise((resolve, reject) => {
    const found: Stream = { parts: [], firstAtMs: null, endedAtMs: 0 };
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    socket.on("connect", () => {
      const head = `POST ${path} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\nauthorization: Bearer ${key}\r\n`;
      const about = `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n`;
      socket.write(`${head}${about}${body}`);
    });
    socket.on("data", (data) => {
      if (found.firstAtMs === null && data.includes("data:")) found.firstAtMs = performance.now();
      found.parts.push(data);
    });
    socket.on("end", () => {
      found.endedAtMs = performance.now();
      resolve(found);
    });
    socket.on("error", reject);
  });
}

/** HTTP/1.1 with chunks: each is its length in hex, a line end, the bytes, a line end. */
function bodyOf(answer: string): { readonly head: string; readonly body: string } {
  const at = answer.indexOf("\r\n\r\n");
  const head = answer.slice(0, at);
  const rest = Buffer.from(answer.slice(at + 4));
  if (!/transfer-encoding: *chunked/i.test(head)) return { head, body: rest.toString() };
  const parts: Buffer[] = [];
  for (let from = 0; from < rest.length; ) {
    const end = rest.indexOf("\r\n", from);
    const bytes = Number.parseInt(rest.toString("latin1", from, end), 16);
    if (!(bytes > 0)) break;
    parts.push(rest.subarray(end + 2, end + 2 + bytes));
    from = end + 2 + bytes + 2;
  }
  return { head, body: Buffer.concat(parts).toString() };
}

function readEvents(answer: string): {
  text: string;
  tokens: number;
  events: number;
  isDone: boolean;
  problem: string | null;
} {
  const { head, body } = bodyOf(answer);
  const read = { text: "", tokens: 0, events: 0, isDone: false, problem: null };
  if (!head.startsWith("HTTP/1.1 200")) return { ...read, problem: `${head.split("\r\n")[0]} ${body.slice(0, 300)}` };
  let { text, tokens, events } = read;
  let isDone = false;
  let problem: string | null = null;
  for (const line of body.split("\n")) {
    if (!line.startsWith("data: ")) continue;
    events += 1;
    const data = line.slice(6);
    if (data === "[DONE]") {
      isDone = true;
      continue;
    }
    const chunk = chunkSchema.safeParse(JSON.parse(data));
    if (!chunk.success) {
      problem = data.slice(0, 300);
      continue;
    }
    const [choice] = chunk.data.choices;
    text += choice?.text ?? choice?.delta?.content ?? "";
    tokens = chunk.data.usage?.completion_tokens ?? tokens;
  }
  return { text, tokens, events, isDone, problem };
}
