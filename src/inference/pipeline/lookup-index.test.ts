import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { LookupIndex, MATCH_TOKENS_MAX, PLACES_MAX } from "./lookup-index.ts";

function indexOf(tokens: readonly number[]): LookupIndex {
  const index = new LookupIndex();
  for (const tokenId of tokens) index.append(tokenId);
  return index;
}

/** By comparing everything with everything. */
function longestRun(tokens: readonly number[]): { length: number; next: number } | null {
  let best: { length: number; next: number } | null = null;
  let looked = 0;
  for (let place = tokens.length - 2; place >= 1 && looked < PLACES_MAX; place--) {
    let length = 0;
    while (
      length < MATCH_TOKENS_MAX &&
      place - length >= 0 &&
      tokens[place - length] === tokens[tokens.length - 1 - length]
    )
      length++;
    if (length < 2) continue;
    looked++;
    if (best === null || length > best.length) best = { length, next: place + 1 };
  }
  return best;
}

describe("LookupIndex", () => {
  it("finds the longest earlier run of what the text ends with, and the latest of equally long ones", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 2 }), { maxLength: 80 }), (tokens) => {
        expect(indexOf(tokens).find()).toEqual(longestRun(tokens));
      }),
    );
  });

  it("continues what repeats, over the end of the text too", () => {
    const index = indexOf([9, 1, 2, 3, 1, 2, 3, 1, 2]);
    const match = index.find();
    expect(match).toEqual({ length: 5, next: 6 });
    expect(match === null ? [] : index.draft(match, 7)).toEqual([3, 1, 2, 3, 1, 2, 3]);
  });

  it("drafts exactly what an earlier occurrence was followed by", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 300 }), { minLength: 12, maxLength: 60 }),
        fc.integer({ min: 2, max: 6 }),
        (text, shown) => {
          const index = indexOf([...text, 999, ...text.slice(0, shown)]);
          const match = index.find();
          expect(match).not.toBeNull();
          if (match === null) return;
          const followed = [...text, 999, ...text.slice(0, shown)].slice(match.next, match.next + 3);
          expect(index.draft(match, 3).slice(0, followed.length)).toEqual(followed);
        },
      ),
    );
  });

  it("finds nothing in a text without repetition, nor in one of a single token", () => {
    expect(indexOf([]).find()).toBeNull();
    expect(indexOf([4]).find()).toBeNull();
    expect(indexOf([1, 2, 3, 4, 5, 6]).find()).toBeNull();
  });
});
