import { expect, test } from "vitest";
import { nodeNamed, weightsOf } from "../../../test/support/placement-samples.ts";
import { modelId } from "../../domain/ids.ts";
import { planShares, type WantedShare } from "./share-plan.ts";

const GB = 1e9;
const PRICES = { microUsdPerColdSecond: 1_000, microUsdPerGigabyte: 10_000 };

function wanted(
  index: number,
  change: Partial<Omit<WantedShare, "node">> & { node?: Partial<WantedShare["node"]> } = {},
): WantedShare {
  const { node, ...rest } = change;
  return {
    modelId: modelId("a"),
    weightsSha256: weightsOf("a"),
    share: { first: 8 * index, count: 8, hasEmbedding: index === 0, hasOutput: false },
    shareBytes: 5 * GB,
    isThere: false,
    chainStayChance: 0.9,
    expectedRequests: 3,
    node: {
      nodeId: nodeNamed(index),
      isIdle: true,
      cached: new Set(),
      diskFreeBytes: 100 * GB,
      fetchBytesPerSecond: 12.5e6,
      memoryBytes: 16 * GB,
      stayChance: () => 0.95,
      ...node,
    },
    ...rest,
  };
}
const ordered = (shares: readonly WantedShare[], transfersFree = 10) =>
  planShares({ shares, prices: PRICES, transfersFree }).map(({ node, share }) => [node.nodeId, share.first]);

test("shares go to their nodes, those first whose fetch somebody would wait for longest", () => {
  const shares = [wanted(0), wanted(1, { shareBytes: 9 * GB }), wanted(2)];
  expect(ordered(shares)).toEqual([
    [nodeNamed(1), 8],
    [nodeNamed(0), 0],
    [nodeNamed(2), 16],
  ]);
  expect(ordered(shares, 1)).toEqual([[nodeNamed(1), 8]]);
  expect(ordered(shares, 0)).toEqual([]);
});

test("of two shares of one node the better one comes first, and the other waits", () => {
  const other = wanted(0, { modelId: modelId("b"), weightsSha256: weightsOf("b"), expectedRequests: 0.1 });
  expect(ordered([other, wanted(0)])).toEqual([[nodeNamed(0), 0]]);
});

test.each([
  ["is there", { isThere: true }],
  ["is of a model that is there whole", { node: { cached: new Set([weightsOf("a")]) } }],
  ["would go to a busy node", { node: { isIdle: false } }],
  ["does not fit the disk", { node: { diskFreeBytes: 4 * GB } }],
  ["would go to a node that may leave", { node: { stayChance: () => 0.7 } }],
  ["is of a chain that will not stay", { chainStayChance: 0.01 }],
  ["is of a model that nobody asks for", { expectedRequests: 0 }],
])("a share that %s is not ordered", (_why, change) => {
  expect(ordered([wanted(0, change)])).toEqual([]);
});
