/** What one stage of a chain could do to the others. Scripted stages in virtual time. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { encodeStageFrame } from "../src/wire/stage-frame-codec.ts";
import { openStageLab, type StageLab, underway } from "./support/stage-lab.ts";
import type { StageNode } from "./support/stage-nodes.ts";

let lab: StageLab;
beforeEach(() => {
  lab = openStageLab();
});
afterEach(() => lab.chain.stop());

function members(): readonly [StageNode, StageNode, StageNode] {
  const [head, middle, tail] = lab.chain.members;
  if (head === undefined || middle === undefined || tail === undefined) throw new Error("three stages");
  return [head, middle, tail];
}

describe("a stage of a chain", () => {
  test("cannot push out the greeting of another that waits for its epoch", async () => {
    await underway(lab, 5);
    const nodes = members();
    const [head, middle, tail] = nodes;
    const told = (node: StageNode) => node.set(lab.chain.message(node, nodes, 2));
    told(head);
    await lab.pass(100);
    const greeting = middle.came("hello", 2).at(-1);
    if (greeting === undefined) throw new Error("nobody greeted");
    for (let channel = 0; channel < 200; channel++) {
      await tail.network.open(middle.keyHex)?.send(encodeStageFrame({ ...greeting, channel, chainEpoch: 99 }));
    }
    await lab.pass(100);
    told(middle);
    told(tail);
    await lab.pass(1_000);
    expect(nodes.map(({ isLinked }) => isLinked)).toEqual([true, true, true]);
  });
});
