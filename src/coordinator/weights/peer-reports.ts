/**
 * What nodes say of other nodes' uploads, and who is no longer named because of it.
 *
 * The word of one node is enough for itself: whom it reports is not named to it for a while. It is not enough for others, or a liar could
 * take honest nodes out of the grid. A node is quarantined, named to nobody, when `ACCUSERS_MIN` accusers that do not belong together (by
 * join code and by network) reported data that fails its digest or its length within `ACCUSATION_MS`. Accusers from the accused's own house
 * (one join code, one network) count one by one: in a lab all belong together, and whoever lies there lies about his own machines. An accuser
 * who blames more than `BLAMED_ALONE_MAX` nodes that nobody else blames is not counted. Only reports about a holder that the reporter was
 * granted count.
 *
 * | report                      | for the reporter        | for all                                |
 * | --------------------------- | ----------------------- | -------------------------------------- |
 * | bad-chunk, wrong-length     | not named for an hour   | counts towards quarantine              |
 * | breach                      | not named for an hour   | counted and shown                      |
 * | too-slow, unreachable       | not named for a minute  | counted                                |
 *
 * Quarantine lasts an hour, and twice as long each time it comes again within a day, at most a day.
 */
import type { NodeId, Sha256Hex } from "../../domain/ids.ts";

export type PeerReportCode = "bad-chunk" | "wrong-length" | "too-slow" | "breach" | "unreachable";

/** Two could be one person with two machines in two places; five would let a poisoner go on in most grids. */
export const ACCUSERS_MIN = 3;
export const ACCUSATION_MS = 3_600_000;
/** An honest node meets few poisoners that nobody else meets. */
export const BLAMED_ALONE_MAX = 4;
export const QUARANTINE_MS = 3_600_000;
export const QUARANTINE_MS_MAX = 86_400_000;
const SHUN_MS = 3_600_000;
const SHUN_SHORT_MS = 60_000;
/** Accused nodes, and pairs that shun each other, that are remembered; of more, the oldest is forgotten. */
const ACCUSED_MAX = 10_000;
const SHUNNED_MAX = 100_000;
/** Of one accused, and of one accuser: the last ones. */
const ACCUSATIONS_MAX = 64;

export interface PeerReport {
  readonly reporter: NodeId;
  /** Who belongs together counts once: join code and network, as far as they are known. */
  readonly reporterGroup: readonly string[];
  readonly accused: NodeId;
  readonly accusedGroup: readonly string[];
  readonly weightsSha256: Sha256Hex | null;
  readonly code: PeerReportCode;
  readonly nowMs: number;
}

interface Accusation {
  readonly group: readonly string[];
  readonly atMs: number;
}

interface Accused {
  readonly accusations: Map<NodeId, Accusation>;
  quarantinedUntilMs: number;
  lastLengthMs: number;
}

export interface PeerReportStats {
  readonly reports: Readonly<Record<PeerReportCode, number>>;
  /** About nodes that the reporter had no grant for. */
  readonly unfounded: number;
}

export class PeerReports {
  readonly #accused = new Map<NodeId, Accused>();
  /** By accuser, whom it blames. */
  readonly #blamed = new Map<NodeId, Set<NodeId>>();
  readonly #shunnedUntilMs = new Map<string, number>();
  readonly #counts = { "bad-chunk": 0, "wrong-length": 0, "too-slow": 0, breach: 0, unreachable: 0 };
  #unfounded = 0;

