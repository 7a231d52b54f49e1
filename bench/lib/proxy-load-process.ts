/**
 * Callers in a process of their own: each has one kept connection on a plain socket and asks again as soon as it has its answer, until the
 * time is over. All bytes of an answer are kept until then and looked at afterwards: each has to hold the whole text.
 */
import { connect, type Socket } from "node:net";
import { z } from "zod";
import { answerText } from "./proxy-answer.ts";
import { type LoadResult, loadOrderSchema } from "./proxy-load.ts";

type Order = z.infer<typeof loadOrderSchema>;

const textSchema = z.looseObject({
  choices: z.array(
    z.looseObject({
      delta: z.looseObject({ content: z.string().nullish() }).optional(),
      message: z.looseObject({ content: z.string() }).optional(),
    }),
  ),
  usage: z.looseObject({ completion_tokens: z.number() }).nullish(),
});
const END_OF_CHUNKS = Buffer.from("\r\n0\r\n\r\n");
/** Of one caller; the rest are looked at for their status and length alone. */
const ANSWERS_READ_MAX = 2;

process.on("message", (message) => {
  const order = loadOrderSchema.parse(message);
  run(order).then(
    (result) => process.send?.(result),
    (thrown: unknown) => process.send?.({ problem: thrown instanceof Error ? thrown.message : String(thrown) }),
  );
});
process.on("disconnect", () => process.exit(0));

async function run(order: Order): Promise<LoadResult> {
  const startMs = performance.now();
  const callers = await Promise.all(
    Array.from({ length: order.connections }, () => call(order, startMs + order.durationMs)),
  );
  const wallMs = performance.now() - startMs;
  for (const { kept } of callers) for (const answer of kept) check(answer, order);
  return { problem: null, wallMs, latenciesMs: callers.flatMap(({ latenciesMs }) => latenciesMs) };
}

interface Caller {
  readonly latenciesMs: readonly number[];
  readonly kept: readonly Buffer[];
}

function call(order: Order, untilMs: number): Promise<Caller> {
  const { port, path, headers, body } = order;
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const about = `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n`;
  const request = Buffer.from(
    `POST ${path} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\n${lines.join("")}${about}\r\n${body}`,
  );
  return new Promise((resolve, reject) => {
    const latenciesMs: number[] = [];
    const kept: Buffer[] = [];
    let parts: Buffer[] = [];
    let sentMs = 0;
    const socket: Socket = connect({ port, host: "127.0.0.1", noDelay: true });
    const ask = () => {
      parts = [];
      sentMs = performance.now();
      socket.write(request);
    };
    socket.on("connect", ask);
    socket.on("error", reject);
    socket.on("close", () => reject(new Error("the connection was closed in mid-load")));
    socket.on("data", (data) => {
      parts.push(data);
      if (!isWhole(parts)) return;
      const nowMs = performance.now();
      latenciesMs.push(nowMs - sentMs);
      const [first] = parts;
      if (first?.toString("latin1", 0, 12) !== "HTTP/1.1 200") {
        reject(new Error(`not answered: ${Buffer.concat(parts).toString().slice(0, 600)}`));
        socket.removeAllListeners("close").destroy();
        return;
      }
      if (kept.length < ANSWERS_READ_MAX) kept.push(Buffer.concat(parts));
      if (nowMs < untilMs) return ask();
      socket.removeAllListeners("close").destroy();
      resolve({ latenciesMs, kept });
    });
  });
}

/** The first piece holds the whole head: servers write it at once. */
function isWhole(parts: readonly Buffer[]): boolean {
  const [first, ...more] = parts;
  const last = parts.at(-1);
  if (first === undefined || last === undefined) return false;
  const headEnd = first.indexOf("\r\n\r\n");
  if (headEnd < 0) return false;
  const head = first.toString("latin1", 0, headEnd);
  const length = /content-length: *(\d+)/i.exec(head)?.[1];
  if (length === undefined) {
    const tail = last.length < END_OF_CHUNKS.length ? Buffer.concat(parts) : last;
    return tail.subarray(-END_OF_CHUNKS.length).equals(END_OF_CHUNKS);
  }
  const bytes = more.reduce((sum, part) => sum + part.length, first.length - headEnd - 4);
  return bytes >= Number(length);
}

function check(answer: Buffer, { tokens, isStream }: Order): void {
  const text = answer.toString("utf8");
  const payload = text.slice(text.indexOf("\r\n\r\n") + 4);
  const values = isStream
    ? [...unchunked(payload).matchAll(/^data: (\{.*\})$/gm)].map(([, json = ""]) => json)
    : [/\{.*\}/s.exec(payload)?.[0] ?? ""];
  let said = "";
  let counted = 0;
  for (const value of values) {
    const { choices, usage } = textSchema.parse(JSON.parse(value));
    said += choices[0]?.delta?.content ?? choices[0]?.message?.content ?? "";
    counted = usage?.completion_tokens ?? counted;
  }
  if (said !== answerText(tokens))
    throw new Error(`not the whole text: ${said.length} characters, ${text.slice(0, 400)}`);
  if (counted !== tokens) throw new Error(`usage tells ${counted} of ${tokens} tokens`);
  if (isStream && !payload.includes("data: [DONE]")) throw new Error("a stream without its end");
}

/** Plain ASCII, as the provider's answer is: characters are bytes. */
function unchunked(payload: string): string {
  let text = "";
  for (let from = 0; from < payload.length; ) {
    const end = payload.indexOf("\r\n", from);
    const length = Number.parseInt(payload.slice(from, end), 16);
    if (!(length > 0)) break;
    text += payload.slice(end + 2, end + 2 + length);
    from = end + 2 + length + 2;
  }
  return text;
}
