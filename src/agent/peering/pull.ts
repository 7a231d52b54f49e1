/**
 * One fetch as its reader sees it. The bytes come in segments over several connections at once and are put in order here: the first segment
 * is handed on as it comes, later ones wait for their turn.
 */
import { assert } from "../../domain/assert.ts";
import type { FallowError } from "../../domain/fault.ts";
import type { PeerFetchOptions } from "../../ports/peer-link.ts";
import type { LinkConnection } from "./link-connection.ts";

export interface Segment {
  readonly pull: Pull;
  readonly offset: number;
  readonly length: number;
  /** Of `length`; what is missing is asked for again elsewhere after a cut. */
  received: number;
  /** Came and was not taken by the reader. */
  readonly parts: Uint8Array[];
  /** Null: it waits for a connection. */
  connection: LinkConnection | null;
  stream: number;
  /** As which it was asked for the first time; 0: it was not. */
  firstStream: number;
}

export class Pull {
  readonly request: Uint8Array;
  readonly options: PeerFetchOptions;
  readonly #segments: Segment[] = [];
  #askedTo = 0;
  #takenTo = 0;
  #heldBytes = 0;
  #owedBytes = 0;
  #failure: FallowError | null = null;
  #wake: (() => void) | null = null;
  /** While the reader waited and something was owed: the peer's time. */
  lookedMs = 0;
  lookedBytes = 0;

  constructor(request: Uint8Array, options: PeerFetchOptions) {
    this.request = request;
    this.options = options;
  }

  get isWaiting(): boolean {
    return this.#wake !== null;
  }

  get isDone(): boolean {
    return this.#takenTo === this.options.totalBytes;
  }

  get failure(): FallowError | null {
    return this.#failure;
  }

  /** Not asked for yet. */
  get restBytes(): number {
    return this.options.totalBytes - this.#askedTo;
  }

  /** Came and was not taken. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Asked for, or about to be asked for again, and not come. */
  get owedBytes(): number {
    return this.#owedBytes;
  }

  segments(): readonly Segment[] {
    return this.#segments;
  }

  /** The next bytes that nobody was asked for. */
  cut(lengthMax: number): Segment {
    const length = Math.min(lengthMax, this.restBytes);
    assert(length > 0, "a segment is cut while something is left");
    const segment: Segment = {
      pull: this,
      offset: this.#askedTo,
      length,
      received: 0,
      parts: [],
      connection: null,
      stream: 0,
      firstStream: 0,
    };
    this.#segments.push(segment);
    this.#askedTo += length;
    this.#owedBytes += length;
    return segment;
  }

  arrive(segment: Segment, bytes: Uint8Array): void {
    segment.received += bytes.length;
    segment.parts.push(bytes);
    this.#heldBytes += bytes.length;
    this.#owedBytes -= bytes.length;
    this.lookedBytes += bytes.length;
    if (segment === this.#segments[0]) this.#wakeReader();
  }

  /** The next bytes in order; null when they have not come. */
  take(): Uint8Array | null {
    const [first] = this.#segments;
    const bytes = first?.parts.shift();
    if (first === undefined || bytes === undefined) return null;
    this.#takenTo += bytes.length;
    this.#heldBytes -= bytes.length;
    if (first.received === first.length && first.parts.length === 0) this.#segments.shift();
    return bytes;
  }

  /** Resolves when `take` is worth a try. */
  arrival(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  fail(failure: FallowError): void {
    this.#failure ??= failure;
    this.#wakeReader();
  }

  #wakeReader(): void {
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }
}
