/** What probes find, as the coordinator deals with it: the real registry, planner, dispatcher, desk and probes, with scripted stages, in virtual time. */
import { afterEach, describe, expect, test } from "vitest";
import { ChainProbes } from "../src/coordinator/chains/chain-probes.ts";
import type { NodeId } from "../src/domain/ids.ts";
import { FINGERPRINT_POSITIONS_MAX, SKETCH_BUCKETS } from "../src/domain/state-fingerprint.ts";
import { SeededRandom } from "../src/sim/time/random.ts";
import { counted, StageGrid } from "./support/chain-desk-grid.ts";

const EVERY_MS = 1_000;

let probes: ChainProbes | null = null;
afterEach(() => probes?.stop());

/** Three stages and the nodes that stand by; those in `liars` give garbage. */
async function probedGrid(options: { readonly everyMs?: number } = {}) {
  const grid = new StageGrid({ chainSpares: 0 });
  const liars = new Set<NodeId>();
  const join = async () => {
    const node = await grid.addNode();
    const { work } = node;
    const onOrder = work.onOrder.bind(work);
    work.onOrder = (order) => {
      onOrder(order);
      if (order.type !== "chain.fingerprint.ask") return;
      const { replicaId, chainId, sequence } = order;
      const stages = work.chain(replicaId)?.stages ?? [];
      const at = stages.findIndex(({ nodeId }) => nodeId === node.nodeId);
      const isSpoilt = stages.slice(0, at).some(({ nodeId }) => [...liars].some((liar) => liar === nodeId));
      const told = fingerprint(isSpoilt ? sequence : `layer ${stages[at]?.first}`);
      work.line?.send({ type: "chain.fingerprint", replicaId, chainId, sequence, fingerprint: told });
    };
    return node;
  };
  await grid.start();
  for (let count = 0; count < 3; count++) await join();
  await grid.untilServing();
  const { clock, crypto, log, registry: roster, model } = grid;
  let made = 0;
  probes = new ChainProbes(
    {
      clock,
      crypto,
      log,
      roster,
      ids: { make: (prefix) => `${prefix}_01KA${String(++made).padStart(22, "0")}` },
      random: new SeededRandom("probes"),
      models: { get: () => model },
      dispatch: grid.dispatcher,
      chains: grid.chains,
    },
    { everyMs: options.everyMs ?? EVERY_MS },
  );
  probes.start();
  return { grid, liars, join, asked: probes };
}

function fingerprint(seed: string): { rms: number[]; sketch: number[] } {
  const random = new SeededRandom(seed);
  return {
    rms: new Array<number>(FINGERPRINT_POSITIONS_MAX).fill(1),
    sketch: Array.from({ length: FINGERPRINT_POSITIONS_MAX * SKETCH_BUCKETS }, () => random.fraction() * 4 - 2),
  };
}

describe("a chain that is probed", () => {
  test("serves on while all nodes give what others gave, and pays nobody for it", async () => {
    const { grid, asked: all, join } = await probedGrid();
    const epoch = grid.chain()?.epoch;
    await grid.run(12_000);
    expect(all.judged).toBeGreaterThanOrEqual(8);
    expect(grid.chain()).toMatchObject({ state: "serving", epoch, repairs: 0 });
    await join();
    grid.kill(grid.holder(1));
    await grid.until(() => grid.chain()?.repairs === 1 && grid.chain()?.state === "serving", "the repair");
    const judged = all.judged;
    await grid.run(12_000);
    expect(all.judged).toBeGreaterThanOrEqual(judged + 8);
    expect(grid.chain()).toMatchObject({ state: "serving", repairs: 1 });
    expect(grid.chains.stats().garbage).toBe(0);
  });

  test.each([0, 1])(
    "replaces stage %i when its successor gives garbage, names its node, and streams go on",
    async (place) => {
      const { grid, liars, join } = await probedGrid();
      await grid.run(8_000);
      const asked = grid.ask({ tokensMax: 1_000, deadlineMs: 600_000 });
      await grid.until(() => asked.tokenIds().length > 3, "some tokens");
      const liar = await join();
      liars.add(liar.nodeId);
      const holder = () => grid.chain()?.stages[place]?.holder?.nodeId ?? null;
      grid.kill(grid.holder(place));
      await grid.until(() => holder() === liar.nodeId && grid.chain()?.state === "serving", "the liar's turn");
      const honest = await join();
      await grid.until(() => grid.chains.stats().garbage > 0, "the finding");
      expect(grid.chain()?.trouble).toContain(`stage-garbage on ${liar.nodeId}`);
      await grid.until(() => grid.chain()?.state === "serving", "the repair");
      expect(holder()).toBe(honest.nodeId);
      await grid.until(() => asked.outcome() !== null, "the answer's end");
      expect(asked.outcome()).toEqual({ kind: "end", reason: "length" });
      expect(asked.tokenIds()).toEqual(counted(1_000));
      expect(holder()).toBe(honest.nodeId);
    },
  );

  test("is not, when that is turned off", async () => {
    const { grid, asked } = await probedGrid({ everyMs: 0 });
    await grid.run(5_000);
    expect([asked.judged, grid.dispatcher.stats().started]).toEqual([0, 0]);
  });
});
