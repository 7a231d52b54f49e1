/**
 * Gangs: work that needs several nodes at once or not at all (the stages of a chain). A gang gets its nodes in two phases.
 *
 * | state     | `reach` finds room | finds none        | last node reached | `commit` | prepare's end passes | `abort`, deadline passes | `release` |
 * | --------- | ------------------ | ----------------- | ----------------- | -------- | -------------------- | ------------------------ | --------- |
 * | (none)    | bug                | bug               | bug               | refused  | -                    | ignored: unknown         | ignored   |
 * | reaching  | reaching           | waiting, lets go  | prepared          | refused  | waiting, lets go     | gone                     | ignored   |
 * | waiting   | reaching           | waiting           | prepared          | refused  | waiting              | gone                     | ignored   |
 * | prepared  | bug                | bug               | -                 | committed | waiting, lets go    | gone                     | ignored   |
 * | committed | bug                | bug               | -                 | ignored  | committed            | ignored: use release     | gone      |
 *
 * Each node is reached in a step of its own, since a real one is asked over a link, and steps of several gangs interleave. Nobody waits
 * for ever for anybody: nodes are reached in the order of their ids, so that holding goes only upwards and no circle closes; who finds no
 * room lets go of everything at once; and what is held ends by itself after `PREPARE_TTL_MS`.
 *
 * *Backfill*: while a gang waits, its nodes would idle. Short work may take them when it ends before the gang could start: the latest of
 * the ends that stand in its way, but no later than its deadline. Work without an end stands in nobody's way to wait for, so it may take
 * only what the waiting gangs do not need.
 *
 * No clock and no I/O: every call carries the time. The durable side of a committed gang is its leases in the store.
 */
import { assert } from "../../domain/assert.ts";
import type { NodeId } from "../../domain/ids.ts";
import { no, type Outcome, ok } from "../../domain/refusal.ts";

/** Two round trips over a slow link to the furthest node, and a pause of the coordinator. */
export const PREPARE_TTL_MS = 2_000;
/** Stages of one chain; a longer one is lost too often (scheduling reference: 15 nodes stay the hour with 0.46). */
export const GANG_NODES_MAX = 64;

export interface GangWant {
  readonly gangId: string;
  /** Units of each node that it needs, at least 1; one unit is what the pool counts, a slot or a device. */
  readonly units: ReadonlyMap<NodeId, number>;
  /** Given up when it is not committed by then. */
  readonly deadlineMs: number;
}

export type GangState = "reaching" | "waiting" | "prepared" | "committed";
export type GangRefusal = "gang-unknown" | "not-prepared" | "prepare-expired" | "deadline-passed";
export type GangStep =
  | { readonly kind: "reached"; readonly nodeId: NodeId }
  | { readonly kind: "prepared"; readonly endsAtMs: number }
  | { readonly kind: "no-room"; readonly nodeId: NodeId };

interface Gang {
  readonly want: GangWant;
  /** In the order of ids. */
  readonly nodeIds: readonly NodeId[];
  state: GangState;
  /** Nodes of `nodeIds` that are held, from the first on. */
  held: number;
  /** When its first hold ends; null while it holds nothing or for good. */
  endsAtMs: number | null;
}

/** Committed or backfilled units of a node. */
interface Stay {
  readonly units: number;
  /** Null: nobody knows. */
  readonly endsAtMs: number | null;
}

export class GangTable {
  readonly #capacity = new Map<NodeId, number>();
  readonly #gangs = new Map<string, Gang>();
  readonly #stays = new Map<NodeId, Map<string, Stay>>();

  /** A node that is lost has none: prepared holds on it end with their gang's next `reach` or `commit`. */
  setCapacity(nodeId: NodeId, units: number): void {
    assert(Number.isSafeInteger(units) && units >= 0, `${units} is a number of units`);
    this.#capacity.set(nodeId, units);
  }

