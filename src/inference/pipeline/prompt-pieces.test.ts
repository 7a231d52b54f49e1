import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FRAME_BYTES_MAX, nextPiece, pieceBounds } from "./prompt-pieces.ts";

const bounds = fc.record({
  positionsMax: fc.integer({ min: 3, max: 40 }),
  singlesMax: fc.integer({ min: 1, max: 9 }),
});

describe("nextPiece", () => {
  it("covers every position once, prompts in pieces of two at least and generated tokens singly", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 120 }),
        fc.integer({ min: 0, max: 60 }),
        fc.nat(119),
        bounds,
        (promptLength, generated, held, limit) => {
          const length = promptLength + generated;
          let from = Math.min(held, length - 1);
          while (from < length) {
            const piece = nextPiece({ from, promptLength, length }, limit);
            expect(piece.start === from || piece.start === from - 1).toBe(true);
            if (piece.how === "together") {
              expect(piece.count >= 2 || length === 1 || promptLength === 1).toBe(true);
              expect(piece.start + piece.count).toBeLessThanOrEqual(promptLength);
              expect(piece.count).toBeLessThanOrEqual(limit.positionsMax);
            } else {
              expect(piece.start).toBe(from);
              expect(from).toBeGreaterThanOrEqual(promptLength);
              expect(piece.count).toBeLessThanOrEqual(limit.singlesMax);
            }
            expect(piece.start + piece.count).toBeGreaterThan(from);
            from = piece.start + piece.count;
          }
          expect(from).toBe(length);
        },
      ),
    );
  });

  it("takes the position before along when a prompt's last one is alone", () => {
    const limit = { positionsMax: 8, singlesMax: 4 };
    expect(nextPiece({ from: 9, promptLength: 10, length: 10 }, limit)).toEqual({
      start: 8,
      count: 2,
      how: "together",
    });
    expect(nextPiece({ from: 0, promptLength: 1, length: 1 }, limit)).toEqual({ start: 0, count: 1, how: "together" });
    expect(nextPiece({ from: 0, promptLength: 9, length: 9 }, limit)).toEqual({ start: 0, count: 7, how: "together" });
  });
});

describe("pieceBounds", () => {
  it("keeps a piece's hidden states within a frame, whatever the model and its speed", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 16_384 }),
        fc.constantFrom(2, 4),
        fc.integer({ min: 2, max: 32 }),
        fc.integer({ min: 1, max: 131_072 }),
        fc.option(fc.double({ min: 0, max: 500, noNaN: true })),
        fc.option(fc.double({ min: 0, max: 5_000, noNaN: true })),
        fc.integer({ min: 0, max: 64 }),
        (embeddingLength, bytesPerElement, stages, promptLength, promptMsPerPosition, singleMs, replays) => {
          const made = pieceBounds({
            embeddingLength,
            bytesPerElement,
            stages,
            promptLength,
            promptMsPerPosition,
            singleMs,
            replays,
          });
          for (const positions of [made.positionsMax, made.singlesMax])
            expect(positions * embeddingLength * bytesPerElement).toBeLessThanOrEqual(FRAME_BYTES_MAX);
          expect(made.positionsMax).toBeGreaterThanOrEqual(3);
          expect(made.singlesMax).toBeGreaterThanOrEqual(1);
        },
      ),
    );
  });

  it("cuts a prompt into more pieces the longer the chain is, and smaller ones the slower it is", () => {
    const chain = { embeddingLength: 256, bytesPerElement: 2, promptLength: 1_800, singleMs: 1, replays: 0 };
    const quick = { ...chain, promptMsPerPosition: 0.01 };
    expect(pieceBounds({ ...quick, stages: 2 }).positionsMax).toBe(300);
    expect(pieceBounds({ ...quick, stages: 5 }).positionsMax).toBe(120);
    expect(pieceBounds({ ...chain, stages: 2, promptMsPerPosition: 0.25 }).positionsMax).toBe(100);
  });
});
