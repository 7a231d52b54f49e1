/**
 * Streaming clients on plain sockets: each keeps the bytes with the time at which they came, and reads the events only when its
 * stream has ended, so that reading takes nothing from what is measured.
 */
import { connect } from "node:net";
import { z } from "zod";
import { machineMs, type TimedAnswer, type TimedRequest } from "./timed-client.ts";

const orderSchema = z.object({
  port: z.number(),
  key: z.string(),
  path: z.string(),
  lanes: z.array(z.array(z.string())),
});
const chunkSchema = z.looseObject({
  choices: z.array(
    z.looseObject({ text: z.string().optional(), delta: z.looseObject({ content: z.string().nullish() }).optional() }),
  ),
});

type Order = z.infer<typeof orderSchema>;
interface Piece {
  readonly atMs: number;
  readonly data: Buffer;
}

process.on("message", (message) => {
  const order = orderSchema.parse(message);
  void run(order).then((answer) => process.send?.(answer));
});

async function run(order: Order): Promise<TimedAnswer> {
  const startMs = machineMs();
  const lanes = await Promise.all(
    order.lanes.map(async (bodies) => {
      const requests: { sentMs: number; pieces: readonly Piece[] }[] = [];
      for (const body of bodies) requests.push(await ask(order, body));
      return requests;
    }),
  );
  return {
    wallMs: machineMs() - startMs,
    requests: lanes.flat().map(({ sentMs, pieces }) => timed(sentMs, pieces)),
  };
}

function ask({ port, key, path }: Order, body: string): Promise<{ sentMs: number; pieces: readonly Piece[] }> {
  return new Promise((resolve, reject) => {
    const pieces: Piece[] = [];
    let sentMs = 0;
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    socket.on("connect", () => {
      const head = `POST ${path} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\nauthorization: Bearer ${key}\r\n`;
      const about = `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n`;
      sentMs = machineMs();
      socket.write(`${head}${about}${body}`);
    });
    socket.on("data", (data) => pieces.push({ atMs: machineMs(), data }));
    socket.on("end", () => resolve({ sentMs, pieces }));
    socket.on("error", reject);
  });
}

/** Each event is written in one piece, so a piece holds whole events between the marks of its chunks. */
function timed(sentMs: number, pieces: readonly Piece[]): TimedRequest {
  const arrivals: { atMs: number; textBytes: number }[] = [];
  let textBytes = 0;
  let doneMs: number | null = null;
  let requestId = "";
  let unread = "";
  for (const { atMs, data } of pieces) {
    unread += data.toString("utf8");
    requestId ||= /x-request-id: (\S+)/i.exec(unread)?.[1] ?? "";
    const whole = unread.lastIndexOf("\n\n") + 2;
    if (whole < 2) continue;
    for (const line of unread.slice(0, whole).split("\n")) {
      if (line === "data: [DONE]") doneMs = atMs;
      else if (line.startsWith("data: ")) textBytes += Buffer.byteLength(textOf(line.slice("data: ".length)));
    }
    unread = unread.slice(whole);
    arrivals.push({ atMs, textBytes });
  }
  if (doneMs === null)
    throw new Error(
      `a stream was cut: ${Buffer.concat(pieces.map(({ data }) => data))
        .toString()
        .slice(-400)}`,
    );
  return { sentMs, requestId, arrivals, doneMs };
}

function textOf(json: string): string {
  const [choice] = chunkSchema.parse(JSON.parse(json)).choices;
  return choice?.text ?? choice?.delta?.content ?? "";
}
