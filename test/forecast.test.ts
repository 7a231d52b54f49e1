/** The coordinator's forecast over the real registry, dispatcher and agents in virtual time: what it learns, keeps, and stages. */
import { describe, expect, test } from "vitest";
import { Forecast } from "../src/coordinator/forecast/forecast.ts";
import type { ForecastOptions } from "../src/coordinator/forecast/forecast-options.ts";
import { NODES_PER_PIECE, readForecast, writeForecast } from "../src/coordinator/forecast/forecast-records.ts";
import type { StagingUplink } from "../src/coordinator/forecast/staging-desk.ts";
import { FallowError } from "../src/domain/fault.ts";
import type { MetaStore } from "../src/ports/store.ts";
import { DemandModel } from "../src/scheduler/forecast/demand-model.ts";
import { HOUR_MS } from "../src/scheduler/forecast/life-table.ts";
import { ReuseForecast } from "../src/scheduler/forecast/reuse-forecast.ts";
import { SurvivalModel } from "../src/scheduler/forecast/survival-model.ts";
import { simLog } from "../src/sim/sim-log.ts";
import { WIRE_BOUNDS } from "../src/wire/agent-link.ts";
import { DispatchGrid } from "./support/dispatch-grid.ts";
import { replica } from "./support/membership-grid.ts";

const MINUTE_MS = 60_000;

async function openOn(
  grid: DispatchGrid,
  change: {
    options?: Partial<ForecastOptions>;
    meta?: Pick<MetaStore, "get" | "set">;
    warnings?: string[];
    uplink?: StagingUplink;
  } = {},
): Promise<Forecast> {
  const { clock, registry: roster, model } = grid;
  const log = simLog(({ level, event }) => {
    if (level === "warn") change.warnings?.push(event);
  });
  const meta = change.meta ?? grid.store.meta;
  const served = [model];
  const models = { list: () => served };
  return grid.settled(Forecast.open({ clock, log, meta, roster, models, ...uplinkOf(change) }, change.options));
}

function uplinkOf({ uplink }: { uplink?: StagingUplink }): { uplink?: StagingUplink } {
  return uplink === undefined ? {} : { uplink };
}

async function askedOften(grid: DispatchGrid, forecast: Forecast): Promise<void> {
  const { modelId } = grid.model.manifest;
  for (let at = 0; at < 200; at++) {
    forecast.noteRequest({ modelId });
    await grid.run(1_000);
  }
}

describe("nodes", () => {
  test("one that takes work is given a chance to stay, and none once it is gone or its owner is back", async () => {
    const grid = new DispatchGrid();
    const forecast = await openOn(grid);
    await grid.start();
    const [first, second] = [await grid.addAgent(), await grid.addAgent()];
    for (const { nodeId } of [first, second]) {
      expect(forecast.stayChance(nodeId)).toBeGreaterThan(0.5);
      expect(forecast.stayChance(nodeId)).toBeLessThan(1);
    }
    await first.agent.yieldNow("the owner is back");
    await grid.run(100);
    expect(forecast.stayChance(first.nodeId)).toBeNull();
    first.agent.resume();
    await grid.run(100);
    expect(forecast.stayChance(first.nodeId)).toBeGreaterThan(0.5);
    grid.kill(second);
    await grid.run(10_000);
    expect(forecast.stayChance(second.nodeId)).toBeNull();
    expect(forecast.stats().nodesKnown).toBe(2);
  });

  test("one that stays is trusted on, and one whose owner comes back again and again is not", async () => {
    const grid = new DispatchGrid();
    const forecast = await openOn(grid);
    await grid.start();
    const [steady, flighty] = [await grid.addAgent(), await grid.addAgent()];
    for (let round = 0; round < 40; round++) {
      await flighty.agent.yieldNow("the owner is back");
      await grid.run(MINUTE_MS);
      flighty.agent.resume();
      await grid.run(5 * MINUTE_MS);
    }
    expect(forecast.stayChance(steady.nodeId)).toBeGreaterThan(0.9);
    expect(forecast.stayChance(flighty.nodeId)).toBeLessThan(0.4);
    const q10 = forecast.remainingLifeMs(flighty.nodeId, 0.1) ?? Number.NaN;
    expect(q10).toBeLessThan(10 * MINUTE_MS);
  });
});

