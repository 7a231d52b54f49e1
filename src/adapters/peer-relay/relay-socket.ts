/** One end of a relayed connection, as the node opens it: a WebSocket to the coordinator's ordinary port, so that TCP 443 is enough. */
import type { Duplex } from "node:stream";
import { createWebSocketStream, WebSocket } from "ws";
import { FallowError } from "../../domain/fault.ts";
import type { LinkTarget } from "../../ports/link.ts";
import { RELAY_MESSAGE_BYTES_MAX } from "../../ports/relay.ts";
import { RELAY_PATH } from "../../wire/agent-link.ts";
import { connectPinned } from "../tls-identity/pinned-connect.ts";

/** What the stream itself holds in each direction beyond the sockets' own buffers. */
const STREAM_BUFFER_BYTES = 64 * 1024;
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
  const stream = createWebSocketStream(webSocket, { highWaterMark: STREAM_BUFFER_BYTES });
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
