/** Stages of a scripted model over peer links in virtual time: the text of the unsplit model, whatever happens to a stage. */
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { DiskSpill } from "../src/adapters/stage-files-disk/disk-spill.ts";
import { WINDOW_FRAMES } from "../src/agent/stages/stage-bounds.ts";
import { ASK, expected, LAYERS, openStageLab, PROMPT, type StageLab, THIRDS, underway } from "./support/stage-lab.ts";
import { type Answer, CHAIN_ID } from "./support/stage-nodes.ts";

let lab: StageLab;
beforeEach(() => {
  lab = openStageLab();
});
afterEach(() => lab.chain.stop());

describe("a chain of stages", () => {
  test.each([2, 3, 6])("of %i gives the text of the unsplit model", async (count) => {
    const nodes = [];
    const each = LAYERS / count;
    for (let at = 0; at < count; at++) nodes.push(await lab.chain.add({ first: at * each, count: each }));
    await lab.chain.link(nodes);
    const answer = lab.chain.start(ASK);
    await lab.chain.until(() => answer.end !== null);
    expect(answer.tokenIds).toEqual(expected(ASK));
    expect(nodes.flatMap(({ troubles }) => troubles)).toEqual([]);
  });

  test("finds what an attempt sent before its order came", async () => {
    const nodes = [];
    for (const layers of THIRDS) nodes.push(await lab.chain.add(layers));
    await lab.chain.link(nodes);
    const answer = lab.chain.start(ASK, { tailDelay: () => lab.pass(500) });
    await lab.chain.until(() => answer.end !== null);
    expect(answer.tokenIds).toEqual(expected(ASK));
  });

  test("runs many sequences at once, each with its own text", async () => {
    const nodes = [];
    for (const layers of THIRDS) nodes.push(await lab.chain.add(layers));
    await lab.chain.link(nodes);
    const asks = [1, 2, 3, 4].map((request) => ({ ...ASK, request, prompt: PROMPT.slice(request) }));
    const answers = asks.map((ask) => lab.chain.start(ask));
    await lab.chain.until(() => answers.every(({ end }) => end !== null));
    expect(answers.map(({ tokenIds }) => tokenIds)).toEqual(asks.map(expected));
  });
});

test("prompts of more pieces than the window has frames go through, also where nothing is drawn after them", async () => {
  await lab.chain.stop();
  lab = openStageLab({ contextTokens: 4_096 });
  const nodes = [];
  for (const layers of THIRDS) nodes.push(await lab.chain.add(layers));
  await lab.chain.link(nodes);
  const long = Array.from({ length: 4_000 }, (_, at) => PROMPT[at % PROMPT.length] ?? 1);
  const asks = [1, 2, 3, 4].map((request) => ({ ...ASK, request, prompt: long.slice(request) }));
  const answers = asks.map((ask) => lab.chain.start(ask));
  await lab.chain.until(() => answers.every(({ end, failed }) => end !== null || failed !== null));
  expect(answers.map(({ tokenIds }) => tokenIds)).toEqual(asks.map(expected));
  const pieces =
    nodes[2]?.came("activations").flatMap(({ entries }) => entries.filter(({ draw }) => draw === null)) ?? [];
  expect(pieces.length).toBeGreaterThan(WINDOW_FRAMES);
});

