/**
 * Token bytes to text, piece by piece. A token may end in the middle of a character (byte-level vocabularies split emoji
 * over up to four tokens), so the last incomplete sequence is held back until its rest arrives; what can never become a
 * character turns into U+FFFD, as a whole-text decoder would do it (WHATWG Encoding, maximal subpart).
 */

/** Of one character. */
export const UTF8_SEQUENCE_BYTES_MAX = 4;
/** Longer pieces gain nothing from the short way. */
const ASCII_TRIED_BYTES_MAX = 64;

export class Utf8Stream {
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #missingBytes = 0;

  /** True when the next text begins with bytes of an earlier push. */
  get isHolding(): boolean {
    return this.#missingBytes > 0;
  }

  push(bytes: Uint8Array): string {
    if (bytes.length === 0) return "";
    if (this.#missingBytes === 0 && bytes.length <= ASCII_TRIED_BYTES_MAX) {
      const ascii = asciiText(bytes);
      if (ascii !== null) return ascii;
    }
    this.#missingBytes = missingAfter(bytes, this.#missingBytes);
    return this.#decoder.decode(bytes, { stream: true });
  }

  /** The end: an incomplete sequence becomes one U+FFFD. */
  flush(): string {
    this.#missingBytes = 0;
    return this.#decoder.decode();
  }
}

/** Null when a byte is not ASCII. Most tokens are, and this is several times faster than a decoder. */
function asciiText(bytes: Uint8Array): string | null {
  let text = "";
  for (const byte of bytes) {
    if (byte >= 0x80) return null;
    text += String.fromCharCode(byte);
  }
  return text;
}

/** How many bytes the last character lacks, given how many the one before `bytes` lacked; never too few. */
function missingAfter(bytes: Uint8Array, missingBefore: number): number {
  for (let back = 1; back <= Math.min(UTF8_SEQUENCE_BYTES_MAX - 1, bytes.length); back++) {
    const byte = bytes[bytes.length - back] ?? 0;
    if (byte < 0x80) return 0;
    if (byte >= 0xc0) return Math.max(0, sequenceLength(byte) - back);
  }
  // Only continuation bytes: they continue what was held, or belong to nothing.
  return Math.max(0, missingBefore - bytes.length);
}

function sequenceLength(lead: number): number {
  if (lead >= 0xf0) return 4;
  return lead >= 0xe0 ? 3 : 2;
}

/** Text and bytes of single tokens, for logprobs and for vocabularies that are asked for the same tokens over and over. */
export function pieceText(bytes: Uint8Array): string {
  return asciiText(bytes) ?? new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}
