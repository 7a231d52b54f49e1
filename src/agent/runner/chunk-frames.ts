/**
 * Puts all tokens of one turn into one frame: an engine step brings a token to each of many sequences, and a frame each would
 * cost more than the tokens. What is added waits until the promise reactions of this turn have run.
 */
import { type Chunk, WIRE_BOUNDS } from "../../wire/agent-link.ts";
import type { Line } from "../session.ts";

export class ChunkFrames {
  readonly #line: Line;
  #pending: Chunk[] = [];
  #isFlushQueued = false;
  #isClosed = false;

  constructor(line: Line) {
    this.#line = line;
  }

  add(chunk: Chunk): void {
    this.#pending.push(chunk);
    if (this.#isFlushQueued) return;
    this.#isFlushQueued = true;
    queueMicrotask(() => this.flush());
  }

  /** Before anything that must come after the chunks. */
  flush(): void {
    this.#isFlushQueued = false;
    const pending = this.#pending;
    this.#pending = [];
    if (this.#isClosed) return;
    for (let at = 0; at < pending.length; at += WIRE_BOUNDS.chunksPerFrameMax) {
      this.#line.send({ type: "attempt.chunks", chunks: pending.slice(at, at + WIRE_BOUNDS.chunksPerFrameMax) });
    }
  }

  /** The line is gone: nothing is sent any more. */
  close(): void {
    this.#isClosed = true;
    this.#pending = [];
  }
}
