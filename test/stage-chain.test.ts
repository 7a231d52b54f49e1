/** Stages of a scripted model over peer links in virtual time: the text of the unsplit model, whatever happens to a stage, and what cannot be named. */
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { DiskSpill } from "../src/adapters/stage-files-disk/disk-spill.ts";
import { shareOfStage } from "../src/domain/chain.ts";
import { modelId, sha256Hex } from "../src/domain/ids.ts";
import { DEFAULT_SAMPLING } from "../src/domain/sampling.ts";
import { scriptedAnswer } from "../src/sim/engine/scripted-model.ts";
import { ScriptedStages } from "../src/sim/engine/scripted-stage-host.ts";
import { SimClock } from "../src/sim/time/clock.ts";
import { Host } from "../src/sim/time/host.ts";
import { SeededRandom } from "../src/sim/time/random.ts";
import { Timeline } from "../src/sim/time/timeline.ts";
import { encodeStageFrame } from "../src/wire/stage-frame-codec.ts";
import type { StageFrame } from "../src/wire/stage-frames.ts";
import { MemoryNet } from "./support/memory-carrier.ts";
import { type Answer, type Ask, CHAIN_ID, StageNodes, type StageNodesOptions, seedOf } from "./support/stage-nodes.ts";

type Activations = Extract<StageFrame, { type: "activations" }>;

const LAYERS = 6;
/** Its text is 40 tokens long. */
const REQUEST = 7;
const PROMPT = [5, 9, 13, 21, 34, 55, 8, 7, 3];
const ASK: Ask = {
  request: REQUEST,
  prompt: PROMPT,
  tokensMax: 40,
  sampling: { ...DEFAULT_SAMPLING, temperature: 0.8 },
};
const WAIT_MS_MAX = 60_000;

interface Lab {
  readonly chain: StageNodes;
  readonly timeline: Timeline;
  readonly net: MemoryNet;
  pass(ms: number): Promise<void>;
  /** What was written to a disk is there. */
  settle(): Promise<void>;
}

function openLab(more: Partial<StageNodesOptions> = {}): Lab {
  const timeline = new Timeline();
  const host = new Host("all", timeline);
  const clock = new SimClock(host);
  const net = new MemoryNet({ delayMs: () => 10, after: (delayMs, fire) => void host.after(delayMs, fire) });
  const pace = { loadMs: 10, prefillMsPerToken: 0.5, stepMs: 8 };
  const stages = new ScriptedStages({ clock, pace });
  const until = async (isReached: () => boolean) => {
    const endMs = timeline.nowMs + WAIT_MS_MAX;
    while (!isReached() && timeline.nowMs < endMs) await timeline.run(timeline.nowMs + 1, () => !isReached());
    if (!isReached()) throw new Error(`not reached within ${WAIT_MS_MAX} virtual ms`);
  };
  const chain = new StageNodes({
    clock,
    random: new SeededRandom("stages"),
    net,
    layerCount: LAYERS,
    load: async (layers, onEvents) => {
      const loading = stages.loadStage(
        {
          modelId: modelId("tiny"),
          stagePath: "",
          weightsSha256: sha256Hex("ab".repeat(32)),
          share: shareOfStage(layers, LAYERS),
          contextTokens: 1_024,
          sequencesMax: 4,
          threads: 1,
          gpuLayers: 0,
          wire: "f32",
        },
        { signal: new AbortController().signal, onEvents },
      );
      await timeline.run(timeline.nowMs + 50, () => true);
      return await loading;
    },
    until,
    ...more,
  });
  const settle = () => sleep(50);
  return { chain, timeline, net, settle, pass: (ms) => timeline.run(timeline.nowMs + ms, () => true) };
}

function expected({ prompt, request, tokensMax, sampling = DEFAULT_SAMPLING }: Ask): readonly number[] {
  const whole = { tokenIds: prompt, generatedCount: 0, sampling, seed: sha256Hex(seedOf(request)), choice: 0 };
  return scriptedAnswer(whole, tokensMax, LAYERS).tokenIds;
}

