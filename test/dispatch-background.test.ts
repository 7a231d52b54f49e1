/** Background work beside others, with the real dispatcher and agents in virtual time. */
import { expect, test } from "vitest";
import { type Asked, DispatchGrid, endings, type GridAgent } from "./support/dispatch-grid.ts";

async function gridOf(count: number, holdsBack: boolean): Promise<{ grid: DispatchGrid; agents: GridAgent[] }> {
  const grid = new DispatchGrid({ warmReplicas: count });
  await grid.start();
  const agents: GridAgent[] = [];
  for (let at = 0; at < count; at++) agents.push(await grid.addAgent({ holdsBack }));
  await grid.run(3_000);
  return { grid, agents };
}

const line = (grid: DispatchGrid, choice: number, tokensMax = 200): Asked =>
  grid.ask({ choice, tokensMax, terms: { tier: "flex", isBackground: true } });
const endingsOf = (asked: Asked) => endings(asked.generation.attempts());

test("where the engine holds it back it stays, gets nothing while others run, and goes on where it was", async () => {
  const { grid } = await gridOf(1, true);
  const lines = [0, 1, 2].map((at) => line(grid, at));
  await grid.until(() => lines.every((one) => one.tokenIds().length >= 5), "five tokens each");
  const other = grid.ask({ choice: 9, tokensMax: 60 });
  await grid.untilTokens(other, 1);
  const before = lines.map((one) => one.tokenIds().length);
  await grid.untilTokens(other, 60);
  expect(lines.map((one) => one.tokenIds().length)).toEqual(before);
  await grid.until(() => lines.every((one) => one.outcome() !== null), "all lines");
  for (const one of lines) {
    expect(endingsOf(one)).toEqual(["finished"]);
    expect(one.tokenIds()).toEqual(grid.undisturbed(one.request));
  }
  expect(grid.dispatcher.stats()).toMatchObject({ preempted: 0, moved: 0, failed: 0, breaches: 0 });
});

test("where the engine runs all alike it leaves as soon as anybody begins, and comes back after", async () => {
  const { grid } = await gridOf(1, false);
  const lines = [0, 1].map((at) => line(grid, at));
  await grid.until(() => lines.every((one) => one.tokenIds().length >= 5), "five tokens each");
  const other = grid.ask({ choice: 9, tokensMax: 60 });
  await grid.untilTokens(other, 1);
  expect(lines.map(endingsOf)).toEqual([["moved"], ["moved"]]);
  expect(lines.map((one) => one.generation.attempts()[0]?.detail)).toContain("left the node to others");
  await grid.until(() => lines.every((one) => one.outcome() !== null), "all lines");
  for (const one of lines) expect(one.tokenIds()).toEqual(grid.undisturbed(one.request));
  expect(grid.dispatcher.stats()).toMatchObject({ moved: 0, failed: 0 });
});

test("held back for long it goes on elsewhere with the same text, and the node is blamed for nothing", async () => {
  const { grid, agents } = await gridOf(2, true);
  const lines = Array.from({ length: 12 }, (_, at) => line(grid, at, 300));
  await grid.until(() => lines.every((one) => one.tokenIds().length >= 5), "five tokens each");
  const [held] = lines;
  expect(held).toBeDefined();
  if (held === undefined) return;
  const first = grid.serving(held, agents);
  const others: Asked[] = [];
  // As much as it takes until something lies on the line's node, and as long that the line leaves.
  for (let at = 0; !others.some((one) => one.servedBy().includes(first.nodeId)); at++) {
    const other = grid.ask({ choice: 100 + at, tokensMax: 800 });
    others.push(other);
    await grid.untilTokens(other, 1);
  }
  await grid.until(() => lines.every((one) => one.outcome() !== null), "all lines");
  for (const one of lines) expect(one.tokenIds()).toEqual(grid.undisturbed(one.request));
  const left = lines.filter((one) => endingsOf(one).includes("moved"));
  expect(left.length).toBeGreaterThan(0);
  for (const one of left) expect(one.generation.attempts()[0]?.detail).toContain("held back");
  expect(grid.dispatcher.stats()).toMatchObject({ moved: 0, failed: 0, breaches: 0 });
});
