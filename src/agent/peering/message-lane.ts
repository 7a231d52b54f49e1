/**
 * Small messages, delivered once and in order whatever connections come and go. Each has a number; the sender keeps it until it is
 * acknowledged and sends it again over another connection when its own is cut; the receiver drops what it has seen. So a message may also
 * go over two connections at once, and the first copy counts.
 *
 * Acknowledgements free the sender's memory and nothing waits for them but a full window, so they come after the messages have been dealt with, and
 * for several at once.
 */
import { assert } from "../../domain/assert.ts";
import { FallowError } from "../../domain/fault.ts";
import { PEER_MESSAGE_BYTES_MAX } from "../../ports/peer-link.ts";
import {
  ACK_BYTES,
  ACK_COUNT,
  MESSAGE_WINDOW_BYTES,
  MESSAGE_WINDOW_COUNT,
  MESSAGES_WAITING_MAX,
} from "./link-bounds.ts";

export interface LaneWays {
  transmit(seq: number, bytes: Uint8Array): void;
  acknowledge(seq: number): void;
  deliver(bytes: Uint8Array): void;
  /** Calls back after `ACK_MS`. */
  later(fire: () => void): void;
}

export class MessageLane {
  readonly #ways: LaneWays;
  /** Sent and not acknowledged, in order. */
  readonly #unacked = new Map<number, Uint8Array>();
  readonly #waiting: (() => void)[] = [];
  /** Came before their turn. */
  readonly #early = new Map<number, Uint8Array>();
  #woken = 0;
  #unackedBytes = 0;
  #earlyBytes = 0;
  #nextSeq = 1;
  #expected = 1;
  /** Delivered and not acknowledged. */
  #owedCount = 0;
  #owedBytes = 0;
  #isAckDue = false;
  #isAckAwaited = false;
  #failure: FallowError | null = null;

  constructor(ways: LaneWays) {
    this.#ways = ways;
  }

  get hasUnacked(): boolean {
    return this.#unacked.size > 0;
  }

  /** Resolves when there is room for the next. Rejects when the link has ended, or too many callers wait (`peer-overloaded`). */
  async send(bytes: Uint8Array): Promise<void> {
    assert(
      bytes.length <= PEER_MESSAGE_BYTES_MAX,
      `a message of ${bytes.length} bytes is at most ${PEER_MESSAGE_BYTES_MAX}`,
    );
    // Who was woken and has not yet gone on comes before whoever asks in the same turn.
    if (this.#waiting.length > 0 || this.#woken > 0 || !this.#hasRoom()) {
      await this.#room();
      this.#woken--;
    }
    if (this.#failure !== null) throw this.#failure;
    const seq = this.#nextSeq++;
    this.#unacked.set(seq, bytes);
    this.#unackedBytes += bytes.length;
    this.#ways.transmit(seq, bytes);
    if (this.#hasRoom()) this.#wakeNext();
  }

  /** What is not acknowledged goes out again, in order. */
  resend(): void {
    for (const [seq, bytes] of this.#unacked) this.#ways.transmit(seq, bytes);
  }

  onAck(seq: number): string | null {
    if (seq >= this.#nextSeq) return `an acknowledgement of message ${seq}, and ${this.#nextSeq - 1} were sent`;
    for (const [sent, bytes] of this.#unacked) {
      if (sent > seq) break;
      this.#unacked.delete(sent);
      this.#unackedBytes -= bytes.length;
    }
    if (this.#hasRoom()) this.#wakeNext();
    return null;
  }

  onMessage(seq: number, bytes: Uint8Array): string | null {
    if (seq >= this.#expected + MESSAGE_WINDOW_COUNT) {
      return `message ${seq} goes beyond the window of ${MESSAGE_WINDOW_COUNT} from ${this.#expected}`;
    }
    if (seq >= this.#expected && !this.#early.has(seq)) {
      // One that waits must not hold the connection's whole read buffer.
      this.#early.set(seq, seq === this.#expected ? bytes : new Uint8Array(bytes));
      this.#earlyBytes += bytes.length;
      // The last message of a full window may be as long as any.
      if (this.#earlyBytes > MESSAGE_WINDOW_BYTES + PEER_MESSAGE_BYTES_MAX) {
        return `messages of ${this.#earlyBytes} bytes go beyond the window of ${MESSAGE_WINDOW_BYTES}`;
      }
    }
    const next = this.#takeNext();
    for (const message of next) this.#ways.deliver(message);
    this.#owe(next);
    return null;
  }

  fail(failure: FallowError): void {
    this.#failure ??= failure;
    while (this.#waiting.length > 0) this.#wakeNext();
  }

  /** One that came before is acknowledged again, too: the other end does not know that it came. */
  #owe(messages: readonly Uint8Array[]): void {
    this.#isAckDue = true;
    this.#owedCount += messages.length;
    for (const { length } of messages) this.#owedBytes += length;
    if (this.#owedCount >= ACK_COUNT || this.#owedBytes >= ACK_BYTES) this.#acknowledge();
    if (this.#isAckAwaited) return;
    this.#isAckAwaited = true;
    this.#ways.later(() => {
      this.#isAckAwaited = false;
      if (this.#isAckDue) this.#acknowledge();
    });
  }

  #acknowledge(): void {
    this.#isAckDue = false;
    this.#owedCount = 0;
    this.#owedBytes = 0;
    this.#ways.acknowledge(this.#expected - 1);
  }

  #wakeNext(): void {
    const wake = this.#waiting.shift();
    if (wake === undefined) return;
    this.#woken++;
    wake();
  }

  #takeNext(): readonly Uint8Array[] {
    const next: Uint8Array[] = [];
    for (;;) {
      const bytes = this.#early.get(this.#expected);
      if (bytes === undefined) return next;
      this.#early.delete(this.#expected);
      this.#earlyBytes -= bytes.length;
      this.#expected++;
      next.push(bytes);
    }
  }

  #hasRoom(): boolean {
    return this.#unacked.size < MESSAGE_WINDOW_COUNT && this.#unackedBytes < MESSAGE_WINDOW_BYTES;
  }

  #room(): Promise<void> {
    if (this.#waiting.length >= MESSAGES_WAITING_MAX) {
      throw new FallowError(
        "peer-overloaded",
        `${MESSAGES_WAITING_MAX} messages already wait for room; await each send`,
      );
    }
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }
}
