/**
 * The asking side of bulk. Fetches are cut into segments, and each segment is asked for from the connection that is likely to bring it
 * first; so fast connections bring more, and a fetch uses all of them. Asking is the credit: nothing comes that was not asked for, and what
 * is asked for fits the buffers. A connection that is cut, or silent, loses what it owed to the others, from the byte it came to.
 *
 *   bound            what it holds
 *   governor's       bytes owed by all connections (what may be on its way)
 *   a connection's   bytes it owes: what it brings in two round trips and `ASK_AHEAD_MS`
 *   the link's       owed and held unread, of all fetches; a reader that waits and is owed nothing may go beyond it by one small segment
 *   a fetch's        owed and held unread
 */
import { FallowError } from "../../domain/fault.ts";
import type { PeerFetchOptions } from "../../ports/peer-link.ts";
import type { WireRefusal } from "../../wire/peer-frame-bytes.ts";
import type { DataPart } from "../../wire/peer-frames.ts";
import { Drain } from "./drain.ts";
import {
  FETCH_BUFFER_BYTES,
  FETCHES_MAX,
  LINK_BUFFER_BYTES,
  SEGMENT_BYTES_MAX,
  SEGMENT_BYTES_MIN,
  SLOW_LOOK_MS,
} from "./link-bounds.ts";
import type { LinkConnection } from "./link-connection.ts";
import { Pull, type Segment } from "./pull.ts";

export interface PullWays {
  /** Connections that may be asked, those of bulk when there are any. */
  sources(): readonly LinkConnection[];
  windowBytes(): number;
  /** A fetch began, so the link gets busy. */
  onDemand(): void;
}

/** What held asking up since the last look. */
export interface Demand {
  readonly isWindowUsed: boolean;
  readonly isConnectionBound: boolean;
}

/** So many segments fill the governor's window: then the last one waits for little. */
const SEGMENTS_PER_WINDOW = 16;

export class PullDesk {
  readonly #ways: PullWays;
  readonly #pulls = new Set<Pull>();
  /** Segments whose connection was cut; they go first, in the order in which they were first asked for. */
  #again: Segment[] = [];
  /** What is missing of those: owed by nobody at the time, so that it is not on its way. */
  #againBytes = 0;
  readonly #drains = new Map<LinkConnection, Drain>();
  #nextStream = 1;
  #owedBytes = 0;
  #heldBytes = 0;
  #isWindowUsed = false;
  #isConnectionBound = false;
  #failure: FallowError | null = null;

  constructor(ways: PullWays) {
    this.#ways = ways;
  }

  get isBusy(): boolean {
    return this.#pulls.size > 0;
  }

