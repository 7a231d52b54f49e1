/**
 * The serving side of bulk. Each connection has its own queue of asks and sends one piece after the other, while its buffer has room; the
 * next piece is read meanwhile. An answer to a request stays open between the asks for it, since a fetch comes as many segments over several
 * connections. What the other may ask is bounded: asks for each connection, and the bytes of each.
 */
import { type Refusal, refuse } from "../../domain/refusal.ts";
import { type Clock, pause, type Timer } from "../../ports/clock.ts";
import type { PeerFetchAnswer } from "../../ports/peer-link.ts";
import type { WireRefusal } from "../../wire/peer-frame-bytes.ts";
import type { PeerFrame } from "../../wire/peer-frames.ts";
import {
  ANSWER_KEPT_MS,
  ANSWERS_KEPT_MAX,
  ASKS_PER_CONNECTION_MAX,
  LINK_BUFFER_BYTES,
  PIECE_BYTES,
  SHARED_LOOK_MS,
  SHARED_PIECE_BYTES,
  SHARED_QUEUE_BYTES,
  UNREAD_MS,
} from "./link-bounds.ts";
import type { LinkConnection } from "./link-connection.ts";

export type Ask = Extract<PeerFrame, { kind: "ask" }>;
type Answer = Extract<PeerFetchAnswer, { ok: true }>;

export interface ServeWays {
  readonly clock: Clock;
  /** Null when the other may fetch; else why not. */
  refusal(): Refusal | null;
  onFetch(request: Uint8Array): Promise<PeerFetchAnswer>;
  /** An answer could not be read: for the log. */
  onFault(fault: unknown): void;
}

interface KeptAnswer {
  readonly name: string;
  readonly opened: Promise<PeerFetchAnswer>;
  users: number;
  timer: Timer | null;
}

interface Order {
  readonly ask: Ask;
  isStopped: boolean;
}

interface Queue {
  readonly orders: Order[];
  owedBytes: number;
  isRunning: boolean;
  wake: (() => void) | null;
}

export class ServeDesk {
  readonly #ways: ServeWays;
  readonly #answers = new Map<string, KeptAnswer>();
  readonly #queues = new Map<LinkConnection, Queue>();
  #isClosed = false;

  constructor(ways: ServeWays) {
    this.#ways = ways;
  }