describe("a chain whose stages change", () => {
  /** The chain with others in some places, and the rest of the answer. */
  async function replace(places: readonly number[], answer: Answer): Promise<void> {
    const members = [...lab.chain.members];
    for (const place of places) {
      const lost = members[place];
      const layers = THIRDS[place];
      if (lost === undefined || layers === undefined) throw new Error(`no stage ${place}`);
      await lost.stop();
      members[place] = await lab.chain.add(layers);
    }
    await lab.chain.link(members);
    lab.chain.start(ASK);
    await lab.chain.until(() => answer.end !== null || answer.failed !== null);
  }

  test.each([
    ["first", [0]],
    ["middle", [1]],
    ["last", [2]],
    ["first and last", [0, 2]],
    ["first two", [0, 1]],
    ["last two", [1, 2]],
    ["all", [0, 1, 2]],
  ])("goes on with the same text when the %s are replaced", async (_, places) => {
    const answer = await underway(lab, 15);
    const before = answer.tokenIds.length;
    await replace(places, answer);
    expect(before).toBeLessThan(40);
    expect(answer.tokenIds).toEqual(expected(ASK));
  });

  test("sends a new middle stage what it lacks from the log, and the stage behind it nothing that it holds", async () => {
    const answer = await underway(lab, 15);
    const [head, , tail] = lab.chain.members;
    const known = PROMPT.length + answer.tokenIds.length;
    await replace([1], answer);
    expect(answer.tokenIds).toEqual(expected(ASK));
    const middle = lab.chain.members[1];
    const rebuilt =
      middle?.came("activations").flatMap(({ entries }) => entries.filter(({ isRebuild }) => isRebuild)) ?? [];
    expect(Math.min(...rebuilt.map(({ start }) => start))).toBe(0);
    // The tail holds all but the last positions, and is sent no more than those.
    const first = tail?.came("activations", lab.chain.epoch)[0]?.entries[0];
    expect(first?.start).toBeGreaterThanOrEqual(known - 2);
    expect(head?.came("gap", lab.chain.epoch)).toHaveLength(1);
  });

  test("computes its layers again in a new first stage, and none of the others", async () => {
    const answer = await underway(lab, 15);
    const [, middle] = lab.chain.members;
    const known = PROMPT.length + answer.tokenIds.length;
    await replace([0], answer);
    expect(answer.tokenIds).toEqual(expected(ASK));
    const first = middle?.came("activations", lab.chain.epoch)[0]?.entries[0];
    expect(first?.start).toBeGreaterThanOrEqual(known - 2);
  });

  test("computes again what the log let go", async () => {
    await lab.chain.stop();
    lab = openStageLab({ activationBytesMax: 64 });
    const answer = await underway(lab, 15);
    await replace([2], answer);
    expect(answer.tokenIds).toEqual(expected(ASK));
    expect(lab.chain.members[0]?.came("gap", lab.chain.epoch)).not.toHaveLength(0);
  });

  test("sends again from the disk what memory did not hold", async () => {
    await lab.chain.stop();
    const folder = await mkdtemp(join(tmpdir(), "fallow-spill-"));
    let spills = 0;
    lab = openStageLab({ activationBytesMax: 800, spill: () => new DiskSpill(join(folder, String(spills++))) });
    const answer = await underway(lab, 25);
    // What was written is on the disk.
    await sleep(50);
    await replace([2], answer);
    expect(answer.tokenIds).toEqual(expected(ASK));
    expect(lab.chain.members[0]?.came("gap", lab.chain.epoch)).toEqual([]);
    await lab.chain.stop();
    expect(await readdir(folder)).toEqual([]);
    await rm(folder, { recursive: true });
  });

  test("goes on after an epoch in which nobody changed", async () => {
    const answer = await underway(lab, 10);
    await lab.chain.link(lab.chain.members);
    expect(answer.failed).toMatch(/^engine-closed/);
    lab.chain.start(ASK);
    await lab.chain.until(() => answer.end !== null);
    expect(answer.tokenIds).toEqual(expected(ASK));
  });

  test("tells of an engine that is gone, and goes on with the next one", async () => {
    const answer = await underway(lab, 10);
    const [, middle] = lab.chain.members;
    await middle?.engine?.close();
    middle?.chain.setEngine(null);
    expect(middle?.troubles.map(({ kind, accused }) => [kind, accused])).toEqual([["engine-lost", middle?.replicaId]]);
    if (middle !== undefined) await lab.chain.startEngine(middle);
    await lab.chain.link(lab.chain.members);
    lab.chain.start(ASK);
    await lab.chain.until(() => answer.end !== null);
    expect(answer.tokenIds).toEqual(expected(ASK));
  });

  test("hands keys and values over in a planned move: nothing is computed twice but what came meanwhile", async () => {
    const answer = await underway(lab, 15);
    const [, middle] = lab.chain.members;
    const to = await lab.chain.add({ first: 2, count: 2 });
    if (middle === undefined) throw new Error("three stages");
    const positions = PROMPT.length + answer.tokenIds.length;
    await lab.chain.move(middle, to);
    lab.chain.start(ASK);
    await lab.chain.until(() => answer.end !== null);
    expect(answer.tokenIds).toEqual(expected(ASK));
    const sent = to.came("activations").flatMap(({ entries }) => entries);
    expect(Math.min(...sent.map(({ start }) => start))).toBeGreaterThanOrEqual(positions - 2);
  });

  test("gives keys and values to nobody whom the coordinator did not name", async () => {
    await underway(lab, 10);
    const [, middle] = lab.chain.members;
    const stranger = await lab.chain.add({ first: 2, count: 2 });
    if (middle === undefined) throw new Error("three stages");
    const target = lab.chain.targetOf(middle);
    const signal = new AbortController().signal;
    let why = "";
    stranger.network.connect(target, `chain:${CHAIN_ID}:1`, signal).catch((fault: unknown) => {
      why = String(fault);
    });
    await lab.chain.until(() => why !== "");
    expect(why).toMatch(/in no chain/);
  });
});