  begin(want: GangWant): void {
    assert(!this.#gangs.has(want.gangId), `${want.gangId} begins once`);
    assert(want.units.size >= 1 && want.units.size <= GANG_NODES_MAX, `a gang has 1 to ${GANG_NODES_MAX} nodes`);
    for (const units of want.units.values())
      assert(Number.isSafeInteger(units) && units >= 1, "a gang needs whole units");
    const nodeIds = [...want.units.keys()].sort((a, b) => (a < b ? -1 : 1));
    this.#gangs.set(want.gangId, { want, nodeIds, state: "reaching", held: 0, endsAtMs: null });
  }

  /** Holds the next node, or lets go of all. Call it again until it is prepared; after `no-room`, when something was freed. */
  reach(gangId: string, nowMs: number): Outcome<GangStep, GangRefusal> {
    this.expire(nowMs);
    const gang = this.#gangs.get(gangId);
    if (gang === undefined) return no("gang-unknown");
    assert(gang.state === "reaching" || gang.state === "waiting", `${gangId} is not prepared yet`);
    const nodeId = gang.nodeIds[gang.held];
    assert(nodeId !== undefined, "a gang that is not prepared has a next node");
    if (this.freeUnits(nodeId) < (gang.want.units.get(nodeId) ?? 0)) {
      letGo(gang);
      return ok({ kind: "no-room", nodeId });
    }
    gang.state = "reaching";
    gang.held += 1;
    gang.endsAtMs ??= nowMs + PREPARE_TTL_MS;
    if (gang.held < gang.nodeIds.length) return ok({ kind: "reached", nodeId });
    gang.state = "prepared";
    return ok({ kind: "prepared", endsAtMs: gang.endsAtMs });
  }

  /** All or nothing: every node still holds what was prepared. `endsAtMs`: when the work will be done, null when nobody knows. */
  commit(gangId: string, at: { readonly nowMs: number; readonly endsAtMs: number | null }): Outcome<null, GangRefusal> {
    const wasKnown = this.#gangs.has(gangId);
    this.expire(at.nowMs);
    const gang = this.#gangs.get(gangId);
    if (gang === undefined) return no(wasKnown ? "deadline-passed" : "gang-unknown");
    if (gang.state === "committed") return ok(null);
    if (gang.state !== "prepared") return no(gang.state === "waiting" ? "prepare-expired" : "not-prepared");
    if (gang.nodeIds.some((nodeId) => this.#usedUnits(nodeId) > (this.#capacity.get(nodeId) ?? 0))) {
      letGo(gang);
      return no("not-prepared");
    }
    for (const [nodeId, units] of gang.want.units)
      this.#stay(nodeId, gangKey(gangId), { units, endsAtMs: at.endsAtMs });
    gang.state = "committed";
    gang.endsAtMs = null;
    return ok(null);
  }

  /** Gives up a gang that is not committed. Ignored for one that is, and for an unknown one. */
  abort(gangId: string): void {
    if (this.#gangs.get(gangId)?.state !== "committed") this.#gangs.delete(gangId);
  }

  /** The work of a committed gang is over. */
  release(gangId: string): void {
    const gang = this.#gangs.get(gangId);
    if (gang?.state !== "committed") return;
    for (const nodeId of gang.nodeIds) this.#stays.get(nodeId)?.delete(gangKey(gangId));
    this.#gangs.delete(gangId);
  }

  /** Ends what ran out; answers the gangs that let go and those that missed their deadline, in the order in which they began. */
  expire(nowMs: number): { readonly expired: readonly string[]; readonly missed: readonly string[] } {
    const expired: string[] = [];
    const missed: string[] = [];
    for (const [gangId, gang] of this.#gangs) {
      if (gang.state === "committed") continue;
      if (gang.endsAtMs !== null && gang.endsAtMs <= nowMs) {
        letGo(gang);
        expired.push(gangId);
      }
      if (gang.want.deadlineMs > nowMs) continue;
      this.#gangs.delete(gangId);
      missed.push(gangId);
    }
    return { expired, missed };
  }

  // -------------------------------------------------------------- backfill

  /** Single work on one node. False when there is no room, or when a waiting gang would start later for it. */
  backfill(job: {
    readonly jobId: string;
    readonly nodeId: NodeId;
    readonly units: number;
    readonly nowMs: number;
    readonly endsAtMs: number | null;
  }): boolean {
    this.expire(job.nowMs);
    const { nodeId, units, endsAtMs } = job;
    const free = this.freeUnits(nodeId);
    if (free < units || this.#stays.get(nodeId)?.has(jobKey(job.jobId)) === true) return false;
    for (const gang of this.#gangs.values()) {
      const needed = gang.state === "waiting" ? (gang.want.units.get(nodeId) ?? 0) : 0;
      if (needed === 0 || free - units >= needed) continue;
      const startMs = this.#startMs(gang, job.nowMs);
      if (endsAtMs === null || endsAtMs > startMs) return false;
    }
    this.#stay(nodeId, jobKey(job.jobId), { units, endsAtMs });
    return true;
  }

  endBackfill(job: { readonly jobId: string; readonly nodeId: NodeId }): void {
    this.#stays.get(job.nodeId)?.delete(jobKey(job.jobId));
  }

  // -------------------------------------------------------------- what is so

  state(gangId: string): GangState | null {
    return this.#gangs.get(gangId)?.state ?? null;
  }

  /** Units of a node that neither a stay nor a held prepare has; never negative. */
  freeUnits(nodeId: NodeId): number {
    return Math.max(0, (this.#capacity.get(nodeId) ?? 0) - this.#usedUnits(nodeId));
  }

  /** Held, committed and backfilled. */
  #usedUnits(nodeId: NodeId): number {
    let used = 0;
    for (const stay of this.#stays.get(nodeId)?.values() ?? []) used += stay.units;
    for (const gang of this.#gangs.values()) {
      if (gang.state === "committed") continue;
      const place = gang.nodeIds.indexOf(nodeId);
      if (place !== -1 && place < gang.held) used += gang.want.units.get(nodeId) ?? 0;
    }
    return used;
  }

  /** The earliest time at which all its nodes have room, by the ends that are known; its deadline when that is not known. */
  #startMs(gang: Gang, nowMs: number): number {
    let startMs = nowMs;
    for (const [nodeId, needed] of gang.want.units) {
      let missing = needed - this.freeUnits(nodeId);
      if (missing <= 0) continue;
      const stays = [...(this.#stays.get(nodeId)?.values() ?? [])].filter((stay) => stay.endsAtMs !== null);
      stays.sort((a, b) => (a.endsAtMs ?? 0) - (b.endsAtMs ?? 0));
      for (const { units, endsAtMs } of stays) {
        if (missing <= 0) break;
        missing -= units;
        startMs = Math.max(startMs, endsAtMs ?? 0);
      }
      if (missing > 0) return gang.want.deadlineMs;
    }
    return Math.min(startMs, gang.want.deadlineMs);
  }

  #stay(nodeId: NodeId, key: string, stay: Stay): void {
    const stays = this.#stays.get(nodeId) ?? new Map<string, Stay>();
    this.#stays.set(nodeId, stays);
    stays.set(key, stay);
  }
}

function letGo(gang: Gang): void {
  gang.state = "waiting";
  gang.held = 0;
  gang.endsAtMs = null;
}

const gangKey = (gangId: string): string => `gang ${gangId}`;
const jobKey = (jobId: string): string => `job ${jobId}`;
