import fc from "fast-check";
import { expect, test } from "vitest";
import { MaxFlow } from "./max-flow.ts";

const VERTICES = 6;
const edges = fc.array(
  fc.record({ from: fc.nat(VERTICES - 1), to: fc.nat(VERTICES - 1), capacity: fc.integer({ min: 0, max: 20 }) }),
  { maxLength: 20 },
);

test("the flow equals the least cut, keeps every capacity and loses nothing on the way", () => {
  fc.assert(
    fc.property(edges, (drawn) => {
      const graph = new MaxFlow(VERTICES, 1);
      const real = drawn.filter(({ from, to }) => from !== to);
      const numbers = real.map(({ from, to, capacity }) => graph.addEdge(from, to, capacity));
      const flow = graph.run(0, VERTICES - 1);
      const balance = new Float64Array(VERTICES);
      for (const [at, { from, to, capacity }] of real.entries()) {
        const own = graph.flowOf(numbers[at] ?? 0);
        expect(own).toBeGreaterThanOrEqual(0);
        expect(own).toBeLessThanOrEqual(capacity);
        balance[from] = (balance[from] ?? 0) - own;
        balance[to] = (balance[to] ?? 0) + own;
      }
      for (let vertex = 1; vertex < VERTICES - 1; vertex++) expect(balance[vertex]).toBeCloseTo(0, 6);
      expect(balance[VERTICES - 1]).toBeCloseTo(flow, 6);
      let leastCut = Number.POSITIVE_INFINITY;
      for (let mask = 0; mask < 1 << (VERTICES - 2); mask++) {
        const isSource = (vertex: number): boolean =>
          vertex === 0 || (vertex < VERTICES - 1 && ((mask >> (vertex - 1)) & 1) === 1);
        const cut = real.reduce(
          (sum, { from, to, capacity }) => sum + (isSource(from) && !isSource(to) ? capacity : 0),
          0,
        );
        leastCut = Math.min(leastCut, cut);
      }
      expect(flow).toBeCloseTo(leastCut, 6);
    }),
    { numRuns: 300 },
  );
});
