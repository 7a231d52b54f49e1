/**
 * Who of a chain gives what this model does not give. A probe passes through all stages, and each boundary between two of them, like the answer at the end,
 * is compared with what other nodes gave there for the same probe (same weights, same wire format). Most owners are right, then most nodes; a tie is held
 * against the one that came last.
 *
 * | at a boundary                              | then                                                                                          |
 * | ------------------------------------------ | --------------------------------------------------------------------------------------------- |
 * | nobody else is known                       | remembered                                                                                    |
 * | most others gave the same                  | all stages up to there are right; whoever gave another thing is named, and what hangs on it forgotten |
 * | most others gave another thing             | the stage before it is named, if the boundary before was right; remembered; the rest is not looked at |
 * | the same, and a boundary behind it is right| the stage that told of it lies: it computed with what was right                                  |
 *
 * Where several stages lie between the last boundary that was right and this one, it is the last of them if another stage made something else of the same;
 * else the only one of them that no other node ever agreed with; else
 * nobody. Not handled: the first of a model, while nobody else holds these layers, is right whatever it gives.
 */
import type { NodeId } from "../../domain/ids.ts";

export interface Witness {
  readonly nodeId: NodeId;
  /** Nodes of one owner count less than nodes of several. */
  readonly owner: string;
}

/** One place where a probe was looked at. */
export interface ProbePoint<T> {
  /** Weights, wire format, probe and layer. */
  readonly key: string;
  /** The stage whose work is seen there. */
  readonly author: Witness;
  /** Who told of it: the stage behind, or the author itself. */
  readonly reporter: Witness;
  /** Null: nothing was told. */
  readonly value: T | null;
}

export interface ProbeFinding {
  readonly nodeId: NodeId;
  /** `outvoted`: most others gave another thing. `tie`: as many; it came last. `false-report`: what it told is not what it got. */
  readonly why: "outvoted" | "tie" | "false-report";
  readonly key: string;
}

interface Testimony<T> {
  readonly author: Witness;
  /** All whose work may be in it. */
  readonly sources: readonly NodeId[];
  readonly value: T;
  /** What was given at the place before; null: not known, or there is none. */
  readonly input: { readonly key: string; readonly value: T } | null;
}

/** Of each place: more nodes than this never hold the same layers at a time. The oldest go first. */
const TESTIMONIES_MAX = 16;
/** Places that are remembered: tens of models with tens of boundaries and a few probes. */
const PLACES_MAX = 4_096;
/** Nodes that others agreed with. */
const VOUCHED_MAX = 4_096;

export class ProbeVotes<T> {
  readonly #isAlike: (a: T, b: T) => boolean;
  readonly #known = new Map<string, readonly Testimony<T>[]>();
  readonly #vouched = new Set<NodeId>();

  constructor(isAlike: (a: T, b: T) => boolean) {
    this.#isAlike = isAlike;
  }

  /** Of one probe, in the order of the layers. */
  judge(points: readonly ProbePoint<T>[]): readonly ProbeFinding[] {
    const findings: ProbeFinding[] = [];
    let unsure: readonly NodeId[] = [];
    let input: Testimony<T>["input"] = null;
    for (const [at, { key, author, reporter, value }] of points.entries()) {
      const { nodeId } = author;
      const sources = [...unsure.filter((one) => one !== nodeId), nodeId];
      unsure = sources;
      const testimony = value === null ? null : { author, sources, value, input };
      input = value === null ? null : { key, value };
      if (testimony === null) continue;
      const verdict = this.#compare(key, testimony);
      if (verdict.kind === "outvoted") {
        const isLie = this.#isRightLater(points.slice(at + 1));
        const named = isLie ? reporter.nodeId : this.#culprit(testimony, verdict.by);
        const isTold = isLie || verdict.why === "outvoted" || verdict.isNews;
        if (named !== null && isTold) findings.push({ nodeId: named, why: isLie ? "false-report" : verdict.why, key });
        if (!isLie) this.#keep(key, testimony);
        break;
      }
      if (verdict.kind === "right") {
        for (const wrong of verdict.wrong) {
          findings.push({ nodeId: wrong, why: "outvoted", key });
          this.#forgetWorkOf(wrong);
        }
        unsure = this.#vouchFor(testimony, verdict.agreed);
      }
      this.#keep(key, { ...testimony, sources: [...unsure.filter((one) => one !== nodeId), nodeId] });
    }
    return findings;
  }

