import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isBlank, LineSplitter, type SplitLine } from "./line-splitter.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (line: SplitLine) => new TextDecoder().decode(line.bytes);

function split(file: Uint8Array, cuts: readonly number[], lineBytesMax = 1_000): readonly SplitLine[] {
  const splitter = new LineSplitter({ lineBytesMax });
  const lines: SplitLine[] = [];
  const ends = [...cuts.map((cut) => Math.min(cut, file.length)), file.length].sort((a, b) => a - b);
  let from = 0;
  for (const end of ends) {
    const piece = file.slice(from, end);
    // A line may lie in its piece: it is good until the next one.
    lines.push(...splitter.push(piece).map((line) => ({ ...line, bytes: line.bytes.slice() })));
    // The piece's memory is used again, as a reader's buffer is.
    piece.fill(0x78);
    from = end;
  }
  const last = splitter.end();
  return last === null ? lines : [...lines, last];
}

describe("lines of a file that comes in pieces", () => {
  test("are those of the file, wherever the pieces are cut", () => {
    const drawn = fc.array(fc.constantFrom("a", "bc", "", "{}", "ü"), { maxLength: 20 });
    fc.assert(
      fc.property(
        drawn,
        fc.array(fc.nat(60)),
        fc.constantFrom("\n", "\r\n"),
        fc.boolean(),
        (words, cuts, end, isEnded) => {
          const file = bytes(words.join(end) + (isEnded && words.length > 0 ? end : ""));
          const lines = split(file, cuts);
          const expected = new TextDecoder().decode(file).split("\n");
          if (expected.at(-1) === "") expected.pop();
          expect(lines.map(text)).toEqual(expected.map((line) => line.replace(/\r$/, "")));
          expect(lines.map(({ number }) => number)).toEqual(expected.map((_, at) => at + 1));
          for (const line of lines) {
            const again = file.subarray(line.offsetBytes, line.offsetBytes + line.lengthBytes);
            expect(new TextDecoder().decode(again).replace(/\r?\n$/, "")).toBe(text(line));
          }
        },
      ),
    );
  });

  test("are given up at the first one that is too long, which is named", () => {
    const splitter = new LineSplitter({ lineBytesMax: 4 });
    expect(splitter.push(bytes("abcd\nef")).map(text)).toEqual(["abcd"]);
    expect(splitter.tooLong).toBeNull();
    expect(splitter.push(bytes("ghi\nj\n"))).toEqual([]);
    expect(splitter.tooLong).toBe(2);
  });

  test("are blank when nothing but spaces is in them", () => {
    expect([" \t", "", " x"].map((line) => isBlank(bytes(line)))).toEqual([true, true, false]);
  });
});
