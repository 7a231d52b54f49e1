/**
 * A small server and the questions to it, for looking at a lab from inside: what arrives, from where, how long it took.
 *
 *     probe-process.ts serve                 TCP echo and UDP echo on the probe's ports, and a source of bytes; prints "ready"
 *     probe-process.ts ask '{"kind": ...}'   asks one thing, prints the answer as one line of JSON
 */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { z } from "zod";
import { ECHO_PORT, HTTPS_PORT, type ProbeAnswer, probeSchema, SOURCE_PORT, UDP_PORTS } from "./probe.ts";

const WRITE_BYTES = 65_536;

const [role, question] = process.argv.slice(2);
if (role === "serve") await serve();
else console.log(JSON.stringify(await answerTo(probeSchema.parse(JSON.parse(question ?? "")))));

async function serve(): Promise<void> {
  for (const port of [ECHO_PORT, HTTPS_PORT]) {
    const server = createServer({ noDelay: true }, (socket) => {
      socket.on("error", () => socket.destroy()); // the asker has gone
      socket.pipe(socket);
    });
    server.listen(port, "0.0.0.0");
    await once(server, "listening");
  }
  const source = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    socket.once("data", (asked) => void pour(socket, Number(asked)));
  });
  source.listen(SOURCE_PORT, "0.0.0.0");
  await once(source, "listening");
  for (const port of UDP_PORTS) {
    const socket = createSocket("udp4");
    socket.on("message", (data, { address, port: from }) => {
      const { number, replyPort } = z
        .object({ number: z.number(), replyPort: z.number().optional() })
        .parse(JSON.parse(data.toString()));
      const reply = JSON.stringify({ number, seenAddress: address, seenPort: from });
      // From another socket of this host when asked: does a stranger's packet pass the asker's NAT?
      if (replyPort === undefined) socket.send(reply, from, address);
      else {
        const other = createSocket("udp4");
        other.bind(replyPort, () => other.send(reply, from, address, () => other.close()));
      }
    });
    socket.bind(port);
    await once(socket, "listening");
  }
  console.log("ready");
}

/** As fast as the socket takes it. An asker that goes away in between is no fault. */
async function pour(socket: Socket, bytes: number): Promise<void> {
  const piece = Buffer.alloc(WRITE_BYTES, 7);
  function* pieces() {
    for (let sent = 0; sent < bytes; sent += WRITE_BYTES) yield piece.subarray(0, Math.min(WRITE_BYTES, bytes - sent));
  }
  await pipeline(Readable.from(pieces()), socket).catch(() => undefined);
}

async function answerTo(probe: z.infer<typeof probeSchema>): Promise<ProbeAnswer> {
  switch (probe.kind) {
    case "udp":
      return { kind: "udp", replies: await askUdp(probe) };
    case "tcp":
      return { kind: "tcp", ...(await askTcp(probe)) };
    case "download":
      return { kind: "download", ...(await download(probe)) };
  }
}

async function askUdp(probe: z.infer<typeof probeSchema> & { kind: "udp" }) {
  const socket = createSocket("udp4");
  socket.bind(probe.localPort);
  await once(socket, "listening");
  const sentMs: number[] = [];
  const replies: { number: number; rttMs: number; seenAddress: string; seenPort: number }[] = [];
  const all = Promise.withResolvers<void>();
  socket.on("message", (data) => {
    const seen = z
      .object({ number: z.number(), seenAddress: z.string(), seenPort: z.number() })
      .parse(JSON.parse(data.toString()));
    replies.push({ ...seen, rttMs: performance.now() - (sentMs[seen.number] ?? Number.NaN) });
    if (replies.length === probe.count * probe.to.length) all.resolve();
  });
  let number = 0;
  for (let round = 0; round < probe.count; round++) {
    for (const { address, port } of probe.to) {
      sentMs[number] = performance.now();
      const { replyPort } = probe;
      socket.send(JSON.stringify({ number, ...(replyPort === undefined ? {} : { replyPort }) }), port, address);
      number++;
    }
    if (probe.intervalMs > 0) await pause(probe.intervalMs);
  }
  await Promise.race([all.promise, pause(probe.waitMs)]);
  socket.close();
  return replies;
}

async function askTcp({ address, port, count, waitMs }: z.infer<typeof probeSchema> & { kind: "tcp" }) {
  const socket = connect({ host: address, port, noDelay: true });
  const refused = new Promise<false>((resolve) => socket.on("error", () => resolve(false)));
  const isOpen = await Promise.race([
    once(socket, "connect").then(() => true),
    refused,
    pause(waitMs).then(() => false),
  ]);
  const rttsMs: number[] = [];
  for (let index = 0; isOpen && index < count; index++) {
    const askedMs = performance.now();
    socket.write("x");
    await once(socket, "data");
    rttsMs.push(performance.now() - askedMs);
  }
  socket.destroy();
  return { isOpen, rttsMs };
}

/** The clock starts with the first byte that comes, so that it tells the rate and not the way there. */
async function download({ address, bytes, waitMs }: z.infer<typeof probeSchema> & { kind: "download" }) {
  const socket = connect({ host: address, port: SOURCE_PORT });
  let received = 0;
  let firstMs = Number.NaN;
  let firstBytes = 0;
  let lastMs = Number.NaN;
  socket.on("data", (data) => {
    lastMs = performance.now();
    if (received === 0) {
      firstMs = lastMs;
      firstBytes = data.length;
    }
    received += data.length;
  });
  socket.on("connect", () => socket.write(String(bytes)));
  const end = once(socket, "close").catch(() => undefined); // a reset counts as an end: the bytes tell
  await Promise.race([end, pause(waitMs)]);
  socket.destroy();
  return { bytes: received, mbit: ((received - firstBytes) * 8) / 1_000 / (lastMs - firstMs) };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
