import fc from "fast-check";
import { expect, test } from "vitest";
import { tinyInstance } from "../../../bench/lib/tiny-instances.ts";
import { clusterTables } from "./cluster-tables.ts";
import { emptyDraft } from "./draft.ts";
import { coverageSurvival } from "./survival.ts";

const LAYERS = 5;

test("the chance that every layer keeps a holder is the sum over all ways in which nodes may leave", () => {
  const holder = fc.record({
    first: fc.nat(LAYERS - 1),
    held: fc.integer({ min: 1, max: LAYERS }),
    stays: fc.double({ min: 0, max: 1, noNaN: true }),
  });
  fc.assert(
    fc.property(fc.array(holder, { minLength: 1, maxLength: 6 }), (holders) => {
      const base = tinyInstance(1);
      const [some] = base.nodes;
      if (some === undefined) throw new Error("an instance has nodes");
      const nodes = holders.map(({ stays }, at) => ({ ...some, id: `n${at}`, survivalPerHour: stays }));
      const tables = clusterTables({ ...base, model: { ...base.model, layerCount: LAYERS }, nodes, links: [] });
      const draft = emptyDraft(nodes.length);
      for (const [at, { first, held }] of holders.entries()) {
        draft.first[at] = first;
        draft.end[at] = Math.min(LAYERS, first + held);
      }
      let expected = 0;
      for (let mask = 0; mask < 1 << nodes.length; mask++) {
        const isLeft = (at: number): boolean => ((mask >> at) & 1) === 1;
        const chance = nodes.reduce(
          (product, { survivalPerHour }, at) => product * (isLeft(at) ? survivalPerHour : 1 - survivalPerHour),
          1,
        );
        const isCovered = Array.from({ length: LAYERS }, (_, layer) =>
          nodes.some((_node, at) => isLeft(at) && (draft.first[at] ?? 0) <= layer && layer < (draft.end[at] ?? 0)),
        ).every(Boolean);
        if (isCovered) expected += chance;
      }
      expect(coverageSurvival(tables, draft, 1)).toBeCloseTo(expected, 9);
    }),
    { numRuns: 200 },
  );
});
