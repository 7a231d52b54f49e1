import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  ASK,
  distances,
  nodeNamed,
  PLAIN,
  replicaNamed,
  requests,
  traitsOfNodes,
  traitsOfReplicas,
  WARM,
} from "../../../test/support/matching-draws.ts";
import { matchExhaustively } from "./exhaustive.ts";
import { MatchScratch, matchReplica } from "./match.ts";
import { MatchIndex } from "./match-index.ts";
import type { NodeTraits } from "./node-table.ts";

describe("long lists of the matcher", () => {
  test("where each of several regions has many that could take it, the best of all is met, while leases fill them up and nodes come and go", () => {
    const grids = fc.record({
      nodes: fc.array(traitsOfNodes, { minLength: 40, maxLength: 60 }),
      replicas: fc.array(traitsOfReplicas, { minLength: 60, maxLength: 60 }),
      asked: fc.array(requests, { minLength: 40, maxLength: 80 }),
      news: fc.array(
        fc.record({
          at: fc.nat(59),
          rttMs: fc.nat(300),
          availability: fc.constantFrom<NodeTraits["availability"]>("takes-work", "suspect"),
        }),
        { minLength: 80, maxLength: 80 },
      ),
    });
    fc.assert(
      fc.property(grids, ({ nodes, replicas, asked, news }) => {
        const index = new MatchIndex();
        distances(index);
        for (const [at, traits] of nodes.entries()) {
          index.upsertNode({ nodeId: nodeNamed(at), ...traits, availability: "takes-work" });
          const ids = { replicaId: replicaNamed(at), nodeId: nodeNamed(at), modelId: ASK.modelId };
          index.upsertReplica({ ...WARM, ...replicas[at], ...ids });
        }
        const scratch = new MatchScratch();
        for (const [at, one] of asked.entries()) {
          const heard = news[at];
          const node = nodeNamed(heard?.at ?? 0);
          if (at % 2 === 0) index.heartbeat(node, { rttMs: heard?.rttMs ?? 0 });
          else index.setAvailability(node, heard?.availability ?? "takes-work");
          const request = { ...one, modelId: ASK.modelId };
          const best = matchExhaustively(index, request);
          const chosen = matchReplica(index, request, scratch);
          expect(chosen === -1).toBe(best.replica === -1);
          if (chosen === -1) continue;
          expect(Math.abs(scratch.bestMs - best.scoreMs)).toBeLessThanOrEqual(1e-9);
          index.setLeasedOf(chosen, index.replicas.slotsLeased(chosen) + 1);
        }
      }),
      { numRuns: 40 },
    );
  });

  test("a list that grows and shrinks by dozens while it is read at all horizons finds what an exhaustive search finds", () => {
    const members = 60;
    const steps = fc.array(
      fc.record({
        at: fc.nat(members - 1),
        what: fc.constantFrom("comes", "comes", "leased", "leased", "leased", "beat", "goes"),
        amount: fc.nat(4),
        // Seldom enough that the order of a long horizon misses more changes than a log has lines for.
        remainingMs: fc.oneof(
          { weight: 40, arbitrary: fc.constant(null) },
          { weight: 8, arbitrary: fc.constant(1_000) },
          { weight: 1, arbitrary: fc.constantFrom(90_000, 1_000_000, 20_000_000) },
        ),
      }),
      { minLength: 300, maxLength: 1_000 },
    );
    fc.assert(
      fc.property(steps, (list) => {
        const index = new MatchIndex();
        const scratch = new MatchScratch();
        let sizeMax = 0;
        for (const { at, what, amount, remainingMs } of list) {
          const node = nodeNamed(at);
          if (what === "comes") {
            index.upsertNode({ ...PLAIN, nodeId: node, rttMs: 7 * at + amount, stayChancePerHour: 0.5 + amount / 10 });
            const ids = { replicaId: replicaNamed(at), nodeId: node, modelId: ASK.modelId };
            index.upsertReplica({ ...WARM, ...ids, slotsLeased: amount });
          }
          if (what === "leased") index.setLeased(replicaNamed(at), amount);
          if (what === "beat") index.heartbeat(node, { rttMs: 100 * amount });
          if (what === "goes") index.removeNode(node);
          sizeMax = Math.max(sizeMax, index.replicas.ids.size);
          if (remainingMs === null) continue;
          const request = { ...ASK, remainingMs, seed: at };
          const best = matchExhaustively(index, request);
          expect(matchReplica(index, request, scratch) === -1).toBe(best.replica === -1);
          if (best.replica !== -1) expect(scratch.bestMs).toBeCloseTo(best.scoreMs, 9);
        }
        // More than a log has room for at first.
        expect(sizeMax).toBeGreaterThan(16);
      }),
      { numRuns: 60 },
    );
  });

  test("an order that missed a change before the list's log grew does not believe that it saw all", () => {
    const index = new MatchIndex();
    const comes = (at: number) => {
      index.upsertNode({ ...PLAIN, nodeId: nodeNamed(at), rttMs: 100 + 20 * at });
      const ids = { replicaId: replicaNamed(at), nodeId: nodeNamed(at), modelId: ASK.modelId };
      index.upsertReplica({ ...WARM, ...ids });
    };
    for (let at = 0; at < 16; at++) comes(at);
    const best = () => {
      const chosen = matchReplica(index, ASK, new MatchScratch());
      return chosen === -1 ? null : index.replicas.ids.key(chosen);
    };
    expect(best()).toBe(replicaNamed(0));
    index.heartbeat(nodeNamed(15), { rttMs: 1 });
    for (let at = 1; at < 15; at++) index.heartbeat(nodeNamed(at), { rttMs: 1_000 + at });
    for (let at = 1; at < 4; at++) index.heartbeat(nodeNamed(at), { rttMs: 2_000 + at });
    comes(16);
    expect(best()).toBe(replicaNamed(15));
  });
});
