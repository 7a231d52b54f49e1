/** What one connection owes to the asking side, and how fast it has been paying. */
import type { DataPart } from "../../wire/peer-frames.ts";
import {
  ASK_AHEAD_MS,
  ASKS_PER_CONNECTION_MAX,
  CONNECTION_ASKED_BYTES_MAX,
  CONNECTION_ASKED_BYTES_MIN,
  CONNECTION_ASKED_BYTES_START,
  SEGMENT_BYTES_MIN,
} from "./link-bounds.ts";
import type { LinkConnection } from "./link-connection.ts";
import type { Segment } from "./pull.ts";

/** A connection owes at least so many segments when it may owe all that it brings. */
const SEGMENTS_OWED = 4;
/** Of the newest look in the rate. */
const RATE_SHARE = 0.25;

export class Drain {
  readonly connection: LinkConnection;
  readonly #open = new Map<number, Segment>();
  /** Streams that nobody waits for any more, with the bytes that may still come. */
  readonly #abandoned = new Map<number, { offset: number; leftBytes: number }>();
  #owedBytes = 0;
  #cameBytes = 0;
  #bytesPerMs: number | null = null;
  #capBytes = CONNECTION_ASKED_BYTES_START;

  constructor(connection: LinkConnection) {
    this.connection = connection;
  }

  /** What is asked for at once: a part of what it may owe, so that it is never idle between two segments. */
  segmentBytes(most: number): number {
    let size = SEGMENT_BYTES_MIN;
    while (size * 2 <= most && size * 2 * SEGMENTS_OWED <= this.#capBytes) size *= 2;
    return size;
  }

  mayOwe(bytes: number): boolean {
    const isFull = this.#open.size + this.#abandoned.size >= ASKS_PER_CONNECTION_MAX;
    return !this.connection.isClosed && !isFull && this.#owedBytes + bytes <= this.#capBytes;
  }

  /** Until so many bytes more had come. A connection without a rate is taken to be quick, so that it gets one. */
  msFor(bytes: number): number {
    return (this.#owedBytes + bytes) / Math.max(this.#bytesPerMs ?? 4_096, 1);
  }

  open(segment: Segment): void {
    this.#open.set(segment.stream, segment);
    this.#owedBytes += segment.length - segment.received;
  }

  /** Null: nobody waits for it. A text: what is wrong with it. */
  arrive(part: DataPart): { readonly segment: Segment; readonly isWhole: boolean } | null | string {
    const { stream, offset, bytes } = part;
    const segment = this.#open.get(stream);
    this.#cameBytes += bytes.length;
    if (segment === undefined) return this.#arriveLate(part);
    const wanted = segment.offset + segment.received;
    const left = segment.length - segment.received;
    if (offset !== wanted) return `data of stream ${stream} at ${offset}, the next byte is ${wanted}`;
    if (bytes.length > left) return `${bytes.length} bytes of stream ${stream}, and ${left} were left`;
    this.#owedBytes -= bytes.length;
    const isWhole = bytes.length === left;
    if (isWhole) this.#open.delete(stream);
    return { segment, isWhole };
  }

  /** The stream ended without its bytes. Null: nobody waited for it; undefined: it was never open. */
  end(stream: number): Segment | null | undefined {
    if (this.#abandoned.delete(stream)) return null;
    const segment = this.#open.get(stream);
    if (segment !== undefined) this.#forget(segment);
    return segment;
  }

  abandon(segment: Segment): void {
    this.#forget(segment);
    this.#abandoned.set(segment.stream, {
      offset: segment.offset + segment.received,
      leftBytes: segment.length - segment.received,
    });
  }

  abandonAll(): readonly Segment[] {
    const all = [...this.#open.values()];
    for (const segment of all) this.abandon(segment);
    return all;
  }

  look(passedMs: number, rttMs: number | null): void {
    if (this.#owedBytes > 0 || this.#cameBytes > 0) {
      const rate = this.#cameBytes / passedMs;
      this.#bytesPerMs = this.#bytesPerMs === null ? rate : this.#bytesPerMs * (1 - RATE_SHARE) + rate * RATE_SHARE;
      const wanted = this.#bytesPerMs * (2 * (rttMs ?? 0) + ASK_AHEAD_MS);
      this.#capBytes = Math.min(CONNECTION_ASKED_BYTES_MAX, Math.max(CONNECTION_ASKED_BYTES_MIN, wanted));
    }
    this.#cameBytes = 0;
  }

  #forget(segment: Segment): void {
    this.#open.delete(segment.stream);
    this.#owedBytes -= segment.length - segment.received;
  }

  #arriveLate({ stream, offset, bytes }: DataPart): null | string {
    const late = this.#abandoned.get(stream);
    if (late === undefined) return `data of stream ${stream}, which is not open`;
    if (offset !== late.offset || bytes.length > late.leftBytes) {
      return `${bytes.length} bytes of stream ${stream} at ${offset}, and ${late.leftBytes} were left at ${late.offset}`;
    }
    late.offset += bytes.length;
    late.leftBytes -= bytes.length;
    if (late.leftBytes === 0) this.#abandoned.delete(stream);
    return null;
  }
}
