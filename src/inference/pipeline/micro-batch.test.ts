import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type FeedingWork, feedsBefore, nextKind, type ReadyWork } from "./micro-batch.ts";

const idle: ReadyWork = {
  generating: 0,
  stages: 3,
  singlesOut: 0,
  piecePositionsOut: 0,
  room: 8,
  singlesReady: 0,
  hasPiece: false,
  piecePositionsMax: 64,
};

/** What goes until nothing does, with nothing coming back. */
function drain(start: ReadyWork): { singles: number; pieces: number; order: string[] } {
  let work = start;
  const order: string[] = [];
  for (;;) {
    const kind = nextKind(work);
    if (kind === "nothing") break;
    order.push(kind);
    work =
      kind === "single"
        ? { ...work, singlesReady: work.singlesReady - 1, singlesOut: work.singlesOut + 1, room: work.room - 1 }
        : { ...work, piecePositionsOut: work.piecePositionsOut + work.piecePositionsMax, room: work.room - 1 };
  }
  return {
    singles: order.filter((kind) => kind === "single").length,
    pieces: order.filter((kind) => kind === "piece").length,
    order,
  };
}

describe("nextKind", () => {
  it("lets a group of ceil(active / stages) go, so that every stage has one", () => {
    for (const [generating, stages, group] of [
      [16, 3, 6],
      [1, 5, 1],
      [2, 3, 1],
      [4, 2, 2],
    ] as const)
      expect(drain({ ...idle, generating, stages, singlesReady: generating, room: 99 }).singles).toBe(group);
  });

  it("lets what is ready go at once, without waiting for a full group", () => {
    expect(drain({ ...idle, generating: 16, singlesReady: 1 }).singles).toBe(1);
  });

  it("lets a single token go before any piece, and at most two pieces ahead of the engine", () => {
    const sent = drain({ ...idle, generating: 3, singlesReady: 1, hasPiece: true });
    expect(sent.order).toEqual(["single", "piece", "piece"]);
  });

  it("leaves the last place of the link to those who generate", () => {
    expect(drain({ ...idle, generating: 2, hasPiece: true, room: 2 }).pieces).toBe(1);
    expect(drain({ ...idle, generating: 2, hasPiece: true, room: 1 }).pieces).toBe(1);
    expect(drain({ ...idle, hasPiece: true, room: 1 }).pieces).toBe(1);
  });

  it("sends no more than there is room for, and always something when the engine is empty and there is room", () => {
    const works = fc.record({
      generating: fc.integer({ min: 0, max: 64 }),
      stages: fc.integer({ min: 2, max: 32 }),
      singlesOut: fc.constant(0),
      piecePositionsOut: fc.constant(0),
      room: fc.integer({ min: 0, max: 20 }),
      singlesReady: fc.nat(64),
      hasPiece: fc.boolean(),
      piecePositionsMax: fc.integer({ min: 2, max: 512 }),
    });
    fc.assert(
      fc.property(works, (drawn) => {
        const work = { ...drawn, singlesReady: Math.min(drawn.singlesReady, drawn.generating) };
        const { singles, pieces } = drain(work);
        expect(singles + pieces).toBeLessThanOrEqual(work.room);
        if (work.room >= 1 && (work.singlesReady > 0 || work.hasPiece)) expect(singles + pieces).toBeGreaterThan(0);
      }),
    );
  });
});

describe("feedsBefore", () => {
  const prompt = { isMoved: true, isReplay: false, positionsOut: 0, order: 0 };

  it("takes what ran before, prompts first and by age, and generated tokens side by side", () => {
    const replay = { ...prompt, isReplay: true };
    const sequences: readonly (FeedingWork & { readonly name: string })[] = [
      { ...prompt, name: "new", isMoved: false, order: 1 },
      { ...replay, name: "ahead", positionsOut: 4, order: 2 },
      { ...replay, name: "behind", positionsOut: 1, order: 3 },
      { ...prompt, name: "younger", order: 5 },
      { ...prompt, name: "older", positionsOut: 32, order: 4 },
    ];
    const names = [...sequences].sort(feedsBefore).map(({ name }) => name);
    expect(names).toEqual(["older", "younger", "behind", "ahead", "new"]);
  });
});
