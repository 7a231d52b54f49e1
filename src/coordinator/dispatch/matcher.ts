/**
 * Takes waiting work in its order, finds a replica for each, and turns the plan into a lease and an `attempt.start`. Work of
 * different models never blocks each other; work that may not use some node for a while does not block its followers either.
 * The choice is scheduler/matching's, over an index that is kept in step with the grid (grid-index.ts).
 */

import type { ModelId, NodeId } from "../../domain/ids.ts";
import { attemptId, leaseId } from "../../domain/ids.ts";
import type { Lease } from "../../domain/lease.ts";
import type { Refusal } from "../../domain/refusal.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Ids } from "../../ports/ids.ts";
import type { WaitingRoom } from "../../scheduler/admission/admission.ts";
import type { LeaseTable } from "../../scheduler/attempts/lease-table.ts";
import { explainMatch, type MatchExplanation } from "../../scheduler/matching/explain.ts";
import { MatchScratch, matchReplica } from "../../scheduler/matching/match.ts";
import type { MatchIndex } from "../../scheduler/matching/match-index.ts";
import {
  type MatchConstraints,
  type MatchRequest,
  seedOf,
  UNCONSTRAINED,
} from "../../scheduler/matching/match-request.ts";
import { PrefixHints } from "../../scheduler/matching/prefix-hints.ts";
import type { NodeFact } from "../../scheduler/placement/snapshot.ts";
import type { AttemptStart } from "../../wire/agent-link.ts";
import type { CrewStage } from "../chains/chain.ts";
import type { NodeView, Roster } from "../roster.ts";
import type { DispatchOptions } from "./dispatch-options.ts";
import type { GridIndex } from "./grid-index.ts";
import type { MatchLog } from "./match-log.ts";
import { Possible, ruleObstacle } from "./possible.ts";
import type { ReplicaPool } from "./replica-pool.ts";
import type { ServedModels } from "./served-models.ts";
import type { RunningAttempt, Work } from "./work.ts";

export interface MatcherPorts {
  readonly clock: Clock;
  readonly ids: Ids;
  readonly roster: Roster;
  readonly leases: LeaseTable;
  readonly models: ServedModels;
  readonly pool: Pick<ReplicaPool, "version" | "nodes" | "node" | "replica" | "chains" | "lacking">;
  readonly grid: GridIndex;
  readonly matchLog: MatchLog;
  readonly waiting: WaitingRoom<Work>;
  /** Nodes whose devices somebody else uses. */
  closedToBackground(): ReadonlySet<NodeId>;
  /** The clock of leases and stalls; deadlines go by `clock`. */
  patientMs(): number;
}

/** A token on a slow node; how long a slot will be held is guessed from it, and no longer than until the deadline. */
const TOKEN_MS_GUESS = 50;

/** What the plan saw and the lease must still find: compare-and-swap. */
interface Choice {
  readonly lease: Pick<Lease, "nodeId" | "replicaId">;
  readonly slotsLeasedSeen: number;
  readonly versionSeen: number;
  readonly match: MatchExplanation;
}

export class Matcher {
  readonly #ports: MatcherPorts;
  readonly #options: DispatchOptions;
  readonly #hints = new PrefixHints();
  readonly #scratch = new MatchScratch();
  readonly #possible: Possible;

  constructor(ports: MatcherPorts, options: DispatchOptions) {
    this.#ports = ports;
    this.#possible = new Possible(ports);
    this.#options = options;
  }

