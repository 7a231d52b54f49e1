/** The replica pool over the real registry, with nodes driven by hand, in virtual time: how often it plans, and what becomes of lost orders. */
import { describe, expect, test } from "vitest";
import { DISPATCH_OPTIONS } from "../src/coordinator/dispatch/dispatch-options.ts";
import { ReplicaPool } from "../src/coordinator/dispatch/replica-pool.ts";
import { assert } from "../src/domain/assert.ts";
import type { KeyPair } from "../src/ports/crypto.ts";
import { SimIds } from "../src/sim/sim-ids.ts";
import { DispatchGrid } from "./support/dispatch-grid.ts";
import { type HandDrivenPeer, MembershipGrid } from "./support/membership-grid.ts";
import { aManifest } from "./support/store-samples.ts";

const { orderGraceMs, planMs, planGapMs } = DISPATCH_OPTIONS;
const BEAT_MS = 500;

test("plans at once, and then no sooner than the gap, however often the roster changes", async () => {
  const grid = new MembershipGrid();
  const { clock, log, registry: roster } = grid;
  const plannedAtMs: number[] = [];
  const models = {
    get: () => null,
    byWeights: () => null,
    list: () => {
      plannedAtMs.push(clock.monoMs());
      return [];
    },
  };
  const ids = new SimIds(clock, grid.random.fork("ids"));
  const pool = new ReplicaPool(
    {
      clock,
      ids,
      log,
      roster,
      models,
      crypto: grid.crypto,
      boot: 1,
      onChainBreak: () => undefined,
      leasedOn: () => 0,
      demand: () => new Map(),
      onChange: () => undefined,
    },
    DISPATCH_OPTIONS,
  );
  pool.start();
  await grid.run(1);
  expect(plannedAtMs).toEqual([0]);
  for (let ms = 1; ms <= 1_000; ms++) {
    pool.planSoon();
    await grid.run(1);
  }
  const gapsMs = plannedAtMs.slice(1).map((atMs, index) => atMs - (plannedAtMs[index] ?? 0));
  expect(Math.min(...gapsMs)).toBe(planGapMs);
  expect(plannedAtMs).toHaveLength(1 + Math.floor(1_000 / planGapMs));
  pool.planSoon();
  pool.stop();
  await grid.run(1_000);
  expect(plannedAtMs).toHaveLength(1 + Math.floor(1_000 / planGapMs));
});

test("looks for room again only when something changed, or half a second later, while what is missing fits nowhere", async () => {
  const grid = new MembershipGrid();
  const { clock, log, registry: roster } = grid;
  await grid.start();
  const model = { manifest: aManifest("tiny"), tokenizer: { vocabSize: 1_024, stopTokenIds: [] } };
  let snapshots = 0;
  const outlook = {
    cachedWeights: () => undefined,
    stayChance: () => null,
    expectedDemand: () => {
      snapshots += 1;
      return [];
    },
  };
  const models = { get: () => model, byWeights: () => model, list: () => [model] };
  const ids = new SimIds(clock, grid.random.fork("ids"));
  const pool = new ReplicaPool(
    {
      clock,
      ids,
      log,
      roster,
      models,
      outlook,
      crypto: grid.crypto,
      boot: 1,
      onChainBreak: () => undefined,
      leasedOn: () => 0,
      demand: () => new Map(),
      onChange: () => undefined,
    },
    DISPATCH_OPTIONS,
  );
  pool.start();
  await grid.run(100);
  const atFirst = snapshots;
  for (let ms = 0; ms < 3_000; ms++) {
    pool.planSoon();
    await grid.run(1);
  }
  // 60 looks; every 500 ms a repair, and one plan that is asked for again.
  expect(snapshots - atFirst).toBeLessThanOrEqual(8);
  expect(snapshots - atFirst).toBeGreaterThanOrEqual(5);
  const peer = await grid.peer();
  await peer.say(peer.hello({ keyPair: grid.crypto.generateKeyPair(), joinToken: await grid.token() }));
  pool.planSoon();
  await grid.run(planGapMs);
  expect(peer.frames.some(({ type }) => type === "replica.load")).toBe(true);
  pool.stop();
});

describe("an order for a warm replica", () => {
  const replicaOrders = (peer: HandDrivenPeer) =>
    peer.frames.flatMap(({ type, replicaId }) => {
      return type === "replica.load" || type === "replica.unload" ? [{ type, replicaId }] : [];
    });

  async function joined(grid: DispatchGrid, keyPair: KeyPair, joinToken: string | null): Promise<HandDrivenPeer> {
    const peer = await grid.peer();
    await peer.say(peer.hello({ keyPair, joinToken }));
    assert(
      peer.frames.some(({ type }) => type === "welcome"),
      "the node is in",
    );
    return peer;
  }

  /** The node lives and has nothing to report. */
  async function beat(grid: DispatchGrid, peer: HandDrivenPeer, forMs: number): Promise<void> {
    for (let seq = 0; seq * BEAT_MS < forMs; seq++) {
      const sentAtMs = grid.clock.wallMs();
      await peer.say({
        type: "heartbeat",
        seq,
        sentAtMs,
        isYielding: false,
        memoryFreeBytes: 1e9,
        replicas: [],
      });
      await grid.run(BEAT_MS - 50);
    }
  }

  test("that was lost with its link does not count as loading for ever: the node is ordered another", async () => {
    const grid = new DispatchGrid({ warmReplicas: 1 });
    await grid.start();
    const keyPair = grid.crypto.generateKeyPair();
    const first = await joined(grid, keyPair, await grid.token());
    const [lost] = replicaOrders(first);
    expect(lost).toMatchObject({ type: "replica.load" });
    first.link.destroy();
    await grid.run(500);
    const second = await joined(grid, keyPair, null);
    await beat(grid, second, orderGraceMs + planMs);
    const loads = replicaOrders(second).filter(({ type }) => type === "replica.load");
    expect(loads).toHaveLength(1);
    expect(loads[0]?.replicaId).not.toBe(lost?.replicaId);
  });

  test("that is not answered in time is taken back on the same link before it is given again", async () => {
    const grid = new DispatchGrid({ warmReplicas: 1 });
    await grid.start();
    const peer = await joined(grid, grid.crypto.generateKeyPair(), await grid.token());
    await beat(grid, peer, orderGraceMs + planMs);
    const [late, takenBack, again, ...more] = replicaOrders(peer);
    expect(late).toMatchObject({ type: "replica.load" });
    expect(takenBack).toEqual({ type: "replica.unload", replicaId: late?.replicaId });
    expect(again).toMatchObject({ type: "replica.load" });
    expect(again?.replicaId).not.toBe(late?.replicaId);
    expect(more).toEqual([]);
  });
});
