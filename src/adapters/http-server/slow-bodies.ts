/**
 * Cuts requests whose body comes too slowly: whoever trickles holds a connection, a file and memory. A body has a fixed time, which is enough for what a
 * request may hold; an upload (`multipart/form-data`) may be gigabytes, so its time grows with what has come: it has to keep a least speed, over the whole
 * of it. Once it is answered, nothing of it is wanted any more and the fixed time holds again.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";

export interface BodyBounds {
  /** Until the last byte of a body; and of an upload, before its speed is looked at. */
  readonly bodyMs: number;
  /** Of an upload. */
  readonly uploadBytesPerSecondMin: number;
  /** How often they are looked at. */
  readonly checkMs: number;
}

interface Body {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  readonly startedAtMs: number;
  /** Bytes of the connection before it. */
  readonly bytesBefore: number;
}

export interface SlowBodies {
  /** Called when the headers are read. */
  watch(incoming: IncomingMessage, outgoing: ServerResponse): void;
  /** May be called twice. */
  stop(): void;
}

const TIMEOUT_ANSWER = "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

export function watchSlowBodies(bounds: BodyBounds): SlowBodies {
  const bodies = new Set<Body>();
  let timer: NodeJS.Timeout | null = null;
  const look = () => {
    const nowMs = performance.now();
    for (const body of bodies) {
      if (body.incoming.complete || body.incoming.socket.destroyed) bodies.delete(body);
      else if (nowMs - body.startedAtMs >= msAllowed(body, bounds)) {
        bodies.delete(body);
        cut(body);
      }
    }
    if (bodies.size === 0) stop();
  };
  const stop = () => {
    if (timer !== null) clearInterval(timer);
    timer = null;
  };
  return {
    watch: (incoming, outgoing) => {
      if (!hasBody(incoming)) return;
      const body = { incoming, outgoing, startedAtMs: performance.now(), bytesBefore: incoming.socket.bytesRead };
      bodies.add(body);
      incoming.once("close", () => bodies.delete(body));
      timer ??= setInterval(look, bounds.checkMs).unref();
    },
    stop,
  };
}

function hasBody({ headers }: IncomingMessage): boolean {
  const length = headers["content-length"];
  return headers["transfer-encoding"] !== undefined || (length !== undefined && length !== "0");
}

function msAllowed({ incoming, outgoing, bytesBefore }: Body, bounds: BodyBounds): number {
  const type = incoming.headers["content-type"] ?? "";
  if (outgoing.writableEnded || !/^\s*multipart\/form-data\s*;/i.test(type)) return bounds.bodyMs;
  const bytes = incoming.socket.bytesRead - bytesBefore;
  return bounds.bodyMs + (bytes * 1_000) / bounds.uploadBytesPerSecondMin;
}

function cut({ incoming, outgoing }: Body): void {
  const socket: Socket = incoming.socket;
  // Said on the socket itself: the handler still reads the body, and will be told that its client is gone.
  if (!outgoing.headersSent) socket.write(TIMEOUT_ANSWER);
  socket.destroySoon();
}
