import { expect, test } from "vitest";
import { stageMs } from "./head-seat.ts";

const stages = [0, 1, 2].map((at) => ({
  replicaId: `rep_${String(at).padStart(26, "0")}`,
  nodeId: `node_${String(at).padStart(32, "0")}`,
  publicKey: "0".repeat(64),
  endpoints: { tcp: [], hasUdp: false },
  first: at,
  count: 1,
}));
const engine = (singleMs: number | null) => ({
  stats: () => ({
    ...{ sequencesOpen: 0, passesQueued: 0, positionsDecoded: 0, promptMsPerPosition: null, cpuMs: 0, memoryBytes: 0 },
    singleMs,
  }),
});

test("the other stages are taken for as quick as the first one until it is told of them", () => {
  expect(stageMs({ chain: () => ({ stages }) }, engine(4))).toEqual({ slowestMs: 4, sumMs: 12 });
  expect(stageMs({ chain: () => ({ stages }) }, engine(null))).toBeNull();
  const told = { stages, times: { slowestMs: 20, sumMs: 30 } };
  expect(stageMs({ chain: () => told }, engine(4))).toEqual({ slowestMs: 20, sumMs: 30 });
  expect(stageMs({ chain: () => told }, engine(25))).toEqual({ slowestMs: 25, sumMs: 30 });
});
