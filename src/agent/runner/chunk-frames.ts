/**
 * Puts all tokens of one turn into one frame: an engine step brings a token to each of many sequences, and a frame each would
 * cost more than the tokens. What is added waits until the promise reactions of this turn have run.
 */
import { type Chunk, WIRE_BOUNDS } from "../../wire/agent-link.ts";
import type { Line } from "../session.ts";

/** Far below what a link takes, so that one frame does not hold up the heartbeat on a slow line. A chunk alone is smaller. */
const FRAME_BYTES = 1024 * 1024;
/** The most that its parts take as JSON: keys, a lease id, numbers of up to 25 digits. */
const CHUNK_BYTES = 200;
const TOKEN_BYTES = 12;
const LOGPROB_BYTES = 80;

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
    let chunks: Chunk[] = [];
    let bytes = 0;
    for (const chunk of pending) {
      const more = chunkBytesMax(chunk);
      if (chunks.length === WIRE_BOUNDS.chunksPerFrameMax || (chunks.length > 0 && bytes + more > FRAME_BYTES)) {
        this.#line.send({ type: "attempt.chunks", chunks });
        chunks = [];
        bytes = 0;
      }
      chunks.push(chunk);
      bytes += more;
    }
    if (chunks.length > 0) this.#line.send({ type: "attempt.chunks", chunks });
  }

  /** The line is gone: nothing is sent any more. */
  close(): void {
    this.#isClosed = true;
    this.#pending = [];
  }
}

function chunkBytesMax({ tokenIds, details }: Chunk): number {
  const logprobs = details?.reduce((sum, { top }) => sum + 1 + top.length, 0) ?? 0;
  return CHUNK_BYTES + tokenIds.length * TOKEN_BYTES + logprobs * LOGPROB_BYTES;
}
