import fc from "fast-check";
import { expect, test } from "vitest";
import { progressText } from "./model-progress.ts";

const HALF = { doneBytes: 1_073_741_824, totalBytes: 2_147_483_648, bytesPerSecond: 380_000 };

test("a bar, the amounts, the rate and the time left fit a terminal of 80 columns", () => {
  expect(progressText("fetching tiny.gguf", HALF, 80)).toMatchInlineSnapshot(
    `"fetching tiny.gguf 50 % [#####.....] 1.0 GiB of 2.0 GiB, 371 KiB/s, 47 min left"`,
  );
});

test("of a long name the bar goes first and then the name's middle, never the rate and the time", () => {
  expect(progressText("fetching Llama-3.2-1B-Q4.gguf", HALF, 80)).toMatchInlineSnapshot(
    `"fetching Llama-3.2-1B-Q4.gguf 50 % 1.0 GiB of 2.0 GiB, 371 KiB/s, 47 min left"`,
  );
  expect(
    progressText("fetching Qwen2.5-Coder-32B-Instruct-Q4_K_M-00001-of-00003.gguf", HALF, 80),
  ).toMatchInlineSnapshot(`"fetching Qwen2.…1-of-00003.gguf 50 % 1.0 GiB of 2.0 GiB, 371 KiB/s, 47 min left"`);
});

test("no text is wider than the terminal, whatever comes", () => {
  const bytes = fc.integer({ min: 1, max: 2 ** 50 });
  fc.assert(
    fc.property(
      fc.string({ maxLength: 200 }),
      bytes,
      bytes,
      fc.integer({ min: 80, max: 200 }),
      (what, done, more, columns) => {
        const text = progressText(
          what,
          { doneBytes: done, totalBytes: done + more, bytesPerSecond: 1 + (done % 1e9) },
          columns,
        );
        expect(text.length).toBeLessThan(columns);
      },
    ),
  );
});