describe("staging", () => {
  test("a model that is asked for is brought to a node that stays, once, and the load that uses it is counted", async () => {
    const grid = new DispatchGrid();
    const forecast = await openOn(grid);
    await grid.start();
    const { nodeId } = await grid.addAgent();
    await askedOften(grid, forecast);
    const { fileBytes, weightsSha256 } = grid.model.manifest;
    expect(forecast.stats()).toMatchObject({ ordered: 1, stagedBytes: fileBytes, coldStartsAvoided: 0, failed: 0 });
    expect(forecast.cachedWeights(nodeId)).toEqual(new Set([weightsSha256]));
    const asked = grid.ask();
    await grid.untilOver(asked);
    expect(asked.outcome()?.kind).toBe("end");
    expect(forecast.stats()).toMatchObject({ ordered: 1, coldStartsAvoided: 1, wastedBytes: 0 });
  });

  test("nothing is staged that nobody asks for, nor where its bytes cost more than they save", async () => {
    for (const isAsked of [false, true]) {
      const grid = new DispatchGrid();
      const prices = { microUsdPerColdSecond: 1, microUsdPerGigabyte: 1_000_000 };
      const forecast = await openOn(grid, isAsked ? { options: { prices } } : {});
      await grid.start();
      await grid.addAgent();
      if (isAsked) await askedOften(grid, forecast);
      else await grid.run(10 * MINUTE_MS);
      expect(forecast.stats().ordered).toBe(0);
    }
  });

  test("what a node tells of files that no model here has is nothing to a plan", async () => {
    const grid = new DispatchGrid();
    const forecast = await openOn(grid);
    await grid.start();
    const { peer, nodeId } = await grid.handDrivenNode();
    const { weightsSha256, fileBytes } = grid.model.manifest;
    const foreign = Array.from({ length: WIRE_BOUNDS.weightsPerNodeMax - 1 }, (_, at) => ({
      weightsSha256: at.toString(16).padStart(64, "f"),
      fileBytes: Number.MAX_SAFE_INTEGER,
      state: "cached",
    }));
    await peer.say({
      type: "weights.state",
      weights: [...foreign, { weightsSha256, fileBytes, state: "cached" }],
      freeBytes: Number.MAX_SAFE_INTEGER,
    });
    await grid.run(100);
    expect([...(forecast.cachedWeights(nodeId) ?? [])]).toEqual([weightsSha256]);
  });

  test("nothing is staged while the source gives what somebody waits for, or a node loads that has nobody else to ask", async () => {
    for (const { isUrgent, isPeer, orders } of [
      { isUrgent: true, isPeer: true, orders: 0 },
      { isUrgent: false, isPeer: false, orders: 0 },
      { isUrgent: false, isPeer: true, orders: 1 },
    ]) {
      const grid = new DispatchGrid();
      const uplink = { isSourceUrgent: () => isUrgent, isPeer: () => isPeer };
      const forecast = await openOn(grid, { uplink });
      await grid.start();
      await grid.addAgent();
      const { peer } = await grid.handDrivenNode({ state: "loading" });
      const loading = replica({ state: "loading", weightsSha256: "ab".repeat(32), deviceId: "cpu" });
      const beat = { type: "heartbeat", isYielding: false, memoryFreeBytes: 0, replicas: [loading] };
      for (let seq = 0; seq < 120; seq++) {
        await peer.say({ ...beat, seq, sentAtMs: 0 });
        forecast.noteRequest({ modelId: grid.model.manifest.modelId });
        await grid.run(1_000);
      }
      expect(forecast.stats().ordered).toBe(orders);
    }
  });

  test("a node that never stays long enough gets nothing", async () => {
    const grid = new DispatchGrid();
    // The copy would take an hour here.
    const forecast = await openOn(grid, { options: { fetchBytesPerSecond: 300 } });
    await grid.start();
    const { agent } = await grid.addAgent();
    for (let round = 0; round < 40; round++) {
      await agent.yieldNow("the owner is back");
      await grid.run(MINUTE_MS);
      agent.resume();
      await grid.run(5 * MINUTE_MS);
    }
    await askedOften(grid, forecast);
    expect(forecast.stats().ordered).toBe(0);
  });
});