const THIRDS = [
  { first: 0, count: 2 },
  { first: 2, count: 2 },
  { first: 4, count: 2 },
];

let lab: Lab;
beforeEach(() => {
  lab = openLab();
});
afterEach(() => lab.chain.stop());

/** Three stages, and an answer under way by so many tokens. */
async function underway(tokens: number): Promise<Answer> {
  const nodes = [];
  for (const layers of THIRDS) nodes.push(await lab.chain.add(layers));
  await lab.chain.link(nodes);
  const answer = lab.chain.start(ASK);
  await lab.chain.until(() => answer.tokenIds.length >= tokens);
  return answer;
}

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
    const answer = await underway(15);
    const before = answer.tokenIds.length;
    await replace(places, answer);
    expect(before).toBeLessThan(40);
    expect(answer.tokenIds).toEqual(expected(ASK));
  });

  test("sends a new middle stage what it lacks from the log, and the stage behind it nothing that it holds", async () => {
    const answer = await underway(15);
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
    const answer = await underway(15);
    const [, middle] = lab.chain.members;
    const known = PROMPT.length + answer.tokenIds.length;
    await replace([0], answer);
    expect(answer.tokenIds).toEqual(expected(ASK));
    const first = middle?.came("activations", lab.chain.epoch)[0]?.entries[0];
    expect(first?.start).toBeGreaterThanOrEqual(known - 2);
  });

  test("computes again what the log let go", async () => {
    await lab.chain.stop();
    lab = openLab({ activationBytesMax: 64 });
    const answer = await underway(15);
    await replace([2], answer);
    expect(answer.tokenIds).toEqual(expected(ASK));
    expect(lab.chain.members[0]?.came("gap", lab.chain.epoch)).not.toHaveLength(0);
  });

  test("sends again from the disk what memory did not hold", async () => {
    await lab.chain.stop();
    const folder = await mkdtemp(join(tmpdir(), "fallow-spill-"));
    let spills = 0;
    lab = openLab({ activationBytesMax: 512, spill: () => new DiskSpill(join(folder, String(spills++))) });
    const answer = await underway(25);
    await lab.settle();
    await replace([2], answer);
    expect(answer.tokenIds).toEqual(expected(ASK));
    expect(lab.chain.members[0]?.came("gap", lab.chain.epoch)).toEqual([]);
    await lab.chain.stop();
    expect(await readdir(folder)).toEqual([]);
    await rm(folder, { recursive: true });
  });

  test("goes on after an epoch in which nobody changed", async () => {
    const answer = await underway(10);
    await lab.chain.link(lab.chain.members);
    expect(answer.failed).toMatch(/^engine-closed/);
    lab.chain.start(ASK);
    await lab.chain.until(() => answer.end !== null);
    expect(answer.tokenIds).toEqual(expected(ASK));
  });

  test("tells of an engine that is gone, and goes on with the next one", async () => {
    const answer = await underway(10);
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
    const answer = await underway(15);
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
    await underway(10);
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
    await underway(5);
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
    const answer = await underway(5);
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
    const answer = await underway(0);
    await lab.chain.until(() => answer.end !== null);
    await lab.pass(200);
    lab.net.silence("tcp");
    await lab.pass(5_000);
    expect(lab.chain.members.flatMap(({ troubles }) => troubles)).toEqual([]);
  });

  test("is named when its node is gone", async () => {
    await underway(5);
    const [, middle] = lab.chain.members;
    await middle?.network.close();
    await lab.pass(1_500);
    expect(troubleOf(0)?.map(([kind, , accused]) => [kind, accused])).toEqual([["stage-unreachable", 1]]);
    expect(troubleOf(2)?.map(([kind, , accused]) => [kind, accused])).toEqual([["stage-unreachable", 1]]);
  });

  test("is not heard any more when it comes back with an older epoch", async () => {
    await underway(5);
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