  /** Starts every waiting attempt that has somewhere to run. `onPlaced` is called once for each, after its start was sent. */
  placeWaiting(onPlaced: (work: Work, node: NodeView) => void, only: (work: Work) => boolean = () => true): void {
    const { waiting, grid } = this.#ports;
    if (waiting.size === 0) return;
    const nowMs = this.#ports.clock.monoMs();
    const index = grid.catchUp();
    const fullModels = new Set<ModelId>();
    for (const work of waiting.inOrder()) {
      if (work.notBeforeMs > nowMs || fullModels.has(work.modelId) || !only(work)) continue;
      const choice = this.#choose(index, this.#requestFor(work, nowMs));
      if (choice === null) {
        const match = explainMatch(index, this.#scratch);
        this.#ports.matchLog.explains.decided(work, { kind: "waits", lease: null, match });
        // Nobody was turned away by a rule of this work's own: what keeps it out keeps out all others of its model.
        if (this.#scratch.turnedAway.every((count) => count === 0)) fullModels.add(work.modelId);
        continue;
      }
      const node = this.#start(work, choice);
      if (node === null) continue;
      waiting.leave(work);
      onPlaced(work, node);
    }
  }

  /** A second attempt of a stream without a token, outside its first one's failure domain; null when no replica can take it. */
  placeHedge(work: Work): RunningAttempt | null {
    const first = work.current;
    const home = first === null ? null : this.#ports.pool.node(first.lease.nodeId);
    if (home === null) return null;
    const request = this.#requestFor(work, this.#ports.clock.monoMs());
    const { owner = null, network = null } = home;
    const constraints: MatchConstraints = {
      ...request.constraints,
      excludedOwners: new Set(owner === null ? [] : [owner]),
      excludedNetworks: new Set(network === null ? [] : [network]),
    };
    const excludedNodeIds = new Set([...request.excludedNodeIds, home.nodeId]);
    const grid = this.#ports.grid.catchUp();
    // Where one operator has all nodes, another machine is the farthest that there is.
    const choice =
      this.#choose(grid, { ...request, excludedNodeIds, constraints }) ??
      this.#choose(grid, { ...request, excludedNodeIds });
    const node = choice === null ? null : this.#ports.roster.node(choice.lease.nodeId);
    if (choice === null || node === null) return null;
    const lease = this.#grant(work, choice);
    if (lease === null) return null;
    const { publicKeyHex: nodePublicKeyHex } = node;
    const crew = this.#ports.pool.chains.crewOf(lease.replicaId);
    const attempt = work.beginHedge({ lease, nodePublicKeyHex, crew, nowMs: this.#ports.patientMs() });
    if (this.#send(work, lease, crew)) {
      this.#ports.matchLog.explains.decided(work, { kind: "hedged", lease, match: choice.match });
      return attempt;
    }
    this.#ports.leases.revoke(lease.leaseId);
    work.closeHedge({ ending: "node-lost", detail: LINK_CLOSED, statement: null });
    return null;
  }

  /** Whether another replica than the one it runs on could take this work now. */
  hasAlternative(work: Work): boolean {
    const request = this.#requestFor(work, this.#ports.clock.monoMs());
    const excludedNodeIds = new Set(request.excludedNodeIds);
    if (work.current !== null) excludedNodeIds.add(work.current.lease.nodeId);
    return this.#matchWhole(this.#ports.grid.catchUp(), { ...request, excludedNodeIds }) !== -1;
  }

  /** Null when some node could run it, now or after loading the model or when it is heard again; else why none can. */
  impossibility(work: Work): Refusal | null {
    return this.#possible.impossibility(work);
  }

  #requestFor(work: Work, nowMs: number): MatchRequest {
    const prefix = work.prefix();
    const heldMs = TOKEN_MS_GUESS * (work.promptTokens() + work.tokensLeft());
    return {
      modelId: work.modelId,
      tokensNeeded: work.tokensNeeded(),
      remainingMs: Math.max(0, Math.min(work.deadlineAtMs - nowMs, heldMs)),
      excludedNodeIds: both(this.#closedTo(work, nowMs), this.#ports.pool.lacking(work.modelId, work.needs())),
      hint: prefix === null ? null : this.#hints.find(work.modelId, prefix),
      // The gateway does not know where its callers are.
      callerRegion: null,
      constraints: constraintsOf(work),
      seed: seedOf(`${work.entryId} ${work.records().length}`),
    };
  }

  #closedTo(work: Work, nowMs: number): ReadonlySet<NodeId> {
    const avoided = work.avoided(nowMs);
    return work.isBackground ? both(avoided, this.#ports.closedToBackground()) : avoided;
  }

  #choose(index: MatchIndex, request: MatchRequest): Choice | null {
    const { clock, pool, matchLog } = this.#ports;
    const startMs = clock.monoMs();
    const replica = this.#matchWhole(index, request);
    matchLog.matched({ tookMs: clock.monoMs() - startMs, looked: this.#scratch.looked });
    if (replica === -1) return null;
    const { replicas, nodes } = index;
    const nodeId = nodes.ids.key(replicas.node(replica));
    return {
      lease: { nodeId, replicaId: replicas.ids.key(replica) },
      slotsLeasedSeen: replicas.slotsLeased(replica),
      versionSeen: pool.version,
      match: explainMatch(index, this.#scratch),
    };
  }

  /**
   * The index knows a chain by its last stage: the rules are looked at on the nodes of all its stages, and a chain that breaks one is passed over, as
   * is one with a node that drains: it takes nothing new, whichever stage it holds.
   */
  #matchWhole(index: MatchIndex, request: MatchRequest): number {
    const { pool } = this.#ports;
    const excludedNodeIds = new Set(request.excludedNodeIds);
    for (let tries = 0; tries < CHAINS_TRIED_MAX; tries++) {
      const asked = tries === 0 ? request : { ...request, excludedNodeIds };
      const replica = matchReplica(index, asked, this.#scratch);
      if (replica === -1) return -1;
      const crew = pool.chains.crewOf(index.replicas.ids.key(replica));
      if (crew === null || crew.every(({ nodeId }) => isAllowed(pool.node(nodeId), request.constraints)))
        return replica;
      excludedNodeIds.add(index.nodes.ids.key(index.replicas.node(replica)));
    }
    return -1;
  }

  #start(work: Work, choice: Choice): NodeView | null {
    const { roster } = this.#ports;
    const { explains } = this.#ports.matchLog;
    const { match } = choice;
    const node = roster.node(choice.lease.nodeId);
    const lease = node === null ? null : this.#grant(work, choice);
    if (lease === null || node === null) {
      // What the index believed was not so: its node is read again before the next round.
      this.#ports.grid.mark(choice.lease.nodeId);
      explains.decided(work, { kind: "plan-outdated", lease: null, match });
      return null;
    }
    explains.decided(work, { kind: "leased", lease, match });
    const crew = this.#ports.pool.chains.crewOf(lease.replicaId);
    work.begin({ lease, nodePublicKeyHex: node.publicKeyHex, crew, nowMs: this.#ports.patientMs() });
    if (!this.#send(work, lease, crew)) {
      this.#ports.leases.revoke(lease.leaseId);
      work.close({ ending: "node-lost", detail: LINK_CLOSED, statement: null });
      work.phase = "waiting";
      return null;
    }
    const prefix = work.prefix();
    if (prefix !== null) this.#hints.remember(work.modelId, prefix, lease.replicaId);
    return node;
  }

  /** To the node, and of a chain to its first stage as well. False when one of them has no link. */
  #send(work: Work, lease: Lease, crew: readonly CrewStage[] | null): boolean {
    const { roster, clock } = this.#ports;
    const start = startMessage(work, lease, clock.monoMs());
    if (!roster.send(lease.nodeId, start)) return false;
    const head = crew?.[0];
    if (head === undefined || roster.send(head.nodeId, { ...start, replicaId: head.replicaId })) return true;
    roster.send(lease.nodeId, { type: "attempt.cancel", leaseId: lease.leaseId, epoch: lease.epoch });
    return false;
  }

  /** The plan is checked against what is so now; a plan that no longer stands waits for the next round. */
  #grant(work: Work, choice: Choice): Lease | null {
    const { ids, leases, pool } = this.#ports;
    const { nodeId, replicaId } = choice.lease;
    const replica = pool.replica(replicaId);
    const head = pool.chains.crewOf(replicaId)?.[0];
    // A chain that lacks a stage at this moment is not ready, whatever was seen.
    const isWhole = replica?.stage === undefined || head !== undefined;
    const granted = leases.grant(
      {
        leaseId: leaseId(ids.make("lease")),
        attemptId: attemptId(ids.make("att")),
        nodeId,
        replicaId,
        ...(head === undefined ? {} : { headNodeId: head.nodeId }),
        nowMs: this.#ports.patientMs(),
        ttlMs: this.#options.leaseTtlMs + work.promptTokens() * this.#options.leaseTtlPerPromptTokenMs,
      },
      {
        versionSeen: choice.versionSeen,
        versionNow: pool.version,
        slotsLeasedSeen: choice.slotsLeasedSeen,
        slotsNow: replica?.state === "ready" && isWhole ? replica.slots : 0,
      },
    );
    return granted.ok ? granted.value : null;
  }
}

function both<T>(one: ReadonlySet<T>, other: ReadonlySet<T>): ReadonlySet<T> {
  return other.size === 0 ? one : new Set([...one, ...other]);
}

function isAllowed(node: Parameters<typeof keepsRules>[0], constraints: MatchRequest["constraints"]): boolean {
  return node?.state !== "draining" && keepsRules(node, constraints);
}

/** Chains of one model that a rule keeps out, before the others are left for the next round. */
const CHAINS_TRIED_MAX = 8;

function keepsRules(node: NodeFact | null, rules: MatchConstraints): boolean {
  return node !== null && ruleObstacle(node, rules) === null;
}

const LINK_CLOSED = "the link closed before the start was sent";

function constraintsOf(work: Work): MatchConstraints {
  const { constraints } = work.terms;
  if (constraints === undefined) return UNCONSTRAINED;
  const { regions, trustMin, priceMicroUsdPerHourMax, excludedRegions } = constraints;
  return {
    ...UNCONSTRAINED,
    ...(excludedRegions === undefined ? {} : { excludedRegions }),
    regions,
    trustMin: trustMin ?? UNCONSTRAINED.trustMin,
    priceMicroUsdPerHourMax: priceMicroUsdPerHourMax ?? UNCONSTRAINED.priceMicroUsdPerHourMax,
  };
}

function startMessage(work: Work, lease: Lease, nowMs: number): AttemptStart {
  const { terms } = work;
  return {
    type: "attempt.start",
    leaseId: lease.leaseId,
    epoch: lease.epoch,
    attemptId: lease.attemptId,
    replicaId: lease.replicaId,
    deadlineMs: Math.max(0, Math.ceil(work.deadlineAtMs - nowMs)),
    terms: {
      requestId: terms.requestId,
      requestSha256: terms.requestSha256,
      weightsSha256: terms.weightsSha256,
      tier: terms.tier,
      inputMicroUsdPerMtok: terms.price.inputMicroUsdPerMtok,
      outputMicroUsdPerMtok: terms.price.outputMicroUsdPerMtok,
    },
    work: work.wireWork(),
  };
}
