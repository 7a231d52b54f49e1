/** One end of a relayed connection, as the node opens it: a WebSocket to the coordinator's ordinary port, so that TCP 443 is enough. */
import { Duplex } from "node:stream";
import { WebSocket } from "ws";
import { FallowError } from "../../domain/fault.ts";
import type { LinkTarget } from "../../ports/link.ts";
import { RELAY_MESSAGE_BYTES_MAX } from "../../ports/relay.ts";
import { RELAY_PATH } from "../../wire/agent-link.ts";
import { connectPinned } from "../tls-identity/pinned-connect.ts";

/** What the stream itself holds in each direction beyond the sockets' own buffers. */
const STREAM_BUFFER_BYTES = 64 * 1024;
/** A message's bytes: TLS hands over far more at once, and the coordinator takes no more than `RELAY_MESSAGE_BYTES_MAX`. */
const MESSAGE_BYTES = 64 * 1024;
const UPGRADE_MS_MAX = 5_000;

export interface RelayDoor {
  readonly target: LinkTarget;
  readonly sessionToken: string;
  readonly relayId: string;
}

/** Rejects with a `FallowError`: `peer-unreachable` with the coordinator's answer. */
export async function openRelaySocket(
  { target, sessionToken, relayId }: RelayDoor,
  signal: AbortSignal,
): Promise<Duplex> {
  const { socket } = await connectPinned(target, signal);
  const { host } = new URL(target.url);
  const webSocket = new WebSocket(`ws://${host}${RELAY_PATH}${relayId}`, {
    createConnection: () => socket,
    headers: { authorization: `Bearer ${sessionToken}` },
    handshakeTimeout: UPGRADE_MS_MAX,
    maxPayload: RELAY_MESSAGE_BYTES_MAX,
    perMessageDeflate: false,
    followRedirects: false,
  });
  const stream = bytesOf(webSocket);
  return await new Promise<Duplex>((resolve, reject) => {
    let why = "the coordinator closed the connection";
    const settle = () => {
      signal.removeEventListener("abort", onAbort);
      webSocket.off("close", onClose);
    };
    const onAbort = () => {
      why = "not in time";
      webSocket.terminate();
    };
    const onClose = () => {
      settle();
      socket.destroy();
      reject(new FallowError("peer-unreachable", `the relay cannot be used: ${why}`, { data: { why } }));
    };
    webSocket.on("unexpected-response", (_request, response) => {
      why = `${response.statusCode ?? 0} ${String(response.headers["x-fallow-code"] ?? "")}`.trim();
      webSocket.terminate();
    });
    // Stays: the stream tells of errors by closing, and one without a listener would end the process.
    stream.on("error", (error) => {
      why = error.message === "" ? why : error.message;
    });
    webSocket.once("close", onClose);
    webSocket.once("open", () => {
      settle();
      resolve(stream);
    });
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
  });
}

/** The messages as one stream of bytes, in parts that every end takes. */
function bytesOf(webSocket: WebSocket): Duplex {
  webSocket.binaryType = "nodebuffer";
  const stream = new Duplex({
    highWaterMark: STREAM_BUFFER_BYTES,
    allowHalfOpen: false,
    read: () => webSocket.resume(),
    write: (bytes: Buffer, _encoding, done) => {
      const last = Math.max(0, Math.ceil(bytes.length / MESSAGE_BYTES) - 1) * MESSAGE_BYTES;
      // The last part's callback tells of a failure of any.
      for (let at = 0; at < last; at += MESSAGE_BYTES) {
        webSocket.send(bytes.subarray(at, at + MESSAGE_BYTES), () => undefined);
      }
      webSocket.send(bytes.subarray(last), done);
    },
    final: (done) => {
      webSocket.close();
      done();
    },
    destroy: (error, done) => {
      webSocket.terminate();
      done(error);
    },
  });
  webSocket.on("message", (data) => {
    if (Buffer.isBuffer(data) && !stream.push(data)) webSocket.pause();
  });
  webSocket.on("error", (error) => stream.destroy(error));
  webSocket.on("close", () => {
    stream.push(null);
    stream.end();
  });
  return stream;
}
