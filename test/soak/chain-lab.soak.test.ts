/** A model over two, three and five machines that are far from each other: 40 ms round trip and 1 % loss between any two hosts of the lab. */
import { describe, expect, test } from "vitest";
import { LAB_MODEL_ID, LabChain } from "../../bench/lib/lab-chain.ts";
import { netlabAbsent } from "../netlab/netlab.ts";
import { expectSameStreams } from "../support/chain-checks.ts";
import { streamBodies } from "../support/chain-streams.ts";

const absent = netlabAbsent();
const CHAIN_MS_MAX = 600_000;
const BODIES = streamBodies(16, { model: LAB_MODEL_ID, tokens: 64 });

describe.skipIf(absent !== null)(`chains over long ways${absent === null ? "" : ` (left out: ${absent})`}`, () => {
  test.each([2, 3, 5])(
    "%i stages give sixteen answers at once, each as the whole model gives it",
    {
      timeout: CHAIN_MS_MAX,
    },
    async (stages) => {
      await using chain = await LabChain.start({ stages, rttMs: 40, lossShare: 0.01, askWhole: BODIES });
      expectSameStreams(await chain.streams(BODIES), chain.whole);
      const { stages: own } = await chain.chain();
      expect(own).toHaveLength(stages);
      // Ways are as long as they were asked to be: nothing goes through the coordinator's host on loopback.
      for (const { nextRttMs } of own) expect(nextRttMs).toBeGreaterThan(35);
    },
  );
});
