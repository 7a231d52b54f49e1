import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { modelId } from "../../domain/ids.ts";
import type { Tokenizer } from "../../ports/tokenizer.ts";
import { lastWordStart, TextTokens } from "./text-tokens.ts";

/**
 * A vocabulary of bytes that puts a space before every text that it is given, as those of the Llama 2 family do: id 0 to 255 is a byte, 256 a
 * control token, 257 a space before the beginning.
 */
const SPACED: Tokenizer = {
  modelId: modelId("bytes"),
  vocabSize: 258,
  bosToken: { tokenId: 256, text: "<s>" },
  eosToken: null,
  stopTokenIds: [],
  specialTexts: ["<s>"],
  piece: (tokenId) => (tokenId === 256 ? new Uint8Array(0) : Uint8Array.of(tokenId === 257 ? 32 : tokenId)),
  tokenize: ([part]) =>
    Promise.resolve(part?.special === true && part.text === "<s>" ? [256] : [257, ...Buffer.from(part?.text ?? "")]),
  close: () => Promise.resolve(),
};

const bytesOf = (tokenIds: readonly number[]) => Buffer.concat(tokenIds.map((tokenId) => SPACED.piece(tokenId)));

describe("text and tokens", () => {
  test("ids spell exactly what was given, also where a vocabulary adds a space of its own", async () => {
    const tokens = await TextTokens.of(SPACED);
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: "grapheme", minLength: 1 }), async (text) => {
        expect(bytesOf(await tokens.spell(text)).toString("utf8")).toBe(text);
      }),
    );
  });

  test("a stream in any pieces comes out whole", async () => {
    const tokens = await TextTokens.of(SPACED);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.string({ unit: "grapheme" })), async (pieces) => {
        const stream = tokens.stream();
        const ids: number[] = [];
        for (const piece of pieces) ids.push(...(await stream.push(piece)));
        ids.push(...(await stream.flush()));
        expect(bytesOf(ids).toString("utf8")).toBe(pieces.join(""));
      }),
    );
  });

  test("a prompt keeps its control tokens but the one that servers put first", async () => {
    const tokens = await TextTokens.of(SPACED);
    expect(tokens.textOf([256, 65, 256, 66])).toBe("A<s>B");
  });

  test("ids that end within a character cannot be told to a server of text", async () => {
    const tokens = await TextTokens.of(SPACED);
    expect(() => tokens.textOf([0xc3])).toThrow("no whole characters");
  });
});

test("a text is cut before its last word, with the space that belongs to it, and a word without an end at some length", () => {
  expect(lastWordStart("And God said")).toBe("And God".length);
  expect(lastWordStart("And")).toBe(0);
  expect(lastWordStart(" And")).toBe(0);
  expect(lastWordStart("a  b")).toBe(1);
  expect(lastWordStart("x".repeat(300))).toBe(256);
  expect(lastWordStart(`${"x".repeat(255)}😀yyyyyyy`)).toBe(255);
});
