import { describe, expect, test } from "vitest";
import { sequenceId } from "../../domain/chain.ts";
import { type ReceivedPiece, StateWatch } from "./state-watch.ts";

const WIDTH = 32;

function piece(sequence: number, scale: number, change: Partial<ReceivedPiece> = {}): ReceivedPiece {
  const positions = change.positions ?? 12;
  const numbers = Array.from({ length: positions * WIDTH }, (_, at) => scale * Math.sin(at * 1.7 + sequence));
  return {
    sequence: sequenceId(sequence.toString(16).padStart(16, "0")),
    start: 0,
    promptLength: 100,
    format: "f32",
    data: new Uint8Array(new Float32Array(numbers).buffer),
    width: WIDTH,
    positions,
    ...change,
  };
}

function used(): StateWatch {
  const watch = new StateWatch();
  for (let sequence = 1; sequence <= 6; sequence++) expect(watch.look(piece(sequence, sequence))).toBeNull();
  return watch;
}

describe("a watch over received states", () => {
  test("takes zeros for nobody's work, from the first piece on, and lets a single position be what it is", () => {
    const zeros = { data: new Uint8Array(12 * WIDTH * 4) };
    expect(new StateWatch().look(piece(1, 1, zeros))).toMatchObject({
      code: "states-impossible",
      kind: "stage-garbage",
    });
    const one = { positions: 1, data: new Uint8Array(WIDTH * 4) };
    expect(new StateWatch().look(piece(1, 1, one))).toBeNull();
  });

  test("takes pieces for nobody's work that are far larger or smaller than what other sequences had", () => {
    expect(used().look(piece(9, 1_000))).toMatchObject({ kind: "stage-garbage" });
    expect(used().look(piece(9, 1e-3))).toMatchObject({ kind: "stage-garbage" });
    expect(used().look(piece(9, 50))).toBeNull();
  });

  test("does not judge what it has nothing to compare with, what is short, what is no prompt, and what is no number", () => {
    expect(new StateWatch().look(piece(9, 1_000))).toBeNull();
    expect(used().look(piece(9, 1_000, { positions: 4 }))).toBeNull();
    expect(used().look(piece(9, 1_000, { start: 95 }))).toBeNull();
    expect(used().look(piece(9, Number.NaN))).toBeNull();
  });

  test("is not misled by one sequence that is odd in all its pieces", () => {
    const watch = new StateWatch();
    for (let start = 0; start < 84; start += 12) expect(watch.look(piece(1, 1_000, { start }))).toBeNull();
    expect(watch.look(piece(2, 1))).toBeNull();
  });

  test("keeps the fingerprints of the beginnings of prompts, and of the last sequences only", () => {
    const watch = used();
    const [first, later] = [piece(1, 1), piece(7, 1, { start: 12 })];
    watch.look(later);
    expect(watch.fingerprint(first.sequence)?.rms).toHaveLength(12);
    expect(watch.fingerprint(later.sequence)).toBeNull();
    for (let sequence = 100; sequence < 300; sequence++) watch.look(piece(sequence, 1));
    expect(watch.fingerprint(first.sequence)).toBeNull();
    expect(watch.fingerprint(piece(299, 1).sequence)).not.toBeNull();
  });
});
