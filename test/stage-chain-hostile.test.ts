/** What one stage of a chain could do to the others, and what the rush of leases looks like that nobody is to blame for. Scripted stages in virtual time. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { chainCredential } from "../src/agent/stages/chain-links.ts";
import { encodeStageFrame } from "../src/wire/stage-frame-codec.ts";
import type { StageFrame } from "../src/wire/stage-frames.ts";
import { decodeStateList, encodeStateRequest, STATE_LIST_BYTES } from "../src/wire/stage-state-request.ts";
import { ASK, expected, openStageLab, type StageLab, THIRDS, underway } from "./support/stage-lab.ts";
import { CHAIN_ID, type StageNode } from "./support/stage-nodes.ts";

type Activations = Extract<StageFrame, { type: "activations" }>;
type Tokens = Extract<StageFrame, { type: "tokens" }>;

let lab: StageLab;
beforeEach(() => {
  lab = openStageLab();
});
afterEach(() => lab.chain.stop());

const troubleOf = (place: number) =>
  lab.chain.members[place]?.troubles.map(({ kind, code, accused }) => [kind, code, lab.chain.placeOf(accused)]);

function members(): readonly [StageNode, StageNode, StageNode] {
  const [head, middle, tail] = lab.chain.members;
  if (head === undefined || middle === undefined || tail === undefined) throw new Error("three stages");
  return [head, middle, tail];
}

const forEver = () => new Promise<void>(() => undefined);

/** Three stages, linked, and nothing runs. */
async function idle(): Promise<{ readonly tail: StageNode }> {
  const nodes = [];
  for (const layers of THIRDS) nodes.push(await lab.chain.add(layers));
  await lab.chain.link(nodes);
  const [, , tail] = members();
  return { tail };
}

/** Sends frames as one stage would to another, numbered as the next ones. */
async function forge<F extends Activations | Tokens>(
  from: StageNode,
  to: StageNode,
  like: F | undefined,
  frames: (like: F) => readonly Partial<F>[],
): Promise<void> {
  if (like === undefined) throw new Error("nothing was sent");
  const { channel, chainEpoch } = like;
  let frame = to.frames.filter((each) => each?.channel === channel && each.chainEpoch === chainEpoch).length;
  for (const change of frames(like)) {
    const forged: StageFrame = { ...like, ...change, channel, chainEpoch, frame: frame++ };
    await from.network.open(to.keyHex)?.send(encodeStageFrame(forged));
  }
  await lab.pass(50);
}

