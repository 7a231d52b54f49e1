import fc from "fast-check";
import { expect, test } from "vitest";
import type { GridNode, Hop, Stage } from "../grid/grid-parts.ts";
import { OWNER_GPUS } from "../scenario/gpu-classes.ts";
import { routeOver } from "./route-over.ts";
import { SERVED_MIX } from "./served-mix.ts";

const LAYERS = 6;
const [GPU] = OWNER_GPUS;
const [SPEC] = SERVED_MIX;
if (GPU === undefined || SPEC === undefined) throw new Error("there are machines and models");
const NODE: GridNode = {
  index: 0,
  draw: {
    name: "n",
    gpu: GPU,
    region: 0,
    owner: "n",
    cohort: "n",
    zoneHours: 0,
    downBytesPerMs: 1,
    upBytesPerMs: 1,
    diskReadBytesPerMs: 1,
    diskBytes: 1,
    availability: { intervals: [], keepsDisk: true },
  },
  isUp: true,
  upSinceMs: 0,
  life: 0,
  stages: [],
  disk: new Map(),
  diskUsedAtMs: new Map(),
  prefillFreeAtMs: 0,
  fetch: null,
  loading: null,
  busyStages: 0,
};

function stageOf(first: number, end: number, number: number): Stage {
  return {
    model: 0,
    first,
    end,
    memoryBytes: 1,
    number,
    node: NODE,
    spec: SPEC ?? fail(),
    weightsBytes: 1,
    state: "ready",
    isLeaving: false,
    isClosed: false,
    sequences: new Set(),
    kvTokensMax: 1,
    kvTokens: 0,
    bucket: 0,
    lastUsedAtMs: 0,
    readyAtMs: 0,
  };
}

function fail(): never {
  throw new Error("there is a model");
}

/** Every path through the stages, by brute force. */
function allPaths(stages: readonly Stage[], at: number): Hop[][] {
  if (at === LAYERS) return [[]];
  return stages
    .filter(({ first, end }) => first <= at && end > at)
    .flatMap((stage) => allPaths(stages, stage.end).map((rest) => [{ stage, first: at }, ...rest]));
}

const drawn = fc.array(fc.tuple(fc.nat(LAYERS - 1), fc.integer({ min: 1, max: LAYERS }), fc.nat(9)), { maxLength: 7 });

test("the way found is as cheap as the cheapest of all, and there is one exactly when there is any", () => {
  fc.assert(
    fc.property(drawn, fc.nat(5), (raw, hopCost) => {
      const stages = raw.flatMap(([first, length], number) =>
        first + length <= LAYERS ? [stageOf(first, first + length, number)] : [],
      );
      const weight = (stage: Stage) => raw[stage.number]?.[2] ?? 0;
      const costs = {
        hop: (before: Stage | null, { stage, first }: Hop) =>
          (before === null ? 0 : hopCost) + weight(stage) * (stage.end - first),
        last: weight,
        hopsMax: LAYERS,
      };
      const costOf = (path: readonly Hop[]) =>
        path.reduce((sum, hop, at) => sum + costs.hop(path[at - 1]?.stage ?? null, hop), 0) +
        weight(path.at(-1)?.stage ?? fail());
      const found = routeOver(stages, LAYERS, costs);
      const all = allPaths(stages, 0);
      if (found === null) {
        expect(all).toEqual([]);
        return;
      }
      expect(costOf(found)).toBe(Math.min(...all.map(costOf)));
      found.forEach((hop, at) => {
        expect(hop.first).toBe(found[at - 1]?.stage.end ?? 0);
      });
    }),
  );
});

test("a way longer than the longest allowed is none", () => {
  const stages = [stageOf(0, 2, 0), stageOf(2, 4, 1), stageOf(4, 6, 2)];
  const costs = { hop: () => 1, last: () => 0 };
  expect(routeOver(stages, LAYERS, { ...costs, hopsMax: 3 })).toHaveLength(3);
  expect(routeOver(stages, LAYERS, { ...costs, hopsMax: 2 })).toBeNull();
});
