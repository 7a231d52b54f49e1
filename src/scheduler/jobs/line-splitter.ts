/**
 * Cuts bytes that come in pieces into lines. A line ends at a line feed or at the end of the file; a carriage return before it is not part of
 * it. Nothing is copied but a line that lies in two pieces, and no more than one line is held.
 */
export interface SplitLine {
  readonly bytes: Uint8Array;
  /** Of its first byte in the file. */
  readonly offsetBytes: number;
  /** Its end included. */
  readonly lengthBytes: number;
  /** From 1, blank lines counted: what an editor shows. */
  readonly number: number;
}

const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;

export class LineSplitter {
  readonly #lineBytesMax: number;
  #held: Uint8Array[] = [];
  #heldBytes = 0;
  #offsetBytes = 0;
  #number = 1;

  constructor(options: { readonly lineBytesMax: number }) {
    this.#lineBytesMax = options.lineBytesMax;
  }

  /** The number of the line that is longer than allowed; null while none is. After it the splitter is of no use. */
  get tooLong(): number | null {
    return this.#heldBytes > this.#lineBytesMax ? this.#number : null;
  }

  /** The lines that end in this piece; their bytes may lie in it. */
  push(piece: Uint8Array): readonly SplitLine[] {
    const lines: SplitLine[] = [];
    let from = 0;
    while (this.tooLong === null) {
      const end = piece.indexOf(LINE_FEED, from);
      const part = piece.subarray(from, end === -1 ? piece.length : end);
      this.#heldBytes += part.length;
      if (part.length > 0) this.#held.push(part);
      if (end === -1 || this.tooLong !== null) break;
      lines.push(this.#take(1));
      from = end + 1;
    }
    // What is held outlives the piece, whose memory may be used again.
    const last = this.#held.length - 1;
    const kept = this.#held[last];
    if (kept !== undefined) this.#held[last] = kept.slice();
    return lines;
  }

  /** The line that no line feed ends; null when the last one had it. */
  end(): SplitLine | null {
    return this.#heldBytes === 0 ? null : this.#take(0);
  }

  #take(endBytes: number): SplitLine {
    const whole = this.#held.length === 1 ? (this.#held[0] ?? EMPTY) : joined(this.#held, this.#heldBytes);
    const lengthBytes = this.#heldBytes + endBytes;
    const hasReturn = whole.at(-1) === CARRIAGE_RETURN;
    const line: SplitLine = {
      bytes: hasReturn ? whole.subarray(0, -1) : whole,
      offsetBytes: this.#offsetBytes,
      lengthBytes,
      number: this.#number,
    };
    this.#offsetBytes += lengthBytes;
    this.#number += 1;
    this.#held = [];
    this.#heldBytes = 0;
    return line;
  }
}

const EMPTY = new Uint8Array(0);

function joined(parts: readonly Uint8Array[], bytes: number): Uint8Array {
  const whole = new Uint8Array(bytes);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Nothing but spaces and tabs. */
export function isBlank(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0x20 || byte === 0x09);
}