describe("a stage of a chain", () => {
  test.each<[string, string, (frame: Tokens) => Partial<Tokens["entries"][number]>]>([
    ["that are none", "token-out-of-vocabulary", () => ({ tokenIds: [2 ** 31 - 1] })],
    ["beyond the context", "position-wrong", () => ({ position: 1_024 })],
  ])("that draws tokens %s is named, not the first stage that gets them", async (_, code, change) => {
    await underway(lab, 5);
    await lab.pass(12); // its own tokens are there
    const [head, , tail] = members();
    await forge<Tokens>(tail, head, head.came("tokens").at(-1), (frame) => [
      { entries: frame.entries.map((entry) => ({ ...entry, ...change(frame) })) },
    ]);
    expect(troubleOf(0)).toEqual([["stage-breach", code, 2]]);
  });

  test("that sends more than it has credit for is named", async () => {
    await underway(lab, 5);
    const [head, middle, tail] = members();
    // No attempt of theirs will ever come: they wait at the last stage, and nothing is credited.
    await forge<Activations>(middle, tail, tail.came("activations").at(-1), (frame) =>
      Array.from({ length: 100 }, (_, at) => ({
        entries: frame.entries.map((entry) => ({
          ...entry,
          leaseEpoch: entry.leaseEpoch + 1,
          start: entry.start + at,
        })),
      })),
    );
    expect(troubleOf(2)).toEqual([["stage-breach", "window-overrun", 1]]);
    expect(head.troubles.filter(({ accused }) => accused === head.replicaId)).toEqual([]);
  });

  test("that opens more sequences than there are slots is named, not the stage that has no more", async () => {
    await underway(lab, 5);
    const [head, middle] = members();
    await forge<Activations>(head, middle, middle.came("activations").at(-1), (frame) =>
      Array.from({ length: 6 }, (_, at) => ({
        entries: frame.entries.map((entry) => ({
          ...entry,
          sequence: `${at}`.repeat(16) as typeof entry.sequence,
          start: 0,
          draw: null,
        })),
      })),
    );
    expect(troubleOf(1)).toEqual([["stage-breach", "slots-exceeded", 0]]);
  });

  test("that feeds sequences without attempts takes no attempt its slot at the last stage, and is named when they were there for seconds", async () => {
    const { tail } = await idle();
    for (let at = 0; at < 4; at++) lab.chain.start({ ...ASK, request: 20 + at }, { tailDelay: forEver });
    await lab.pass(4_000);
    expect(tail.engine?.stats().sequencesOpen).toBe(4);
    const answer = lab.chain.start(ASK);
    await lab.pass(100);
    expect([answer.failed, troubleOf(2)]).toEqual([null, [["stage-breach", "sequence-unleased", 0]]]);
  });

  test("that feeds sequences a moment before their attempts come is not named; one whose attempt never comes lets its slot go after ten seconds", async () => {
    const { tail } = await idle();
    const answers = [0, 1, 2].map((at) =>
      lab.chain.start({ ...ASK, request: 20 + at }, { tailDelay: () => lab.pass(2_000) }),
    );
    lab.chain.start({ ...ASK, request: 30 }, { tailDelay: forEver });
    await lab.chain.until(() => answers.every(({ end }) => end !== null));
    expect(troubleOf(2)).toEqual([]);
    await lab.pass(12_000);
    expect(tail.engine?.stats().sequencesOpen).toBe(0);
    expect(troubleOf(2)).toEqual([["stage-breach", "sequence-unleased", 0]]);
  });

  test("that asks for the same positions again and again is named", async () => {
    await underway(lab, 5);
    const [head, middle] = members();
    const like = middle.came("activations").at(-1);
    const [entry] = like?.entries ?? [];
    if (like === undefined || entry === undefined) throw new Error("nothing was sent");
    const { sequence, leaseEpoch } = entry;
    const { channel, chainEpoch } = like;
    let frame = head.frames.filter((each) => each?.channel === channel && each.chainEpoch === chainEpoch).length;
    for (let at = 0; at < 20; at++) {
      const gap = { type: "gap", channel, chainEpoch, frame: frame++, sequence, leaseEpoch, held: 0 } as const;
      await middle.network.open(head.keyHex)?.send(encodeStageFrame(gap));
    }
    await lab.pass(50);
    expect(troubleOf(0)).toEqual([["stage-breach", "gap-again", 1]]);
  });

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

  test("gives keys and values to who takes its place, and to no other stage of its chain", async () => {
    await underway(lab, 5);
    const [, middle, tail] = members();
    const fresh = await lab.chain.add({ first: 2, count: 2 });
    const list = async (node: StageNode) => {
      const credential = chainCredential({ chainId: CHAIN_ID, chainEpoch: 1 });
      const signal = new AbortController().signal;
      const asking = node.network.connect(lab.chain.targetOf(middle), credential, signal);
      await lab.pass(200);
      const link = await asking;
      const whole = new Uint8Array(STATE_LIST_BYTES);
      let code = "";
      const reading = (async () => {
        const request = encodeStateRequest({ chainId: CHAIN_ID, first: 2, kind: "list" });
        const options = { signal, totalBytes: STATE_LIST_BYTES, bytesPerSecondMin: 1 };
        let at = 0;
        for await (const part of link.fetch(request, options)) {
          whole.set(part, at);
          at += part.length;
        }
      })().catch((fault: unknown) => {
        code = String(fault);
      });
      await lab.pass(500);
      await reading;
      return code === "" ? (decodeStateList(whole)?.length ?? 0) : code;
    };
    expect(await list(tail)).toMatch(/only who takes this stage's place/);
    middle.set({ ...lab.chain.message(middle, [...members()], 1), handOver: { publicKey: fresh.keyHex } });
    expect(await list(fresh)).toBe(1);
    expect(await list(tail)).toMatch(/only who takes this stage's place/);
  });
});

describe("an attempt that follows another at once", () => {
  test("makes nobody blamed for frames that were on their way, and the text is the same", async () => {
    const nodes = [];
    for (const layers of THIRDS) nodes.push(await lab.chain.add(layers));
    await lab.chain.link(nodes);
    const answer = lab.chain.start(ASK);
    for (const tokens of [3, 6, 9, 12]) {
      await lab.chain.until(() => answer.tokenIds.length >= tokens);
      await lab.pass(18 + tokens);
      lab.chain.start(ASK);
    }
    await lab.chain.until(() => answer.end !== null);
    expect(lab.chain.members.flatMap(({ troubles }) => troubles)).toEqual([]);
    expect(answer.tokenIds).toEqual(expected(ASK));
  });
});