  async *fetch(request: Uint8Array, options: PeerFetchOptions): AsyncGenerator<Uint8Array, void, undefined> {
    if (this.#failure !== null) throw this.#failure;
    if (this.#pulls.size >= FETCHES_MAX) {
      throw new FallowError("peer-overloaded", `${FETCHES_MAX} fetches run on this link; start fewer at once`);
    }
    const pull = new Pull(request, options);
    const onAbort = () =>
      pull.fail(new FallowError("cancelled", "the fetch was cancelled", { cause: options.signal.reason }));
    this.#pulls.add(pull);
    options.signal.addEventListener("abort", onAbort, { once: true });
    if (options.signal.aborted) onAbort();
    this.#ways.onDemand();
    try {
      for (;;) {
        if (pull.failure !== null) throw pull.failure;
        if (pull.isDone) return;
        const bytes = pull.take();
        if (bytes !== null) {
          this.#heldBytes -= bytes.length;
          yield bytes;
          continue;
        }
        const arrival = pull.arrival();
        this.pump();
        await arrival;
      }
    } finally {
      options.signal.removeEventListener("abort", onAbort);
      this.#drop(pull);
    }
  }

  /** Asks for as much as the bounds let it. */
  pump(): void {
    const windowBytes = this.#ways.windowBytes();
    const sources = this.#ways.sources();
    const most = segmentBytes(windowBytes);
    while (this.#owedBytes - this.#againBytes < windowBytes) {
      const drain = this.#quickest(sources, most);
      if (drain === null) {
        this.#isConnectionBound ||= sources.length > 0 && this.#hasMore();
        return;
      }
      const segment = this.#nextSegment(drain.segmentBytes(most));
      if (segment === null) return;
      this.#ask(segment, drain);
    }
    this.#isWindowUsed = true;
  }

  onData(connection: LinkConnection, part: DataPart): string | null {
    const drain = this.#drains.get(connection);
    if (drain === undefined) return `data of stream ${part.stream}, and nothing was asked for on this connection`;
    const found = drain.arrive(part);
    if (typeof found === "string") return found;
    if (found === null) return null;
    const { segment, isWhole } = found;
    const isFirst = segment.pull.segments()[0] === segment;
    this.#owedBytes -= part.bytes.length;
    this.#heldBytes += part.bytes.length;
    segment.pull.arrive(segment, part.bytes);
    if (isWhole) segment.connection = null;
    if (isWhole || isFirst) this.pump();
    return null;
  }

  onFail(connection: LinkConnection, stream: number, refusal: WireRefusal): string | null {
    const segment = this.#drains.get(connection)?.end(stream);
    if (segment === undefined) return `the failure of stream ${stream}, which is not open`;
    if (segment === null) return null;
    this.#askAgain([segment]);
    segment.pull.fail(
      new FallowError("peer-refused", `the other node refused: ${refusal.message}`, {
        data: { code: refusal.code, retryAfterMs: refusal.retryAfterMs },
      }),
    );
    return null;
  }

  onStopped(connection: LinkConnection, stream: number): string | null {
    const segment = this.#drains.get(connection)?.end(stream);
    return segment === null ? null : `the end of stream ${stream}, which was not stopped`;
  }

  /** What it owed is asked for elsewhere; what still comes from it is dropped. */
  passOver(connection: LinkConnection): void {
    const drain = this.#drains.get(connection);
    const segments = drain?.abandonAll() ?? [];
    for (const { stream } of segments) connection.send({ kind: "stop", stream });
    this.#askAgain(segments);
    this.pump();
  }

  onClosed(connection: LinkConnection): void {
    this.passOver(connection);
    this.#drains.delete(connection);
  }

  /** Since the last look: updates the rates of connections, and ends fetches that the peer lets wait. */
  look(passedMs: number): Demand {
    for (const [connection, drain] of this.#drains) drain.look(passedMs, connection.rtt.quantileMs(0.5));
    for (const pull of this.#pulls) lookAtPace(pull, passedMs, this.#ways.sources().length > 0);
    this.pump();
    const demand = { isWindowUsed: this.#isWindowUsed, isConnectionBound: this.#isConnectionBound };
    this.#isWindowUsed = false;
    this.#isConnectionBound = false;
    return demand;
  }

  /** Ends all fetches, and those to come. */
  fail(failure: FallowError): void {
    this.#failure ??= failure;
    for (const pull of this.#pulls) pull.fail(failure);
  }

  #drop(pull: Pull): void {
    this.#pulls.delete(pull);
    this.#heldBytes -= pull.heldBytes;
    this.#owedBytes -= pull.owedBytes;
    for (const segment of pull.segments()) {
      if (segment.connection === null) continue;
      this.#drains.get(segment.connection)?.abandon(segment);
      segment.connection.send({ kind: "stop", stream: segment.stream });
    }
    const kept = this.#again.filter((segment) => segment.pull !== pull);
    this.#again = [];
    this.#againBytes = 0;
    this.#askAgain(kept);
    this.pump();
  }

  #askAgain(segments: readonly Segment[]): void {
    for (const segment of segments) {
      segment.connection = null;
      this.#again.push(segment);
      this.#againBytes += segment.length - segment.received;
    }
    if (segments.length > 0) this.#again.sort((a, b) => a.firstStream - b.firstStream);
  }

  #ask(segment: Segment, drain: Drain): void {
    const { pull } = segment;
    segment.stream = this.#nextStream;
    this.#nextStream = (this.#nextStream % (2 ** 32 - 1)) + 1;
    if (segment.firstStream === 0) segment.firstStream = segment.stream;
    segment.connection = drain.connection;
    drain.open(segment);
    drain.connection.send({
      kind: "ask",
      stream: segment.stream,
      offset: segment.offset + segment.received,
      length: segment.length - segment.received,
      totalBytes: pull.options.totalBytes,
      request: pull.request,
    });
  }

  #hasMore(): boolean {
    return this.#again.length > 0 || [...this.#pulls].some((pull) => pull.restBytes > 0);
  }

  /** Those that wait again are owed already; a fresh one adds to what is owed. */
  #nextSegment(size: number): Segment | null {
    const again = this.#again.shift();
    if (again !== undefined) {
      this.#againBytes -= again.length - again.received;
      return again;
    }
    for (const pull of this.#pulls) {
      if (pull.restBytes === 0 || pull.failure !== null) continue;
      const room = Math.min(
        FETCH_BUFFER_BYTES - pull.heldBytes - pull.owedBytes,
        LINK_BUFFER_BYTES - this.#heldBytes - this.#owedBytes,
      );
      const isStarving = pull.isWaiting && pull.owedBytes === 0;
      if (room < SEGMENT_BYTES_MIN && !isStarving) continue;
      const segment = pull.cut(Math.min(size, Math.max(room, SEGMENT_BYTES_MIN)));
      this.#owedBytes += segment.length;
      return segment;
    }
    return null;
  }

  /** The connection that would bring another segment first, of those that may owe more; null when none may. */
  #quickest(sources: readonly LinkConnection[], most: number): Drain | null {
    let best: Drain | null = null;
    let bestMs = Number.POSITIVE_INFINITY;
    for (const connection of sources) {
      let drain = this.#drains.get(connection);
      if (drain === undefined) {
        drain = new Drain(connection);
        this.#drains.set(connection, drain);
      }
      const size = drain.segmentBytes(most);
      if (!drain.mayOwe(size)) continue;
      const ms = drain.msFor(size);
      if (ms < bestMs) {
        best = drain;
        bestMs = ms;
      }
    }
    return best;
  }
}

function segmentBytes(windowBytes: number): number {
  const wanted = windowBytes / SEGMENTS_PER_WINDOW;
  let size = SEGMENT_BYTES_MIN;
  while (size * 2 <= wanted && size < SEGMENT_BYTES_MAX) size *= 2;
  return size;
}

/** Only time in which the reader waits and the peer owes counts: a slow reader, and a cut link, are not the peer's fault. */
function lookAtPace(pull: Pull, passedMs: number, hasSource: boolean): void {
  if (!pull.isWaiting || pull.owedBytes === 0 || !hasSource) return;
  pull.lookedMs += passedMs;
  if (pull.lookedMs < SLOW_LOOK_MS) return;
  const bytesPerSecond = (pull.lookedBytes * 1_000) / pull.lookedMs;
  pull.lookedMs = 0;
  pull.lookedBytes = 0;
  const { bytesPerSecondMin } = pull.options;
  if (bytesPerSecond >= bytesPerSecondMin) return;
  const message = `${Math.round(bytesPerSecond)} bytes a second over ${SLOW_LOOK_MS} ms, at least ${bytesPerSecondMin} are wanted`;
  pull.fail(new FallowError("peer-too-slow", message, { data: { bytesPerSecond, bytesPerSecondMin } }));
}
