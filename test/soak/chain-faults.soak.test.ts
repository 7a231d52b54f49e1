/**
 * Real faults of a chain in the lab, eight answers at a time: thirty times a node of three is killed, stopped or cut off at random, and once
 * the whole chain is killed. Five nodes; the coordinator, the clients and each node are hosts of their own.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { LAB_MODEL_ID, LabChain } from "../../bench/lib/lab-chain.ts";
import { CHAIN_FAULTS, drillRecovery, type RecoveryTimes, settle } from "../../bench/lib/recovery-drill.ts";
import { SeededRandom } from "../../src/sim/time/random.ts";
import { netlabAbsent } from "../netlab/netlab.ts";
import { expectSameStreams } from "../support/chain-checks.ts";
import { type ReadStream, streamBodies } from "../support/chain-streams.ts";
import { CHAIN_PLACES, type ChainPlace } from "../support/chain-view.ts";

const absent = netlabAbsent();
const STAGES = 3;
const NODES = 5;
const RANDOM_FAULTS = 30;
const SEED = 6;
const START_MS_MAX = 300_000;
const DRILLS_MS_MAX = 1_800_000;
const TOKENS = 120;
/** A stream that has fewer left may be over before the fault is seen. */
const STRUCK_AT_MAX = 80;
const BODIES = streamBodies(8, { model: LAB_MODEL_ID, tokens: TOKENS });

describe.skipIf(absent !== null)(`faults of a chain${absent === null ? "" : ` (left out: ${absent})`}`, () => {
  let whole: readonly ReadStream[];
  let chain: LabChain;
  const answered: ReadStream[] = [];
  beforeAll(async () => {
    chain = await LabChain.start({ stages: STAGES, nodes: NODES, rttMs: 2, askWhole: BODIES });
    whole = chain.whole;
    answered.push(...whole);
  }, START_MS_MAX);
  afterAll(() => chain?.stop());

  async function drill(how: { fault: RecoveryTimes["fault"]; place: ChainPlace; struckAt: number }): Promise<void> {
    await settle(chain, { nodes: NODES, spares: 0 });
    const { streams, ...times } = await drillRecovery(chain, { ...how, bodies: BODIES });
    console.log(JSON.stringify(times));
    answered.push(...streams);
    expectSameStreams(streams, whole);
  }

  /** Each fault of each place three times, and three more, in an order that is drawn. */
  test(`${RANDOM_FAULTS} faults at random change no text`, { timeout: DRILLS_MS_MAX }, async () => {
    const random = new SeededRandom(`chain-faults/${SEED}`);
    const each = CHAIN_FAULTS.flatMap((fault) => CHAIN_PLACES.map((place) => ({ fault, place })));
    const left = Array.from({ length: RANDOM_FAULTS }, (_, at) => each[at % each.length]);
    while (left.length > 0) {
      const [how = { fault: "SIGKILL", place: "middle" }] = left.splice(random.between(0, left.length - 1), 1);
      await drill({ ...how, struckAt: random.between(1, STRUCK_AT_MAX) });
    }
  });

  test("every request was charged once", async () => {
    const usage = await chain.grid.json(
      "/v1/grid/usage",
      z.object({ data: z.array(z.object({ requests: z.number(), completion_tokens: z.number() })) }),
    );
    expect(usage.data.reduce((sum, row) => sum + row.requests, 0)).toBe(answered.length);
    expect(usage.data.reduce((sum, row) => sum + row.completion_tokens, 0)).toBe(answered.length * TOKENS);
    const check = await chain.grid.json("/admin/v1/ledger/check", z.looseObject({}));
    expect(check).toMatchObject({ isBalanced: true, openHolds: 0 });
  });

  test("when every node of the chain is killed at once, each answer goes on in full or ends with an error", {
    timeout: START_MS_MAX,
  }, async () => {
    await settle(chain, { nodes: NODES, spares: 0 });
    const { stages } = await chain.chain();
    let isStruck = false;
    const streams = await chain.streams(BODIES, {
      onTokens: (_stream, count) => {
        if (isStruck || count < 40) return;
        isStruck = true;
        const agents = stages.map(({ nodeId }) => chain.node(nodeId));
        for (const agent of agents) chain.signal(agent, "SIGKILL");
        for (const agent of agents) void chain.revive(agent);
      },
    });
    for (const [at, { text, error, finishReason }] of streams.entries()) {
      if (error === null) expect({ text, finishReason }).toEqual({ text: whole[at]?.text, finishReason: "length" });
      else expect(whole[at]?.text.startsWith(text.replace(/\uFFFD+$/, ""))).toBe(true);
    }
    console.log(`${streams.filter(({ error }) => error === null).length} of ${streams.length} went on`);
  });
});