  stats(): PeerReportStats {
    return { reports: { ...this.#counts }, unfounded: this.#unfounded };
  }

  countUnfounded(): void {
    this.#unfounded += 1;
  }

  /** True when the accused is quarantined because of this report. */
  take(report: PeerReport): boolean {
    const { reporter, accused, code, nowMs } = report;
    this.#counts[code] += 1;
    const isBrief = code === "too-slow" || code === "unreachable";
    this.#shun(reporter, accused, nowMs + (isBrief ? SHUN_SHORT_MS : SHUN_MS));
    if (code !== "bad-chunk" && code !== "wrong-length") return false;
    const known = this.#accused.get(accused) ?? {
      accusations: new Map<NodeId, Accusation>(),
      quarantinedUntilMs: Number.NEGATIVE_INFINITY,
      lastLengthMs: 0,
    };
    this.#accused.delete(accused);
    this.#accused.set(accused, known);
    const group = report.reporterGroup.filter((name) => !report.accusedGroup.includes(name));
    known.accusations.delete(reporter);
    known.accusations.set(reporter, { group, atMs: nowMs });
    dropOldest(known.accusations, ACCUSATIONS_MAX);
    dropOldest(this.#accused, ACCUSED_MAX);
    this.#blame(reporter, accused);
    if (known.quarantinedUntilMs > nowMs || this.#accusers(known, nowMs) < ACCUSERS_MIN) return false;
    const isAgain = nowMs - known.quarantinedUntilMs < QUARANTINE_MS_MAX;
    known.lastLengthMs = isAgain ? Math.min(QUARANTINE_MS_MAX, known.lastLengthMs * 2) : QUARANTINE_MS;
    known.quarantinedUntilMs = nowMs + known.lastLengthMs;
    known.accusations.clear();
    return true;
  }

  isQuarantined(nodeId: NodeId, nowMs: number): boolean {
    return (this.#accused.get(nodeId)?.quarantinedUntilMs ?? Number.NEGATIVE_INFINITY) > nowMs;
  }

  /** The holder is not named to this node. */
  isShunned(by: NodeId, holder: NodeId, nowMs: number): boolean {
    return (this.#shunnedUntilMs.get(`${by} ${holder}`) ?? Number.NEGATIVE_INFINITY) > nowMs;
  }

  quarantined(nowMs: number): readonly { readonly nodeId: NodeId; readonly untilMs: number }[] {
    return [...this.#accused]
      .filter(([, { quarantinedUntilMs }]) => quarantinedUntilMs > nowMs)
      .map(([nodeId, { quarantinedUntilMs }]) => ({ nodeId, untilMs: quarantinedUntilMs }))
      .sort((a, b) => (a.nodeId < b.nodeId ? -1 : 1));
  }

  /** Accusers of one node that stand: for the operator, before a quarantine. */
  accusersOf(nodeId: NodeId, nowMs: number): number {
    const known = this.#accused.get(nodeId);
    return known === undefined ? 0 : this.#accusers(known, nowMs);
  }

  /** Groups of accusers without a name in common, by the order in which they came. */
  #accusers({ accusations }: Accused, nowMs: number): number {
    const taken = new Set<string>();
    let count = 0;
    for (const [reporter, { group, atMs }] of accusations) {
      if (nowMs - atMs > ACCUSATION_MS) accusations.delete(reporter);
      else if (!group.some((name) => taken.has(name)) && this.#isBelievable(reporter, nowMs)) {
        for (const name of group) taken.add(name);
        count += 1;
      }
    }
    return count;
  }

  #isBelievable(reporter: NodeId, nowMs: number): boolean {
    let alone = 0;
    for (const accused of this.#blamed.get(reporter) ?? []) {
      const accusations = this.#accused.get(accused)?.accusations;
      const own = accusations?.get(reporter);
      if (own !== undefined && nowMs - own.atMs <= ACCUSATION_MS && accusations?.size === 1) alone += 1;
    }
    return alone <= BLAMED_ALONE_MAX;
  }

  #blame(reporter: NodeId, accused: NodeId): void {
    const blamed = this.#blamed.get(reporter) ?? new Set<NodeId>();
    blamed.delete(accused);
    blamed.add(accused);
    dropOldest(blamed, ACCUSATIONS_MAX);
    this.#blamed.delete(reporter);
    this.#blamed.set(reporter, blamed);
    dropOldest(this.#blamed, ACCUSED_MAX);
  }

  #shun(by: NodeId, holder: NodeId, untilMs: number): void {
    const key = `${by} ${holder}`;
    const longestMs = Math.max(untilMs, this.#shunnedUntilMs.get(key) ?? Number.NEGATIVE_INFINITY);
    this.#shunnedUntilMs.delete(key);
    this.#shunnedUntilMs.set(key, longestMs);
    dropOldest(this.#shunnedUntilMs, SHUNNED_MAX);
  }
}

function dropOldest<K>(
  kept: { readonly size: number; keys(): Iterable<K>; delete(key: K): boolean },
  sizeMax: number,
): void {
  if (kept.size <= sizeMax) return;
  for (const oldest of kept.keys()) {
    kept.delete(oldest);
    return;
  }
}

/** Who is likely one and the same behind several nodes. */
export function groupOf(
  view: { readonly owner?: string | null; readonly network?: string | null } | null,
): readonly string[] {
  const { owner = null, network = null } = view ?? {};
  return [...(owner === null ? [] : [`owner ${owner}`]), ...(network === null ? [] : [`network ${network}`])];
}
