/** Takes the ends of relayed connections: an HTTP upgrade at `RELAY_PATH` + relay id, with the bearer of the node's session. */
import type { IncomingMessage } from "node:http";
import { WebSocket, WebSocketServer } from "ws";
import { assert } from "../../domain/assert.ts";
import {
  RELAY_END_BUFFER_BYTES,
  RELAY_MESSAGE_BYTES_MAX,
  type RelayEnd,
  type RelayEndHandlers,
} from "../../ports/relay.ts";
import { RELAY_PATH } from "../../wire/agent-link.ts";
import { closeReason } from "./close-reason.ts";
import type { LinkUpgrade } from "./link-server.ts";
import { refuseSocket } from "./refuse-socket.ts";

type Seat =
  | { readonly ok: true; readonly seat: { take(end: RelayEnd): void } }
  | { readonly ok: false; readonly status: number; readonly code: string };

/** How long the other end may take to answer a close. */
const CLOSE_MS_MAX = 3_000;

export class RelayServer {
  readonly #server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: RELAY_MESSAGE_BYTES_MAX,
  });
  readonly #seat: (relayId: string, bearer: string) => Seat;

  constructor(seat: (relayId: string, bearer: string) => Seat) {
    this.#seat = seat;
  }

  upgrade({ request, socket, head }: Omit<LinkUpgrade, "channelBinding">): void {
    const answer = this.#answer(request);
    if (answer.ok) {
      this.#server.handleUpgrade(request, socket, head, (webSocket) => answer.seat.take(new WebSocketEnd(webSocket)));
    } else {
      const reply = `HTTP/1.1 ${answer.status} Refused\r\nConnection: close\r\nX-Fallow-Code: ${answer.code}\r\n`;
      refuseSocket(socket, `${reply}Content-Length: 0\r\n\r\n`);
    }
  }

  #answer(request: IncomingMessage): Seat {
    // A page that an operator happens to open must not talk to a grid on his machine.
    if (request.headers.origin !== undefined) return { ok: false, status: 403, code: "not-for-pages" };
    const [path = ""] = (request.url ?? "").split("?");
    const [, bearer] = /^Bearer ([\x21-\x7e]{1,128})$/i.exec(request.headers.authorization ?? "") ?? [];
    if (bearer === undefined) return { ok: false, status: 401, code: "invalid-key" };
    return this.#seat(path.slice(RELAY_PATH.length), bearer);
  }
}

class WebSocketEnd implements RelayEnd {
  readonly #socket: WebSocket;
  #handlers: RelayEndHandlers | null = null;
  /** What one read brought before it was paused. */
  #early: Uint8Array[] = [];
  #isFull = false;
  #closed: string | null = null;

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.binaryType = "nodebuffer";
    socket.pause();
    socket.on("message", (data, isBinary) => {
      if (!isBinary || !Buffer.isBuffer(data)) return socket.terminate();
      if (this.#handlers === null) this.#early.push(data);
      else this.#handlers.onBytes(data);
    });
    socket.on("error", () => socket.terminate());
    socket.on("close", (_code, reason) => this.#end(reason.toString() || "the other end closed it"));
  }

  listen(handlers: RelayEndHandlers): void {
    assert(this.#handlers === null, "an end is listened to once");
    this.#handlers = handlers;
    this.#socket.resume();
    for (const bytes of this.#early.splice(0)) handlers.onBytes(bytes);
    if (this.#closed !== null) handlers.onClose(this.#closed);
  }

  write(bytes: Uint8Array): boolean {
    if (this.#socket.readyState !== WebSocket.OPEN) return true;
    this.#socket.send(bytes, { binary: true }, () => this.#sent());
    this.#isFull = this.#socket.bufferedAmount >= RELAY_END_BUFFER_BYTES;
    return !this.#isFull;
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  close(reason: string): void {
    this.#socket.close(1000, closeReason(reason));
    this.#socket.resume(); // a paused socket would never read the answer
    const timer = setTimeout(() => this.#socket.terminate(), CLOSE_MS_MAX);
    timer.unref();
    this.#socket.once("close", () => clearTimeout(timer));
  }

  #sent(): void {
    if (!this.#isFull || this.#socket.bufferedAmount >= RELAY_END_BUFFER_BYTES / 2) return;
    this.#isFull = false;
    this.#handlers?.onDrain();
  }

  #end(cause: string): void {
    if (this.#closed !== null) return;
    this.#closed = cause;
    this.#handlers?.onClose(cause);
  }
}
