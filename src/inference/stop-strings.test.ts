import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { StopMatcher } from "./stop-strings.ts";

const bytesOf = (text: string): Uint8Array => Uint8Array.from(text, (character) => character.charCodeAt(0));
const textOf = (bytes: Uint8Array): string => String.fromCharCode(...bytes);

/** What a client is shown when the text comes in these pieces. */
function shown(stops: readonly string[], pieces: readonly string[]): { text: string; matched: number | null } {
  const matcher = new StopMatcher(stops.map(bytesOf));
  let text = "";
  for (const piece of pieces) {
    const step = matcher.push(bytesOf(piece));
    text += textOf(step.released);
    if (step.matched !== null) return { text, matched: step.matched };
  }
  return { text: text + textOf(matcher.flush()), matched: null };
}

/** The first end of any stop string in the whole text; the longest that ends there. */
function expected(stops: readonly string[], text: string): { text: string; matched: string | null } {
  for (let end = 1; end <= text.length; end++) {
    const ending = stops.filter((stop) => text.slice(0, end).endsWith(stop));
    const longest = ending.sort((a, b) => b.length - a.length)[0];
    if (longest !== undefined) return { text: text.slice(0, end - longest.length), matched: longest };
  }
  return { text, matched: null };
}

describe("stop strings", () => {
  const letter = fc.constantFrom("a", "b", "c");
  const word = (least: number, most: number) =>
    fc.array(letter, { minLength: least, maxLength: most }).map((l) => l.join(""));

  test("cut the text where the first one ends, however the text is split", () => {
    const stops = fc.array(word(1, 5), { maxLength: 4 });
    const pieces = fc.array(word(0, 6), { maxLength: 12 });
    fc.assert(
      fc.property(stops, pieces, (stopStrings, texts) => {
        const want = expected(stopStrings, texts.join(""));
        const found = shown(stopStrings, texts);
        expect(found.text).toBe(want.text);
        expect(found.matched === null ? null : stopStrings[found.matched]).toBe(want.matched);
      }),
      { numRuns: 500 },
    );
  });

  test("never show a byte that a later match would take back", () => {
    const matcher = new StopMatcher([bytesOf("END")]);
    expect(textOf(matcher.push(bytesOf("the E")).released)).toBe("the ");
    expect(textOf(matcher.push(bytesOf("N")).released)).toBe("");
    expect(textOf(matcher.push(bytesOf("EN")).released)).toBe("EN");
    expect(matcher.push(bytesOf("D!")).matched).toBe(0);
  });

  test("hold back no more than a beginning of theirs, and give it up at the end", () => {
    const matcher = new StopMatcher([bytesOf("</s>")]);
    expect(textOf(matcher.push(bytesOf("a < b </")).released)).toBe("a < b ");
    expect(textOf(matcher.flush())).toBe("</");
  });
});
