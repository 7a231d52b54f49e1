/** Finds the end of a JSON value in a text that arrives in pieces, without parsing it. */
export class JsonScanner {
  #depth = 0;
  #isInString = false;
  #isEscaped = false;
  #hasBegun = false;

  /** `depth`: how many brackets around the text are already open; the value then ends with the last of them. */
  constructor(depth = 0) {
    this.#depth = depth;
    this.#hasBegun = depth > 0;
  }

  /** Where the value ends in this piece (just behind its last character), or null when it goes on. */
  push(text: string): number | null {
    for (let at = 0; at < text.length; at++) {
      const unit = text[at] ?? "";
      if (this.#isInString) {
        if (this.#stringEnds(unit)) return at + 1;
        continue;
      }
      if (unit === '"') {
        this.#isInString = true;
        this.#hasBegun = true;
      } else if (unit === "{" || unit === "[") {
        this.#depth++;
        this.#hasBegun = true;
      } else if (unit === "}" || unit === "]") {
        // A bracket that closes what is around a bare number or word ends it without being part of it.
        if (this.#depth === 0) return at;
        this.#depth--;
        if (this.#depth === 0) return at + 1;
      } else if (this.#depth === 0) {
        if (this.#hasBegun && /[\s,]/.test(unit)) return at;
        if (!/\s/.test(unit)) this.#hasBegun = true;
      }
    }
    return null;
  }

  #stringEnds(unit: string): boolean {
    if (this.#isEscaped) {
      this.#isEscaped = false;
    } else if (unit === "\\") {
      this.#isEscaped = true;
    } else if (unit === '"') {
      this.#isInString = false;
      return this.#depth === 0;
    }
    return false;
  }
}

/** The longest end of `text` that begins one of the markers without holding all of it: what has to wait for more. */
export function partialMarkerChars(text: string, markers: readonly string[]): number {
  let most = 0;
  for (const marker of markers) {
    for (let size = Math.min(marker.length - 1, text.length); size > most; size--) {
      if (text.endsWith(marker.slice(0, size))) {
        most = size;
        break;
      }
    }
  }
  return most;
}
