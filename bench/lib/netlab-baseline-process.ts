/**
 * What links between nodes are measured beside: one plain TCP connection, and HTTPS by Node for `curl`.
 *
 *     netlab-baseline-process.ts serve                    prints its ports
 *     netlab-baseline-process.ts ask '{"address": ...}'   prints what one measurement gave
 */
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer as createHttpsServer } from "node:https";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable, type Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { keptTlsIdentity } from "../../src/adapters/tls-identity/tls-identity.ts";
import { type BaselineQuestion, baselineQuestionSchema } from "./netlab-baseline.ts";
import { spreadOf } from "./quantiles.ts";

const PIECE_BYTES = 256 * 1024;
const ECHO_BYTES = 8 * 1024;
const MS_PER_S = 1_000;
const ECHOES_WARM = 3;
/** On a LAN there are thousands a second; the p99 of this many does not change any more. */
const ECHOES_MAX = 20_000;

const [role, question] = process.argv.slice(2);
if (role === "serve") await serve();
else console.log(JSON.stringify(await measure(baselineQuestionSchema.parse(JSON.parse(question ?? "")))));
if (role !== "serve") process.exit(0);

async function serve(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "fallow-netlab-"));
  const { certificatePem, privateKeyPem } = await keptTlsIdentity(folder);
  await rm(folder, { recursive: true });
  const https = createHttpsServer({ cert: certificatePem, key: privateKeyPem }, (_request, response) => {
    void pour(response);
  });
  const source = createServer((socket) => void pour(socket));
  const echo = createServer({ noDelay: true }, (socket) => {
    socket.on("error", () => socket.destroy()); // the asker has gone
    socket.pipe(socket);
  });
  const [httpsPort, sourcePort, echoPort] = [await listen(https), await listen(source), await listen(echo)];
  console.log(JSON.stringify({ httpsPort, sourcePort, echoPort }));
}

async function listen(server: Server): Promise<number> {
  server.listen(0, "0.0.0.0");
  await once(server, "listening");
  const address: AddressInfo | string | null = server.address();
  if (address === null || typeof address === "string") throw new Error("a server listens on a port");
  return address.port;
}

/** Bytes without end, as fast as they are taken, until the asker goes, which is no fault. */
async function pour(into: Writable): Promise<void> {
  const piece = Buffer.alloc(PIECE_BYTES, 7);
  function* pieces() {
    for (;;) yield piece;
  }
  await pipeline(Readable.from(pieces(), { objectMode: false, highWaterMark: 2 * PIECE_BYTES }), into).catch(
    () => undefined,
  );
}

async function measure(asked: BaselineQuestion): Promise<unknown> {
  const ms = asked.seconds * MS_PER_S;
  if (!asked.isBulk) return { mbitPerS: null, echoMs: spreadOf(await echoes(asked, ms)) };
  if (!asked.isEchoing) return { mbitPerS: await bulk(asked, ms), echoMs: null };
  const moving = bulk(asked, ms);
  const echoMs = spreadOf(await echoes(asked, ms));
  return { mbitPerS: await moving, echoMs };
}

/** From the moment of asking, so it holds the handshake and the start as well. */
async function bulk({ address, sourcePort }: BaselineQuestion, ms: number): Promise<number> {
  const startMs = performance.now();
  let bytes = 0;
  const socket: Socket = connect({ host: address, port: sourcePort });
  socket.on("data", (data) => {
    bytes += data.length;
  });
  await new Promise((resolve) => setTimeout(resolve, ms));
  const mbit = (bytes * 8) / MS_PER_S / (performance.now() - startMs);
  socket.destroy();
  return Number(mbit.toFixed(2));
}

/** One after the other on a connection of their own. */
async function echoes({ address, echoPort }: BaselineQuestion, ms: number): Promise<readonly number[]> {
  const socket = connect({ host: address, port: echoPort, noDelay: true });
  await once(socket, "connect");
  const message = Buffer.alloc(ECHO_BYTES, 3);
  const times: number[] = [];
  const endMs = performance.now() + ms;
  let missing = 0;
  let settle: () => void = () => undefined;
  socket.on("data", (data) => {
    missing -= data.length;
    if (missing === 0) settle();
  });
  for (let index = 0; index < ECHOES_MAX && performance.now() < endMs; index++) {
    const startMs = performance.now();
    missing = ECHO_BYTES;
    const whole = new Promise<void>((resolve) => {
      settle = resolve;
    });
    socket.write(message);
    await whole;
    if (index >= ECHOES_WARM) times.push(performance.now() - startMs);
  }
  socket.destroy();
  return times;
}
