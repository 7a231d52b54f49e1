/**
 * Stop strings over a stream of bytes. A text may be shown only as far as no stop string can begin in it: the longest end
 * of the stream that begins a stop string is held back until the next bytes decide. Each string runs its own
 * Knuth-Morris-Pratt automaton, so that a byte costs a step per string and nothing is scanned twice.
 *
 * The match that counts is the one that ends first; of those that end together, the longest. Text from its first byte on
 * is dropped.
 */
import { assert } from "../domain/assert.ts";

export const STOP_STRINGS_MAX = 16;

export interface StopStep {
  /** Bytes that may be shown. */
  readonly released: Uint8Array;
  /** The index of the stop string that was met, or null. Nothing may be pushed after a match. */
  readonly matched: number | null;
}

interface Automaton {
  readonly pattern: Uint8Array;
  /** For each length of a matched prefix: the longest shorter prefix that is also its end. */
  readonly fallback: Int32Array;
  matched: number;
}

export class StopMatcher {
  readonly #automata: readonly Automaton[];
  #held: Uint8Array = new Uint8Array(0);
  #isOver = false;

  /** Stop strings as UTF-8, at most 16, none of them empty. */
  constructor(stops: readonly Uint8Array[]) {
    assert(stops.length <= STOP_STRINGS_MAX, `${stops.length} stop strings are at most ${STOP_STRINGS_MAX}`);
    this.#automata = stops.map((pattern) => {
      assert(pattern.length > 0, "a stop string has at least one byte");
      return { pattern: pattern.slice(), fallback: fallbackTable(pattern), matched: 0 };
    });
  }

  push(bytes: Uint8Array): StopStep {
    assert(!this.#isOver, "nothing follows a matched stop string");
    if (this.#automata.length === 0) return { released: bytes, matched: null };
    const text = joined(this.#held, bytes);
    for (let at = this.#held.length; at < text.length; at++) {
      const matched = this.#advance(text[at] ?? 0);
      if (matched === null) continue;
      this.#isOver = true;
      const length = this.#automata[matched]?.pattern.length ?? 0;
      this.#held = new Uint8Array(0);
      return { released: text.slice(0, at + 1 - length), matched };
    }
    const holdBytes = this.#automata.reduce((most, automaton) => Math.max(most, automaton.matched), 0);
    this.#held = text.slice(text.length - holdBytes);
    return { released: text.slice(0, text.length - holdBytes), matched: null };
  }

  /** The end of the stream: what was held back, which no stop string will claim any more. */
  flush(): Uint8Array {
    const rest = this.#held;
    this.#held = new Uint8Array(0);
    this.#isOver = true;
    return rest;
  }

  /** The longest stop string that ends with this byte, or null. */
  #advance(byte: number): number | null {
    let found: number | null = null;
    let foundBytes = 0;
    for (const [index, automaton] of this.#automata.entries()) {
      const { pattern, fallback } = automaton;
      let matched = automaton.matched;
      while (matched > 0 && pattern[matched] !== byte) matched = fallback[matched - 1] ?? 0;
      if (pattern[matched] === byte) matched++;
      automaton.matched = matched;
      if (matched === pattern.length && matched > foundBytes) {
        found = index;
        foundBytes = matched;
      }
    }
    return found;
  }
}

function fallbackTable(pattern: Uint8Array): Int32Array {
  const table = new Int32Array(pattern.length);
  let matched = 0;
  for (let at = 1; at < pattern.length; at++) {
    while (matched > 0 && pattern[matched] !== pattern[at]) matched = table[matched - 1] ?? 0;
    if (pattern[matched] === pattern[at]) matched++;
    table[at] = matched;
  }
  return table;
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  if (first.length === 0) return second;
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}