  #compare(key: string, ours: Testimony<T>): Verdict<T> {
    const all = this.#known.get(key) ?? [];
    const others = all.filter(({ author }) => author.nodeId !== ours.author.nodeId);
    if (others.length === 0) return { kind: "first" };
    const isOurs = (one: Testimony<T>) => this.#isAlike(one.value, ours.value);
    const support = this.#support([...others, ours], ours.value);
    const against = others.filter((one) => !isOurs(one));
    const strengths = against.map((one) => ({ one, support: this.#support(against, one.value) }));
    const strongest = strengths.toSorted((a, b) => bySupport(a.support, b.support)).at(-1);
    const lead = bySupport(support, strongest?.support ?? NOBODY);
    if (strongest !== undefined && lead <= 0) {
      const before = all.find(({ author }) => author.nodeId === ours.author.nodeId);
      const by = against.filter((one) => this.#isAlike(one.value, strongest.one.value));
      return {
        kind: "outvoted",
        why: lead < 0 ? "outvoted" : "tie",
        isNews: before === undefined || !isOurs(before),
        by,
      };
    }
    const named = against.flatMap((one) => this.#culprit(one, [ours]) ?? []);
    this.#known.set(
      key,
      all.filter((one) => !against.includes(one)),
    );
    return { kind: "right", agreed: others.filter(isOurs), wrong: [...new Set(named)].sort() };
  }

  /** Whose work it is that one differs from the others; null when that is not clear. */
  #culprit(one: Testimony<T>, others: readonly Testimony<T>[]): NodeId | null {
    const { author, sources, input } = one;
    const hadSame = others.some((other) => {
      return input !== null && other.input?.key === input.key && this.#isAlike(other.input.value, input.value);
    });
    if (sources.length === 1 || hadSame) return author.nodeId;
    const doubtful = sources.filter((nodeId) => !this.#vouched.has(nodeId));
    return doubtful.length === 1 ? (doubtful[0] ?? null) : null;
  }

  /** Others gave the same: who worked on one of both alone is right. Answers with those who worked on all of them. */
  #vouchFor({ sources }: Testimony<T>, agreed: readonly Testimony<T>[]): readonly NodeId[] {
    const unsure = sources.filter((nodeId) => agreed.every((one) => one.sources.includes(nodeId)));
    for (const nodeId of [...agreed.flatMap((one) => one.sources), ...sources]) {
      if (!unsure.includes(nodeId)) this.#vouch(nodeId);
    }
    return unsure;
  }

  #isRightLater(points: readonly ProbePoint<T>[]): boolean {
    return points.some(({ key, author, value }) => {
      if (value === null) return false;
      const others = (this.#known.get(key) ?? []).filter((one) => one.author.nodeId !== author.nodeId);
      return others.some((one) => this.#isAlike(one.value, value));
    });
  }

  #support(testimonies: readonly Pick<Testimony<T>, "author" | "value">[], value: T): Support {
    const alike = testimonies.filter((one) => this.#isAlike(one.value, value)).map(({ author }) => author);
    return { owners: new Set(alike.map(({ owner }) => owner)).size, nodes: alike.length };
  }

  #keep(key: string, testimony: Testimony<T>): void {
    const others = (this.#known.get(key) ?? []).filter((one) => one.author.nodeId !== testimony.author.nodeId);
    this.#known.delete(key);
    this.#known.set(key, [...others, testimony].slice(-TESTIMONIES_MAX));
    const [oldest] = this.#known.keys();
    if (this.#known.size > PLACES_MAX && oldest !== undefined) this.#known.delete(oldest);
  }

  #vouch(nodeId: NodeId): void {
    this.#vouched.delete(nodeId);
    this.#vouched.add(nodeId);
    const [oldest] = this.#vouched;
    if (this.#vouched.size > VOUCHED_MAX && oldest !== undefined) this.#vouched.delete(oldest);
  }

  /** What others computed from its work tells nothing of them. */
  #forgetWorkOf(wrong: NodeId): void {
    this.#vouched.delete(wrong);
    for (const [key, all] of this.#known) {
      const kept = all.filter(({ sources }) => sources.length < 2 || !sources.includes(wrong));
      if (kept.length < all.length) this.#known.set(key, kept);
    }
  }
}

interface Support {
  readonly owners: number;
  readonly nodes: number;
}

const NOBODY: Support = { owners: 0, nodes: 0 };

function bySupport(a: Support, b: Support): number {
  return a.owners - b.owners || a.nodes - b.nodes;
}

type Verdict<T> =
  | { readonly kind: "first" }
  /** `agreed`: who gave the same; `wrong`: whose work is outvoted by it. */
  | { readonly kind: "right"; readonly agreed: readonly Testimony<T>[]; readonly wrong: readonly NodeId[] }
  /** `isNews`: it did not give this before. `by`: the strongest of those that differ. */
  | {
      readonly kind: "outvoted";
      readonly why: "outvoted" | "tie";
      readonly isNews: boolean;
      readonly by: readonly Testimony<T>[];
    };
