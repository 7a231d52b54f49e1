/** Accepts the links that agents open: turns an HTTP upgrade into a Link and hands it on. */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import { LINK_FRAME_BYTES_MAX, type Link } from "../../ports/link.ts";
import { refuseSocket } from "./refuse-socket.ts";
import { WebSocketLink } from "./websocket-link.ts";

export interface LinkUpgrade {
  readonly request: IncomingMessage;
  readonly socket: Duplex;
  /** What came after the request in the same read. */
  readonly head: Buffer;
  readonly channelBinding: string;
}

export class LinkServer {
  readonly #server: WebSocketServer;
  readonly #onLink: (link: Link) => void;

  /** `onLink` gets each link before anything of it was read, and must listen to it or close it at once. */
  constructor(onLink: (link: Link) => void) {
    this.#onLink = onLink;
    this.#server = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: LINK_FRAME_BYTES_MAX,
    });
  }

  /**
   * Takes the socket over. A request that comes from a web page (it carries `Origin`) is refused: agents send none, and a page
   * that an operator happens to open must not talk to a grid on his own machine.
   */
  upgrade({ request, socket, head, channelBinding }: LinkUpgrade): void {
    if (request.headers.origin !== undefined) {
      refuseSocket(socket, "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
      return;
    }
    const remote = `${request.socket.remoteAddress ?? "unknown"}:${request.socket.remotePort ?? 0}`;
    this.#server.handleUpgrade(request, socket, head, (webSocket) => {
      const link = new WebSocketLink(webSocket, { transport: request.socket, remote, channelBinding });
      link.guard();
      this.#onLink(link);
    });
  }
}
