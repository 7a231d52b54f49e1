import { expect, test } from "vitest";
import { SERVED_MIX } from "../policies/served-mix.ts";
import { OWNER_GPUS } from "../scenario/gpu-classes.ts";
import { EventQueue } from "./event-queue.ts";
import type { GridNode, StagePlan } from "./grid-parts.ts";
import { StageLoader } from "./stage-loader.ts";
import { usableBytesOf } from "./stage-speed.ts";

const HOUR_MS = 3_600_000;
const GB = 1e9;

function setUp() {
  const [gpu] = OWNER_GPUS;
  if (gpu === undefined) throw new Error("there is a class of machines");
  const node: GridNode = {
    index: 0,
    draw: {
      name: "n",
      gpu,
      region: 0,
      owner: "n",
      cohort: "n",
      zoneHours: 0,
      downBytesPerMs: 12_500,
      upBytesPerMs: 12_500,
      diskReadBytesPerMs: 1_000_000,
      diskBytes: 100 * GB,
      availability: { intervals: [], keepsDisk: true },
    },
    isUp: true,
    upSinceMs: 0,
    life: 1,
    stages: [],
    disk: new Map(),
    diskUsedAtMs: new Map(),
    prefillFreeAtMs: 0,
    fetch: null,
    loading: null,
    busyStages: 0,
  };
  const queue = new EventQueue(0);
  const loader = new StageLoader({
    queue,
    models: SERVED_MIX,
    hooks: { onReady: () => undefined, onCut: () => undefined },
  });
  const whole = (model: number, memoryBytes: number): StagePlan => ({
    model,
    first: 0,
    end: SERVED_MIX[model]?.layerCount ?? 0,
    memoryBytes,
  });
  const heldBytes = () =>
    node.stages.reduce((sum, { isLeaving, memoryBytes }) => sum + (isLeaving ? 0 : memoryBytes), 0);
  return { node, queue, loader, whole, heldBytes, usableBytes: usableBytesOf(gpu) };
}

test("a stage that goes on serving until another is fetched is not kept in the place of a smaller one", () => {
  const { node, queue, loader, whole, heldBytes, usableBytes } = setUp();
  loader.want(node, [whole(0, usableBytes)]);
  queue.run(HOUR_MS);
  expect(node.stages.map(({ state }) => state)).toEqual(["ready"]);
  loader.want(node, [whole(1, 4 * GB)]);
  expect(node.stages.map(({ model, state, isLeaving }) => ({ model, state, isLeaving }))).toEqual([
    { model: 0, state: "ready", isLeaving: true },
    { model: 1, state: "fetching", isLeaving: false },
  ]);
  loader.want(node, [whole(1, 4 * GB), whole(0, 6 * GB)]);
  expect(heldBytes()).toBe(10 * GB);
  queue.run(2 * HOUR_MS);
  expect(node.stages.map(({ model, state, memoryBytes }) => ({ model, state, memoryBytes }))).toEqual([
    { model: 1, state: "ready", memoryBytes: 4 * GB },
    { model: 0, state: "ready", memoryBytes: 6 * GB },
  ]);
});

test("a machine is never told to hold more than its memory", () => {
  const { node, loader, whole, usableBytes } = setUp();
  expect(() => loader.want(node, [whole(0, usableBytes), whole(1, 4 * GB)])).toThrow(/room for what is planned/);
});
