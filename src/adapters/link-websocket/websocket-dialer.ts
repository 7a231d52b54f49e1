/** Opens links to a coordinator: connects pinned (see tls-identity), then upgrades that connection to a WebSocket. */
import { WebSocket } from "ws";
import { FallowError } from "../../domain/fault.ts";
import { LINK_FRAME_BYTES_MAX, type Link, type LinkDialer, type LinkTarget } from "../../ports/link.ts";
import { LINK_PATH } from "../../wire/agent-link.ts";
import { connectPinned } from "../tls-identity/pinned-connect.ts";
import { WebSocketLink } from "./websocket-link.ts";

/** From the request to the coordinator's answer; it does no work before it. */
const UPGRADE_MS_MAX = 10_000;

export class WebSocketDialer implements LinkDialer {
  async dial(target: LinkTarget, signal: AbortSignal): Promise<Link> {
    const { socket, channelBinding } = await connectPinned(target, signal);
    const { host } = new URL(target.url);
    const webSocket = new WebSocket(`ws://${host}${LINK_PATH}`, {
      createConnection: () => socket,
      handshakeTimeout: UPGRADE_MS_MAX,
      maxPayload: LINK_FRAME_BYTES_MAX,
      perMessageDeflate: false,
      followRedirects: false,
    });
    return await new Promise<Link>((resolve, reject) => {
      const onAbort = () => webSocket.terminate();
      const fail = (cause: unknown) => {
        signal.removeEventListener("abort", onAbort);
        socket.destroy();
        const message = `${target.url} answers, and does not open a link`;
        reject(new FallowError("link-unreachable", message, { data: { url: target.url }, cause }));
      };
      webSocket.once("error", fail);
      webSocket.once("open", () => {
        signal.removeEventListener("abort", onAbort);
        webSocket.off("error", fail);
        resolve(new WebSocketLink(webSocket, { transport: socket, remote: host, channelBinding }));
      });
      if (signal.aborted) onAbort();
      else signal.addEventListener("abort", onAbort, { once: true });
    });
  }
}