describe("over restarts", () => {
  test("a killed coordinator's successor goes on with what was kept, and a node that is back has been up all along", async () => {
    const grid = new DispatchGrid();
    await openOn(grid);
    await grid.start();
    const { nodeId } = await grid.addAgent();
    await grid.run(5 * HOUR_MS);
    await grid.restart({ downMs: 2_000 });
    const forecast = await openOn(grid);
    await grid.run(20_000);
    const fresh = new SurvivalModel();
    fresh.observe({ nodeId, cohort: "", utcOffsetMinutes: 0 }, "up", 0);
    expect(forecast.stats().nodesKnown).toBe(1);
    expect(forecast.stayChance(nodeId)).toBeGreaterThan(fresh.stayChance(nodeId, 0, HOUR_MS));
    await grid.run(2 * MINUTE_MS);
    expect(forecast.stayChance(nodeId)).not.toBeNull();
  });

  test("a node that does not come back was last seen when the state was kept, and has not left", async () => {
    const grid = new DispatchGrid();
    await openOn(grid);
    await grid.start();
    const agent = await grid.addAgent();
    await grid.run(HOUR_MS);
    grid.kill(agent);
    await grid.restart({ downMs: 2_000 });
    const forecast = await openOn(grid);
    await grid.run(2 * MINUTE_MS);
    expect(forecast.stayChance(agent.nodeId)).toBeNull();
    await grid.settled(forecast.stop());
    const { state } = await grid.settled(readForecast(grid.store.meta));
    expect(state?.survival.core.grid.departures.every((count) => count === 0)).toBe(true);
  });

  test.each([
    ["is no JSON", "{"],
    ["is another version's", '{"version":99}'],
    ["is not ours", '"hello"'],
  ])("a record that %s is warned about, and all is learned anew", async (_name, text) => {
    const grid = new DispatchGrid();
    await grid.settled(grid.store.meta.set("forecast", text));
    const warnings: string[] = [];
    const forecast = await openOn(grid, { warnings });
    expect(warnings).toEqual(["forecast begins anew: what was kept cannot be used"]);
    expect(forecast.stats().nodesKnown).toBe(0);
  });

  test("a store that fails costs what would have been kept, and nothing else", async () => {
    const grid = new DispatchGrid();
    const warnings: string[] = [];
    const fail = () => Promise.reject(new FallowError("store-unavailable", "the disk is gone"));
    const forecast = await openOn(grid, { meta: { get: fail, set: fail }, warnings });
    await grid.start();
    const { nodeId } = await grid.addAgent();
    await grid.run(6 * MINUTE_MS);
    expect(warnings).toEqual(["forecast begins anew: what was kept cannot be read", "forecast not kept"]);
    expect(forecast.stayChance(nodeId)).not.toBeNull();
    await grid.settled(forecast.stop());
  });

  test("a grid of many nodes is kept in pieces and read back whole, and a piece that is missing is not overlooked", async () => {
    const grid = new DispatchGrid();
    const { meta } = grid.store;
    const model = new SurvivalModel();
    const nodes = 2 * NODES_PER_PIECE + 1;
    for (let at = 0; at < nodes; at++) {
      model.observe({ nodeId: `n${at}`, cohort: "gpu", utcOffsetMinutes: 60 }, "up", at * 1_000);
    }
    model.advance(10 * HOUR_MS);
    const learned = { demand: new DemandModel().snapshot(), reuse: new ReuseForecast().snapshot() };
    const survival = { core: model.core(), rows: model.rows(), size: model.size };
    await grid.settled(writeForecast(meta, { savedAtMs: 10 * HOUR_MS, survival, ...learned }));
    const { state, problem } = await grid.settled(readForecast(meta));
    expect(problem).toBeNull();
    expect(state?.survival.nodes).toEqual([...model.rows()]);
    expect(state?.survival.core).toEqual(model.core());
    await grid.settled(meta.set("forecast-nodes-2", "[]x"));
    expect((await grid.settled(readForecast(meta))).problem).toContain("piece 2");
  });
});
