import { describe, expect, test } from "vitest";
import { nodeId } from "../../domain/ids.ts";
import { BLAME_WINDOW_MS, ChainBlame } from "./chain-blame.ts";

const named = (one: number) => nodeId(`node_${String(one).padStart(32, "0")}`);
const ANN = named(1);
const BEN = named(2);
const CLEO = named(3);
const DAN = named(4);

describe("blame between neighbours", () => {
  test("one word is enough to avoid the accused, for a while that doubles", () => {
    const blame = new ChainBlame();
    expect(blame.judge({ reporter: ANN, accused: BEN, atMs: 0, isGone: false })).toBe("accused");
    expect([blame.isAvoided(BEN, 1_999), blame.isAvoided(BEN, 2_000)]).toEqual([true, false]);
    expect(blame.judge({ reporter: ANN, accused: BEN, atMs: 10_000, isGone: false })).toBe("accused");
    expect([blame.isAvoided(BEN, 13_999), blame.isAvoided(BEN, 14_000)]).toEqual([true, false]);
  });

  test("who accuses a second node that nobody else accuses is at fault itself", () => {
    const blame = new ChainBlame();
    blame.judge({ reporter: ANN, accused: BEN, atMs: 0, isGone: false });
    expect(blame.judge({ reporter: ANN, accused: CLEO, atMs: 1_000, isGone: false })).toBe("reporter");
    expect([blame.isAvoided(ANN, 1_500), blame.isAvoided(CLEO, 1_500)]).toEqual([true, false]);
  });

  test("whom two accuse is at fault, whatever else they said", () => {
    const blame = new ChainBlame();
    blame.judge({ reporter: ANN, accused: BEN, atMs: 0, isGone: false });
    blame.judge({ reporter: DAN, accused: CLEO, atMs: 0, isGone: false });
    expect(blame.judge({ reporter: ANN, accused: CLEO, atMs: 1_000, isGone: false })).toBe("accused");
  });

  test("a word that another one seconded does not count against who said it", () => {
    const blame = new ChainBlame();
    blame.judge({ reporter: ANN, accused: BEN, atMs: 0, isGone: false });
    blame.second({ reporter: DAN, accused: BEN, atMs: 1 });
    expect(blame.judge({ reporter: ANN, accused: CLEO, atMs: 1_000, isGone: false })).toBe("accused");
  });

  test("words that turned out true, or are old, count against nobody", () => {
    const blame = new ChainBlame();
    blame.judge({ reporter: ANN, accused: BEN, atMs: 0, isGone: false });
    blame.confirm(BEN);
    expect(blame.judge({ reporter: ANN, accused: CLEO, atMs: 1, isGone: false })).toBe("accused");
    const later = 2 + BLAME_WINDOW_MS;
    expect(blame.judge({ reporter: ANN, accused: DAN, atMs: later, isGone: false })).toBe("accused");
    expect(blame.judge({ reporter: ANN, accused: BEN, atMs: later, isGone: true })).toBe("accused");
  });

  test("an avoided node is barred for two seconds, doubted then, much when it happens again and again", () => {
    const blame = new ChainBlame();
    blame.avoid(BEN, 0);
    blame.avoid(BEN, 10);
    expect([blame.standing(BEN, 2_009), blame.standing(BEN, 2_010), blame.standing(BEN, 4_010)]).toEqual([
      "barred",
      1,
      "trusted",
    ]);
    blame.avoid(BEN, 20);
    blame.avoid(BEN, 30);
    expect(blame.standing(BEN, 3_000)).toBe(2);
    // The coordinator itself does not hear it: a machine's trouble.
    blame.confirm(BEN);
    expect(blame.standing(BEN, 3_000)).toBe(1);
    blame.avoidFor(CLEO, { nowMs: 0, forMs: BLAME_WINDOW_MS });
    blame.confirm(CLEO);
    expect(blame.standing(CLEO, BLAME_WINDOW_MS - 1)).toBe("barred");
  });

  test("a stage that says that its engine was lost is avoided the second time, one that gave what is wrong at once", () => {
    const blame = new ChainBlame();
    blame.accusesItself(ANN, { nowMs: 0, isEngineLost: true });
    expect(blame.standing(ANN, 1)).toBe("trusted");
    blame.accusesItself(ANN, { nowMs: 10, isEngineLost: true });
    expect(blame.standing(ANN, 11)).toBe("barred");
    blame.accusesItself(BEN, { nowMs: 0, isEngineLost: false });
    expect(blame.standing(BEN, 1)).toBe("barred");
  });
});
