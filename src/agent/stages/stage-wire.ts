/**
 * One channel of a link in one epoch: numbers what goes out and checks the numbers of what comes in, so that a frame that comes again, or is missing, is
 * noticed. Frames go out one after the other, each as soon as the link has room.
 */
import type { PeerLink } from "../../ports/peer-link.ts";
import { encodeStageFrame } from "../../wire/stage-frame-codec.ts";
import type { StageFrame, StageFrameHead } from "../../wire/stage-frames.ts";

type Bare<T> = T extends unknown ? Omit<T, keyof StageFrameHead> : never;
/** A frame without its numbers. */
export type StageMessage = Bare<StageFrame>;

export interface WireProblem {
  readonly code: string;
  readonly message: string;
  /** Absent: a breach of the protocol. */
  readonly kind?: "stage-garbage";
}

/**
 * Frames that wait for the link. Activations wait for credits long before, and the rest is a few frames of each sequence; only pulses of a
 * neighbour that wants each answered and reads none would fill it.
 */
const QUEUE_FRAMES_MAX = 1_024;

export class StageWire {
  readonly link: PeerLink;
  readonly channel: number;
  readonly chainEpoch: number;
  readonly #onLost: (reason: string) => void;
  #queue: Uint8Array[] = [];
  #isSending = false;
  #isClosed = false;
  #nextOut = 0;
  #nextIn = 0;

  constructor(parts: {
    readonly link: PeerLink;
    readonly channel: number;
    readonly chainEpoch: number;
    /** The link takes no more. */
    onLost(reason: string): void;
  }) {
    this.link = parts.link;
    this.channel = parts.channel;
    this.chainEpoch = parts.chainEpoch;
    this.#onLost = parts.onLost;
  }

  /** Returns the bytes of the frame. */
  send(message: StageMessage): number {
    if (this.#isClosed) return 0;
    const { channel, chainEpoch } = this;
    const bytes = encodeStageFrame({ ...message, channel, chainEpoch, frame: this.#nextOut++ });
    this.#queue.push(bytes);
    if (!this.#isSending) void this.#pump();
    if (this.#queue.length > QUEUE_FRAMES_MAX) {
      this.close();
      this.#onLost(`it does not read: ${QUEUE_FRAMES_MAX} frames wait`);
    }
    return bytes.length;
  }

  /** Null when the frame is the one whose turn it is. */
  take({ frame, type }: StageFrame): WireProblem | null {
    const expected = this.#nextIn;
    if (frame === expected) {
      this.#nextIn++;
      return null;
    }
    const message = `a ${type} frame has number ${frame}, the next one is ${expected}`;
    return { code: frame < expected ? "frame-replayed" : "frame-missing", message };
  }

  close(): void {
    this.#isClosed = true;
    this.#queue = [];
  }

  /** Two at once might overtake each other where both wait for room. Never rejects. */
  async #pump(): Promise<void> {
    this.#isSending = true;
    try {
      for (let bytes = this.#queue.shift(); bytes !== undefined; bytes = this.#queue.shift()) {
        await this.link.send(bytes);
      }
    } catch (fault) {
      const wasClosed = this.#isClosed;
      this.close();
      if (!wasClosed) this.#onLost(String(fault));
    } finally {
      this.#isSending = false;
    }
  }
}