  get isBusy(): boolean {
    for (const queue of this.#queues.values()) if (queue.orders.length > 0) return true;
    return false;
  }

  onAsk(connection: LinkConnection, ask: Ask): string | null {
    const queue = this.#queueOf(connection);
    if (queue.orders.length >= ASKS_PER_CONNECTION_MAX) return `more than ${ASKS_PER_CONNECTION_MAX} asks at once`;
    if (queue.orders.some((order) => order.ask.stream === ask.stream)) return `stream ${ask.stream} asked for twice`;
    queue.owedBytes += ask.length;
    if (queue.owedBytes > LINK_BUFFER_BYTES)
      return `${queue.owedBytes} bytes asked for at once, at most ${LINK_BUFFER_BYTES}`;
    // The frame's bytes belong to the connection's read buffer.
    queue.orders.push({ ask: { ...ask, request: Uint8Array.from(ask.request) }, isStopped: false });
    if (!queue.isRunning) {
      queue.isRunning = true;
      void this.#run(connection, queue);
    }
    return null;
  }

  /** Null also for one that has just ended: the two crossed. */
  onStop(connection: LinkConnection, stream: number): null {
    const order = this.#queues.get(connection)?.orders.find((one) => one.ask.stream === stream);
    if (order !== undefined) order.isStopped = true;
    return null;
  }

  onRoom(connection: LinkConnection): void {
    const queue = this.#queues.get(connection);
    const wake = queue?.wake;
    if (queue !== undefined) queue.wake = null;
    wake?.();
  }

  onClosed(connection: LinkConnection): void {
    this.onRoom(connection);
    this.#queues.delete(connection);
  }

  close(): void {
    this.#isClosed = true;
    for (const answer of [...this.#answers.values()]) if (answer.users === 0) this.#forget(answer);
  }

  async #run(connection: LinkConnection, queue: Queue): Promise<void> {
    for (;;) {
      const [order] = queue.orders;
      if (order === undefined || connection.isClosed || this.#isClosed) break;
      await this.#serve(connection, queue, order);
      queue.orders.shift();
      queue.owedBytes -= order.ask.length;
    }
    queue.isRunning = false;
  }

  async #serve(connection: LinkConnection, queue: Queue, order: Order): Promise<void> {
    const { stream } = order.ask;
    const forbidden = this.#ways.refusal();
    if (forbidden !== null) return connection.send({ kind: "fail", stream, refusal: wireRefusal(forbidden) });
    const kept = this.#answerTo(order.ask.request);
    try {
      const answer = await kept.opened;
      const refusal = answer.ok ? sizeRefusal(answer, order.ask) : answer.reason;
      if (!answer.ok || refusal !== null) {
        // A refusal is not kept: the next time the answer may be another.
        if (!answer.ok) this.#answers.delete(kept.name);
        if (refusal !== null) connection.send({ kind: "fail", stream, refusal: wireRefusal(refusal) });
        return;
      }
      await this.#send({ connection, queue, order, answer });
    } catch (fault) {
      this.#answers.delete(kept.name);
      this.#ways.onFault(fault);
      const { reason } = refuse("internal", "the bytes could not be read here; fetch them from another node");
      connection.send({ kind: "fail", stream, refusal: wireRefusal(reason) });
    } finally {
      this.#release(kept);
    }
  }

  async #send(sending: {
    readonly connection: LinkConnection;
    readonly queue: Queue;
    readonly order: Order;
    readonly answer: Answer;
  }): Promise<void> {
    const { connection, queue, order, answer } = sending;
    const { ask } = order;
    const pieceBytes = connection.role === "bulk" ? PIECE_BYTES : SHARED_PIECE_BYTES;
    const end = ask.offset + ask.length;
    for (let offset = ask.offset; offset < end; ) {
      const length = Math.min(pieceBytes, end - offset);
      const bytes = await answer.read(offset, length);
      if (bytes.length !== length) throw new Error(`read ${bytes.length} bytes of ${length} at ${offset}`);
      if (!connection.hasRoom || connection.role === "message") await this.#room(connection, queue);
      if (connection.isClosed || this.#isClosed) return;
      if (order.isStopped) return connection.send({ kind: "stopped", stream: ask.stream });
      connection.sendData({ stream: ask.stream, offset, bytes });
      offset += length;
    }
  }

  /** Until the connection takes the next piece, or is closed. */
  async #room(connection: LinkConnection, queue: Queue): Promise<void> {
    const unread = this.#ways.clock.setTimer(UNREAD_MS, () => connection.destroy());
    try {
      if (!connection.hasRoom && !connection.isClosed) {
        await new Promise<void>((resolve) => {
          queue.wake = resolve;
        });
      }
      while (connection.role === "message" && !connection.isClosed && connection.bufferedBytes() > SHARED_QUEUE_BYTES) {
        await pause(this.#ways.clock, SHARED_LOOK_MS);
      }
    } finally {
      unread.cancel();
    }
  }

  #answerTo(request: Uint8Array): KeptAnswer {
    const name = nameOf(request);
    let kept = this.#answers.get(name);
    if (kept === undefined) {
      this.#makeRoom();
      kept = { name, opened: this.#ways.onFetch(request), users: 0, timer: null };
      this.#answers.set(name, kept);
    }
    kept.timer?.cancel();
    kept.timer = null;
    kept.users++;
    return kept;
  }

  #release(kept: KeptAnswer): void {
    kept.users--;
    if (kept.users > 0) return;
    if (this.#isClosed) this.#forget(kept);
    else kept.timer = this.#ways.clock.setTimer(ANSWER_KEPT_MS, () => this.#forget(kept));
  }

  #makeRoom(): void {
    for (const kept of this.#answers.values()) {
      if (this.#answers.size < ANSWERS_KEPT_MAX) return;
      if (kept.users === 0) this.#forget(kept);
    }
  }

  #forget(kept: KeptAnswer): void {
    kept.timer?.cancel();
    kept.timer = null;
    if (this.#answers.get(kept.name) === kept) this.#answers.delete(kept.name);
    kept.opened.then(
      (answer) => {
        if (answer.ok) answer.close();
      },
      () => undefined, // told when it was served
    );
  }

  #queueOf(connection: LinkConnection): Queue {
    let queue = this.#queues.get(connection);
    if (queue === undefined) {
      queue = { orders: [], owedBytes: 0, isRunning: false, wake: null };
      this.#queues.set(connection, queue);
    }
    return queue;
  }
}

function sizeRefusal(answer: Answer, ask: Ask): Refusal | null {
  if (answer.totalBytes === ask.totalBytes) return null;
  const message = `it has ${answer.totalBytes} bytes, not ${ask.totalBytes}`;
  return refuse("invalid-request", message, { param: "totalBytes" }).reason;
}

export function wireRefusal({ code, message, retryAfterMs }: Refusal): WireRefusal {
  return { code, message, retryAfterMs };
}

/** Bytes as a text that is the same for the same bytes. */
function nameOf(request: Uint8Array): string {
  return String.fromCharCode(...request);
}
