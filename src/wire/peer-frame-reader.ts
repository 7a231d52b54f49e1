/**
 * Cuts a connection's bytes into frames, however they come. Small frames are handed on whole; the bytes of `data` as they arrive, uncopied,
 * each part with its own offset. A body that is not complete takes at most its kind's bound of memory, and before the greeting only the
 * greeting's own kinds are taken.
 */
import { FRAME_HEAD_BYTES } from "./peer-frame-bytes.ts";
import {
  DATA_PREFIX_BYTES,
  type FrameKind,
  type PeerFrame,
  readBody,
  readDataPrefix,
  readHead,
} from "./peer-frames.ts";

type State =
  | { readonly at: "head" }
  | { readonly at: "prefix"; readonly left: number }
  | { readonly at: "data"; readonly stream: number; offset: number; left: number }
  | { readonly at: "body"; readonly kind: Exclude<FrameKind, "data">; readonly bytes: number };

const HEAD: State = { at: "head" };

export class PeerFrameReader {
  #state: State = HEAD;
  #kept: Uint8Array | null = null;
  #keptLength = 0;
  #taken: (kind: FrameKind) => boolean;
  #isBroken = false;

  /** `isTaken` says which kinds may come; another one is a breach. */
  constructor(isTaken: (kind: FrameKind) => boolean) {
    this.#taken = isTaken;
  }

  take(isTaken: (kind: FrameKind) => boolean): void {
    this.#taken = isTaken;
  }

  /**
   * Hands on what became complete, in order. Answers what was wrong, or null; after a wrong frame nothing more is read. `onFrame` false:
   * the connection ended, the rest is dropped.
   */
  push(bytes: Uint8Array, onFrame: (frame: PeerFrame) => boolean): string | null {
    let rest = bytes;
    while (rest.length > 0 && !this.#isBroken) {
      if (this.#state.at === "data") {
        const state = this.#state;
        const part = rest.length <= state.left ? rest : rest.subarray(0, state.left);
        rest = rest.subarray(part.length);
        const offset = state.offset;
        state.offset += part.length;
        state.left -= part.length;
        if (state.left === 0) this.#state = HEAD;
        if (!onFrame({ kind: "data", stream: state.stream, offset, bytes: part })) return this.#stop();
        continue;
      }
      const wanted = this.#wanted();
      const whole = this.#collect(rest, wanted);
      rest = rest.subarray(Math.min(rest.length, wanted - this.#before));
      if (whole === null) return null;
      const wrong = this.#complete(whole, onFrame);
      if (wrong !== null) {
        this.#isBroken = true;
        return wrong === "" ? null : wrong;
      }
    }
    return null;
  }

  /** What lay here before the last `#collect`. */
  #before = 0;

  #stop(): null {
    this.#isBroken = true;
    return null;
  }

  #wanted(): number {
    switch (this.#state.at) {
      case "head":
        return FRAME_HEAD_BYTES;
      case "prefix":
        return DATA_PREFIX_BYTES;
      case "body":
        return this.#state.bytes;
      case "data":
        return this.#state.left;
    }
  }

  #collect(rest: Uint8Array, wanted: number): Uint8Array | null {
    this.#before = this.#keptLength;
    if (this.#keptLength === 0 && rest.length >= wanted) return rest.subarray(0, wanted);
    this.#kept ??= new Uint8Array(wanted);
    const part = rest.subarray(0, wanted - this.#keptLength);
    this.#kept.set(part, this.#keptLength);
    this.#keptLength += part.length;
    if (this.#keptLength < wanted) return null;
    const whole = this.#kept;
    this.#kept = null;
    this.#keptLength = 0;
    return whole;
  }

  /** Null: go on. Empty: the connection ended. Else what was wrong. */
  #complete(whole: Uint8Array, onFrame: (frame: PeerFrame) => boolean): string | null {
    const state = this.#state;
    switch (state.at) {
      case "head": {
        const head = readHead(whole);
        if (!head.ok) return head.reason;
        if (!this.#taken(head.kind)) return `a ${head.kind} frame at a time when none may come`;
        if (head.kind === "data") this.#state = { at: "prefix", left: head.bodyBytes - DATA_PREFIX_BYTES };
        else if (head.bodyBytes > 0) this.#state = { at: "body", kind: head.kind, bytes: head.bodyBytes };
        else return this.#finish(head.kind, new Uint8Array(0), onFrame);
        return null;
      }
      case "prefix":
        this.#state = { at: "data", ...readDataPrefix(whole), left: state.left };
        return null;
      case "body":
        return this.#finish(state.kind, whole, onFrame);
      case "data":
        return null;
    }
  }

  #finish(kind: Exclude<FrameKind, "data">, body: Uint8Array, onFrame: (frame: PeerFrame) => boolean): string | null {
    this.#state = HEAD;
    const frame = readBody(kind, body);
    if (frame === null) return `a ${kind} frame that does not read as one`;
    return onFrame(frame) ? null : "";
  }
}
