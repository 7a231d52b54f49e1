import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  ASK,
  apply,
  type Change,
  changes,
  distances,
  gridOf,
  MODELS,
  nodeIndexes,
  nodeNamed,
  PLAIN,
  replicaNamed,
  replicaOf,
  requests,
  traitsOfNodes,
  traitsOfReplicas,
} from "../../../test/support/matching-draws.ts";
import { modelId, nodeId, type ReplicaId } from "../../domain/ids.ts";
import { matchExhaustively } from "./exhaustive.ts";
import { MatchScratch, matchReplica, PROBES_MAX } from "./match.ts";
import { MatchIndex } from "./match-index.ts";
import { queryOf, replicaScore } from "./match-query.ts";
import type { NodeTraits } from "./node-table.ts";
import type { ReplicaTraits } from "./replica-table.ts";
import { TIE_BAND_MS } from "./score.ts";

const histories = fc.array(changes, { minLength: 10, maxLength: 120 });

describe("laws of the matcher", () => {
  test("after every change it meets what an exhaustive search meets, and chooses within the tie band of it", () => {
    fc.assert(
      fc.property(histories, fc.array(requests, { minLength: 1, maxLength: 3 }), (list, asked) => {
        const index = new MatchIndex();
        distances(index);
        const scratch = new MatchScratch();
        for (const [at, change] of list.entries()) {
          apply(index, change);
          const request = asked[at % asked.length] ?? ASK;
          const best = matchExhaustively(index, request);
          const chosen = matchReplica(index, request, scratch);
          expect(chosen === -1).toBe(best.replica === -1);
          if (chosen === -1) continue;
          expect(best.feasible).toBeLessThanOrEqual(PROBES_MAX);
          expect(Math.abs(scratch.bestMs - best.scoreMs)).toBeLessThanOrEqual(1e-9);
          const chosenMs = replicaScore(index, queryOf(index, request), chosen);
          expect(chosenMs).toBeGreaterThanOrEqual(best.scoreMs - TIE_BAND_MS - 1e-9);
        }
      }),
      { numRuns: 300 },
    );
  });

  test("what is chosen breaks no rule, and is what the last change of it said", () => {
    fc.assert(
      fc.property(histories, requests, (list, request) => {
        const index = gridOf(list);
        const chosen = matchReplica(index, request, new MatchScratch());
        if (chosen === -1) return;
        const id = index.replicas.ids.key(chosen);
        const facts = lastFacts(list, id);
        expect(facts).not.toBeNull();
        if (facts === null) return;
        const { constraints } = request;
        expect(facts.availability).toBe("takes-work");
        expect(facts.isReady).toBe(true);
        expect(facts.slotsLeased).toBeLessThan(facts.slots);
        expect(facts.contextTokens).toBeGreaterThanOrEqual(request.tokensNeeded);
        expect(request.excludedNodeIds.has(facts.nodeId)).toBe(false);
        if (constraints.regions !== null) expect(constraints.regions).toContain(facts.region);
        expect(facts.trust ?? 1).toBeGreaterThanOrEqual(constraints.trustMin);
        expect(facts.priceMicroUsdPerHour ?? 0).toBeLessThanOrEqual(constraints.priceMicroUsdPerHourMax);
        expect(facts.decodeTokPerSecond ?? 0).toBeGreaterThanOrEqual(constraints.decodeTokPerSecondMin);
        if (constraints.gpuClasses !== null) expect(constraints.gpuClasses).toContain(facts.gpuClass);
        expect(constraints.excludedOwners.has(facts.owner ?? "nobody")).toBe(false);
        expect(constraints.excludedNetworks.has(facts.network ?? "nowhere")).toBe(false);
      }),
      { numRuns: 400 },
    );
  });

  test("the order in which facts about different nodes arrive changes nothing, nor do decisions in between", () => {
    const facts = fc
      .uniqueArray(fc.record({ at: nodeIndexes, traits: traitsOfNodes }), { selector: ({ at }) => at, minLength: 3 })
      .chain((nodes) =>
        fc.record({
          nodes: fc.constant(nodes),
          replicas: fc.array(traitsOfReplicas, { minLength: nodes.length, maxLength: nodes.length }),
          order: fc.shuffledSubarray([...nodes.keys()], { minLength: nodes.length }),
          request: requests,
          between: requests,
        }),
      );
    fc.assert(
      fc.property(facts, ({ nodes, replicas, order, request, between }) => {
        const choice = (places: readonly number[], isDisturbed: boolean): ReplicaId | null => {
          const index = new MatchIndex();
          distances(index);
          for (const place of places) {
            const node = nodes[place];
            const replica = replicas[place];
            if (node === undefined || replica === undefined) continue;
            apply(index, { kind: "node", ...node });
            apply(index, { kind: "replica", at: node.at, second: false, traits: replica });
            if (isDisturbed) apply(index, { kind: "look", request: between });
          }
          const chosen = matchReplica(index, { ...request, modelId: MODELS[0] ?? request.modelId }, new MatchScratch());
          return chosen === -1 ? null : index.replicas.ids.key(chosen);
        };
        expect(choice(order, true)).toBe(choice([...nodes.keys()], false));
      }),
      { numRuns: 300 },
    );
  });

  test("of many equals, more than a decision looks at, the same request finds the same one in any order of arrival", () => {
    const places = Array.from({ length: 300 }, (_, at) => at);
    const choice = (order: readonly number[], seed: number): ReplicaId => {
      const index = new MatchIndex();
      for (const at of order) {
        const region = at % 3 === 0 ? "eu" : "us";
        const traits = { ...PLAIN, nodeId: nodeId(`node_${at.toString(16).padStart(32, "0")}`), region };
        index.upsertNode(traits);
        index.upsertReplica({
          replicaId: replicaNamed(at),
          nodeId: traits.nodeId,
          modelId: modelId("small"),
          isReady: true,
          slots: 4,
          slotsLeased: 0,
          contextTokens: 100,
          layersCached: 1,
        });
      }
      const request = { ...ASK, seed };
      return index.replicas.ids.key(matchReplica(index, request, new MatchScratch()));
    };
    for (const seed of [1, 99, 123_456, 2 ** 31]) {
      expect(choice(places.toReversed(), seed)).toBe(choice(places, seed));
    }
  });
});

type Facts = Omit<NodeTraits, "nodeId"> & Omit<ReplicaTraits, "replicaId" | "modelId">;

/** What a reader of the history believes of a replica: null when it is gone. */
function lastFacts(list: readonly Change[], id: ReplicaId): Facts | null {
  let node: Omit<NodeTraits, "nodeId"> | null = null;
  let replica: Omit<ReplicaTraits, "replicaId" | "modelId"> | null = null;
  for (const change of list) {
    if (change.kind === "look") continue;
    const isNode = id === replicaOf(change.at, false) || id === replicaOf(change.at, true);
    if (!isNode) continue;
    if (change.kind === "node") node = change.traits;
    if (change.kind === "away" && node !== null) node = { ...node, availability: change.availability };
    if (change.kind === "gone" && change.second === null) [node, replica] = [null, null];
    if (!("second" in change) || change.second === null || replicaOf(change.at, change.second) !== id) continue;
    if (change.kind === "replica" && node !== null) replica = { ...change.traits, nodeId: nodeNamed(change.at) };
    if (change.kind === "leased" && replica !== null) replica = { ...replica, slotsLeased: change.slotsLeased };
    if (change.kind === "gone") replica = null;
  }
  return node === null || replica === null ? null : { ...node, ...replica };
}
