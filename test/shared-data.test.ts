/** The published clusters and traces, read whole: what their readme says of them is what the readers find. */
import { describe, expect, test } from "vitest";
import { readLatencyTable } from "../src/sim/traces/latency-table.ts";
import { readLoadLatencies, readModelTrace } from "../src/sim/traces/model-trace.ts";
import { readRequestTrace } from "../src/sim/traces/request-trace.ts";
import { readSpotSeries } from "../src/sim/traces/spot-series.ts";
import { parseClusterFile } from "../src/wire/cluster-file.ts";
import { findSharedData, readShared } from "./support/shared-data.ts";

const readOf = <T>(outcome: { ok: true; value: T } | { ok: false; reason: { message: string } }): T => {
  if (!outcome.ok) throw new Error(outcome.reason.message);
  return outcome.value;
};

describe.skipIf(findSharedData() === null)("measured data", () => {
  test.each([
    ["single24_70b", 24, 80],
    ["geo24_70b", 24, 80],
    ["abl10_30b", 10, 60],
  ])("the cluster %s is read without a warning", (name, nodes, layers) => {
    const { cluster, warnings } = readOf(parseClusterFile(readShared(`helix/${name}.json`), { name }));
    expect(warnings).toEqual([]);
    expect([cluster.nodes.length, cluster.model.layerCount]).toEqual([nodes, layers]);
    expect(cluster.links).toHaveLength(2 * nodes + nodes * (nodes - 1));
    expect([...cluster.layouts.keys()]).toEqual(["ilp", "petals", "swarm"]);
  });

  test("the request traces have their rows and lengths", () => {
    const conversation = readOf(
      readRequestTrace(readShared("traces/azure-llm-2023/AzureLLMInferenceTrace_conv.csv.gz")),
    );
    expect(conversation.requests).toHaveLength(10_108);
    expect(conversation.requests.at(-1)?.atSeconds).toBeCloseTo(1_799.9, 1);
    const code = readOf(readRequestTrace(readShared("traces/azure-llm-2023/AzureLLMInferenceTrace_code.csv.gz")));
    expect(code.requests).toHaveLength(8_819);
    const mooncake = readOf(readRequestTrace(readShared("traces/mooncake/synthetic_trace.jsonl.gz")));
    expect(mooncake.requests).toHaveLength(3_993);
    expect(mooncake.requests[0]?.prefixBlocks.length).toBe(Math.ceil(40_160 / 512));
  });

  test("the model trace has 14,164 requests with a model of 76", () => {
    const trace = readOf(readModelTrace(readShared("traces/alibaba-genai-2026/lora_request_trace.csv.gz")));
    expect([trace.requests.length, trace.skippedCount]).toEqual([14_164, 11]);
    expect(new Set(trace.requests.map(({ modelId }) => modelId)).size).toBe(76);
    const loads = readOf(
      readLoadLatencies(readShared("traces/alibaba-genai-2026/basemodel_update_latency_anon.csv.gz")),
    );
    expect(loads).toHaveLength(7_531);
  });

  test("a spot series and the latency table are whole", () => {
    const file = "spot-traces/preemption/1-node/aws-04-19-2023/us-east-1b_intel_64.json.gz";
    const series = readOf(readSpotSeries(readShared(`traces/${file}`), { name: file }));
    expect([series.available.length, series.gapSeconds, series.pricesUsdPerHour?.length]).toEqual([8_045, 34, 8_045]);
    const table = readOf(readLatencyTable(readShared("traces/latency/ibm-vpc-rtt-ms-2026-08.json")));
    expect([table.regions.length, table.rttMs.length]).toEqual([13, 13]);
  });
});
