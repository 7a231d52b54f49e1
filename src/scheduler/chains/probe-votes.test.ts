import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { nodeId } from "../../domain/ids.ts";
import { type ProbeFinding, type ProbePoint, ProbeVotes, type Witness } from "./probe-votes.ts";

/** What is given at a place: numbers that are near are alike. */
const votes = () => new ProbeVotes<number>((a, b) => Math.abs(a - b) < 1);
const node = (index: number): Witness => ({
  nodeId: nodeId(`node_${index.toString(16).padStart(32, "0")}`),
  owner: `owner ${index}`,
});
const [A, B, C, D, E] = [node(1), node(2), node(3), node(4), node(5)];

/** A chain of stages, each with what it gave; the last point is the answer. */
function chain(...stages: readonly (readonly [Witness, number | null])[]): readonly ProbePoint<number>[] {
  return stages.map(([author, value], at) => {
    return { key: `layer ${at}`, author, reporter: stages[at + 1]?.[0] ?? author, value };
  });
}

const named = (findings: readonly ProbeFinding[]) => findings.map(({ nodeId: id, why }) => [id, why]);

describe("votes on probes", () => {
  test("believe the first, and name nobody while all agree", () => {
    const book = votes();
    expect(book.judge(chain([A, 10], [B, 20], [C, 30]))).toEqual([]);
    expect(book.judge(chain([A, 10.4], [D, 20.4], [C, 29.6]))).toEqual([]);
    expect(book.judge(chain([A, 10], [B, 20], [C, 30]))).toEqual([]);
  });

  test("name the stage behind which it first differs, and nobody behind it", () => {
    const book = votes();
    book.judge(chain([A, 10], [B, 20], [C, 30]));
    book.judge(chain([A, 10], [D, 20], [C, 30]));
    expect(named(book.judge(chain([A, 10], [E, 77], [C, 99])))).toEqual([[E.nodeId, "outvoted"]]);
  });

  test("name the last stage by its answer", () => {
    const book = votes();
    book.judge(chain([A, 10], [B, 20]));
    book.judge(chain([A, 10], [C, 20]));
    expect(named(book.judge(chain([A, 10], [D, 50])))).toEqual([[D.nodeId, "outvoted"]]);
  });

  test("hold a tie against who came last, once, and let the third decide", () => {
    const book = votes();
    book.judge(chain([A, 66], [C, 99]));
    expect(named(book.judge(chain([B, 10], [C, 30])))).toEqual([[B.nodeId, "tie"]]);
    expect(book.judge(chain([B, 10], [C, 30]))).toEqual([]);
    expect(named(book.judge(chain([D, 10], [C, 30])))).toEqual([[A.nodeId, "outvoted"]]);
    // What C made of A's garbage counts against nobody.
    expect(book.judge(chain([D, 10], [E, 30]))).toEqual([]);
  });

  test("name the stage that lies about what it got, when what it gives is right", () => {
    const book = votes();
    book.judge(chain([A, 10], [B, 20], [C, 30]));
    book.judge(chain([D, 10], [E, 20], [C, 30]));
    // B tells that A gave 66, and computes with what A gave.
    expect(named(book.judge(chain([A, 66], [B, 20], [C, 30])))).toEqual([[B.nodeId, "false-report"]]);
  });

  test("name, of several stages that may be to blame, the one with whom nobody ever agreed", () => {
    const book = votes();
    book.judge(chain([A, 10], [B, 20], [C, 30]));
    book.judge(chain([A, 10], [D, 20], [C, 30]));
    expect(named(book.judge(chain([E, null], [B, 77], [C, 99])))).toEqual([[E.nodeId, "tie"]]);
    expect(book.judge(chain([node(8), null], [node(9), 88], [C, 99]))).toEqual([]);
  });

  test("count owners before nodes", () => {
    const book = votes();
    const [one, two, three] = [1, 2, 3].map((index) => ({ ...node(index + 20), owner: "same" }));
    if (one === undefined || two === undefined || three === undefined) throw new Error("three nodes");
    book.judge(chain([A, 10], [E, 20]));
    book.judge(chain([B, 10], [E, 20]));
    for (const liar of [one, two, three]) {
      expect(named(book.judge(chain([liar, 66], [E, 99])))).toEqual([[liar.nodeId, "outvoted"]]);
    }
    expect(book.judge(chain([D, 10], [E, 20]))).toEqual(
      [one, two, three].map(({ nodeId: id }) => ({ nodeId: id, why: "outvoted", key: "layer 0" })),
    );
  });

  test("always name a single liar among three for sure, and nobody else, in whatever order they come", () => {
    const places = fc.integer({ min: 1, max: 5 });
    const orders = fc.shuffledSubarray([A, B, C], { minLength: 3 });
    const jitter = fc.array(fc.double({ min: -0.45, max: 0.45, noNaN: true }), { minLength: 40, maxLength: 40 });
    fc.assert(
      fc.property(places, orders, fc.constantFrom(A, B, C), fc.nat(), jitter, (length, order, liar, at, noise) => {
        const book = votes();
        const liesAt = at % length;
        const findings = order.flatMap((who, round) => {
          // The others of the chain are the same each time, and honest: what they make of garbage is garbage.
          const stages = Array.from({ length }, (_, place): readonly [Witness, number] => {
            const isSpoilt = who === liar && place >= liesAt;
            const right = place * 10 + (noise[(round * length + place) % noise.length] ?? 0);
            return [place === liesAt ? who : node(100 + place), isSpoilt ? 1_000 + place * 10 : right];
          });
          return book.judge(chain(...stages));
        });
        const sure = new Set(findings.filter(({ why }) => why !== "tie").map(({ nodeId: id }) => id));
        expect([...sure]).toEqual([liar.nodeId]);
        // A tie is told at most once, and only where the liar came first.
        const ties = findings.filter(({ why, nodeId: id }) => why === "tie" && id !== liar.nodeId);
        expect(ties.length).toBeLessThanOrEqual(order[0] === liar ? 1 : 0);
      }),
    );
  });

  test("never name honest nodes, however many there are and wherever their engines round", () => {
    const runs = fc.array(
      fc.array(fc.record({ who: fc.nat(7), noise: fc.double({ min: -0.45, max: 0.45, noNaN: true }) }), {
        minLength: 2,
        maxLength: 4,
      }),
      { maxLength: 30 },
    );
    fc.assert(
      fc.property(runs, (all) => {
        const book = votes();
        for (const run of all) {
          const stages = run.map(({ who, noise }, place): readonly [Witness, number] => [
            node(who),
            place * 10 + noise,
          ]);
          expect(book.judge(chain(...stages))).toEqual([]);
        }
      }),
    );
  });
});
