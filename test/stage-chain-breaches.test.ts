/** What a stage sends that cannot be is named, with the stage to blame; so is silence. Scripted stages in virtual time. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { encodeStageFrame } from "../src/wire/stage-frame-codec.ts";
import type { StageFrame } from "../src/wire/stage-frames.ts";
import { ASK, expected, openStageLab, type StageLab, THIRDS, underway } from "./support/stage-lab.ts";

type Activations = Extract<StageFrame, { type: "activations" }>;

let lab: StageLab;
beforeEach(() => {
  lab = openStageLab();
});
afterEach(() => lab.chain.stop());

describe("a stage that breaks the rules", () => {
  const troubleOf = (place: number) =>
    lab.chain.members[place]?.troubles.map(({ kind, code, accused }) => [kind, code, lab.chain.placeOf(accused)]);

  /** Sends a frame as the first stage would to the second; what is not given is as it should be. */
  async function forge(change: (frame: Activations, number: number) => Uint8Array | StageFrame): Promise<void> {
    const [head, middle] = lab.chain.members;
    const last = middle?.came("activations").at(-1);
    if (head === undefined || middle === undefined || last === undefined) throw new Error("nothing was sent");
    const frame = middle.frames.filter(
      (each) => each?.channel === last.channel && each.chainEpoch === last.chainEpoch,
    ).length;
    const forged = change({ ...last, frame }, frame);
    const bytes = forged instanceof Uint8Array ? forged : encodeStageFrame(forged);
    await head.network.open(middle.keyHex)?.send(bytes);
    await lab.pass(50);
  }

  const changed = (frame: Activations, change: Partial<Activations["entries"][number]>): StageFrame => {
    return { ...frame, entries: frame.entries.map((entry) => ({ ...entry, ...change })) };
  };

  test.each<[string, string, (frame: Activations) => Uint8Array | StageFrame]>([
    ["another width", "frame-width", (frame) => ({ ...frame, data: new Uint8Array(frame.data.length * 2) })],
    ["three bytes", "frame-short", () => Uint8Array.of(1, 2, 3)],
    ["a position beyond the context", "position-wrong", (frame) => changed(frame, { start: 1_024 })],
    ["an older lease", "lease-older", (frame) => changed(frame, { leaseEpoch: 0 })],
    ["a frame again", "frame-replayed", (frame) => ({ ...frame, frame: frame.frame - 1 })],
    ["a frame too many", "frame-missing", (frame) => ({ ...frame, frame: frame.frame + 1 })],
    [
      "a damaged frame",
      "frame-damaged",
      (frame) => encodeStageFrame(frame).map((byte, at) => (at === 25 ? byte ^ 1 : byte)),
    ],
    [
      "a frame of another version",
      "frame-version",
      (frame) => encodeStageFrame(frame).map((byte, at) => (at === 1 ? 9 : byte)),
    ],
    [
      "a frame that only the stage behind sends",
      "frame-unexpected",
      ({ channel, chainEpoch, frame }) => ({ type: "credit", channel, chainEpoch, frame, taken: 0 }),
    ],
    ["an older epoch", "epoch-older", (frame) => ({ ...frame, chainEpoch: 0 })],
  ])("is named for %s: %s", async (_, code, forged) => {
    await underway(lab, 5);
    await forge(forged);
    expect(troubleOf(1)).toEqual([["stage-breach", code, 0]]);
    expect(lab.chain.members[1]?.isLinked).toBe(false);
  });

  test("is named for hidden states that are no numbers, by the stage that got them", async () => {
    const nodes = [];
    for (const layers of THIRDS) nodes.push(await lab.chain.add(layers));
    await lab.chain.link(nodes);
    const [, middle] = nodes;
    if (middle === undefined) throw new Error("three stages");
    middle.spoil = (events) =>
      events.map((event) => (event.kind === "output" ? { ...event, data: broken(event.data.length) } : event));
    const answer = lab.chain.start(ASK);
    await lab.chain.until(() => answer.failed !== null);
    expect(troubleOf(2)).toEqual([["stage-breach", "activations-broken", 1]]);
    expect(answer.failed).toMatch(/activations-broken/);
  });

  test("is named by both neighbours when it says nothing, and not while nothing runs", async () => {
    const answer = await underway(lab, 5);
    lab.net.silence("tcp");
    const sinceMs = lab.timeline.nowMs;
    await lab.chain.until(() => lab.chain.members.some(({ troubles }) => troubles.length > 0));
    expect(lab.timeline.nowMs - sinceMs).toBeLessThan(1_500);
    await lab.pass(500);
    expect(troubleOf(1)).toEqual(
      expect.arrayContaining([
        ["stage-silent", "silent", 0],
        ["stage-silent", "silent", 2],
      ]),
    );
    expect(answer.end).toBeNull();
  });

  test("may be silent while nothing runs", async () => {
    const answer = await underway(lab, 0);
    await lab.chain.until(() => answer.end !== null);
    await lab.pass(200);
    lab.net.silence("tcp");
    await lab.pass(5_000);
    expect(lab.chain.members.flatMap(({ troubles }) => troubles)).toEqual([]);
  });

  test("is named when its node is gone", async () => {
    await underway(lab, 5);
    const [, middle] = lab.chain.members;
    await middle?.network.close();
    await lab.pass(1_500);
    expect(troubleOf(0)?.map(([kind, , accused]) => [kind, accused])).toEqual([["stage-unreachable", 1]]);
    expect(troubleOf(2)?.map(([kind, , accused]) => [kind, accused])).toEqual([["stage-unreachable", 1]]);
  });

  test("is not heard any more when it comes back with an older epoch", async () => {
    await underway(lab, 5);
    const [, middle] = lab.chain.members;
    const again = await lab.chain.add({ first: 2, count: 2 });
    const [head, , tail] = lab.chain.members;
    if (head === undefined || tail === undefined || middle === undefined) throw new Error("three stages");
    await lab.chain.link([head, again, tail]);
    const answer = lab.chain.start(ASK);
    // The stage that was replaced still takes itself for a member.
    middle.set({ ...lab.chain.message(middle, [head, middle, tail], 1), chainEpoch: 1 });
    await lab.chain.until(() => answer.end !== null);
    expect(answer.tokenIds).toEqual(expected(ASK));
    expect([head, again, tail].flatMap(({ troubles }) => troubles)).toEqual([]);
  });
});

/** No number in any place. */
function broken(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < length; at += 4) view.setFloat32(at, Number.NaN, true);
  return bytes;
}
