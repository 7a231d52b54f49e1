import fc from "fast-check";
import { expect, test } from "vitest";
import { WholeCharacters } from "./whole-characters.ts";

test("tokens come out in order, each with its text, and never in the middle of a character", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), fc.array(fc.integer({ min: 1, max: 5 })), (text, cuts) => {
      const bytes = new TextEncoder().encode(text);
      // Each token is a few bytes: characters are cut anywhere.
      const tokens: Uint8Array[] = [];
      for (let at = 0, cut = 0; at < bytes.length; cut++) {
        const length = cuts[cut % Math.max(1, cuts.length)] ?? 1;
        tokens.push(bytes.slice(at, at + length));
        at += length;
      }
      const characters = new WholeCharacters((tokenId) => tokens[tokenId] ?? new Uint8Array(0));
      let shown = "";
      const ids: number[] = [];
      for (const tokenId of tokens.keys()) {
        const step = characters.push([{ tokenId, logprob: null, top: [] }]);
        shown += step.text;
        ids.push(...step.tokens.map((token) => token.tokenId));
        const shownBytes = tokens.slice(0, ids.length).reduce((sum, token) => sum + token.length, 0);
        expect(new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.slice(0, shownBytes))).toBe(shown);
      }
      const last = characters.flush();
      expect(shown + last.text).toBe(text);
      expect([...ids, ...last.tokens.map((token) => token.tokenId)]).toEqual([...tokens.keys()]);
    }),
  );
});
