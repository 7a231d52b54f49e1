/**
 * Takes waiting work in its order, finds a replica for each, and turns the plan into a lease and an `attempt.start`. Work of
 * different models never blocks each other; work that may not use some node for a while does not block its followers either.
 */

import type { ModelId, ReplicaId } from "../../domain/ids.ts";
import { attemptId, leaseId } from "../../domain/ids.ts";
import type { Lease } from "../../domain/lease.ts";
import type { Refusal } from "../../domain/refusal.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Ids } from "../../ports/ids.ts";
import type { WaitingRoom } from "../../scheduler/admission/admission.ts";
import { sharesFailureDomain } from "../../scheduler/attempts/hedging.ts";
import type { LeaseTable } from "../../scheduler/attempts/lease-table.ts";
import { chooseReplica, type Placement, type PlacementRequest } from "../../scheduler/matching/placement.ts";
import { PrefixHints } from "../../scheduler/matching/prefix-hints.ts";
import { capableNodes } from "../../scheduler/placement/capable-nodes.ts";
import { describeLosers, type LoserCounts, type ReplicaFact } from "../../scheduler/placement/snapshot.ts";
import type { AttemptStart } from "../../wire/agent-link.ts";
import type { NodeView, Roster } from "../roster.ts";
import type { DispatchOptions } from "./dispatch-options.ts";
import type { ReplicaPool } from "./replica-pool.ts";
import type { ServedModels } from "./served-models.ts";
import type { RunningAttempt, Work } from "./work.ts";

export interface MatcherPorts {
  readonly clock: Clock;
  readonly ids: Ids;
  readonly roster: Roster;
  readonly leases: LeaseTable;
  readonly models: ServedModels;
  readonly pool: ReplicaPool;
  readonly waiting: WaitingRoom<Work>;
  /** The clock of leases and stalls; deadlines go by `clock`. */
  patientMs(): number;
}

export class Matcher {
  readonly #ports: MatcherPorts;
  readonly #options: DispatchOptions;
  readonly #hints = new PrefixHints();

  constructor(ports: MatcherPorts, options: DispatchOptions) {
    this.#ports = ports;
    this.#options = options;
  }

  /** Starts every waiting attempt that has somewhere to run. `onPlaced` is called once for each, after its start was sent. */
  placeWaiting(onPlaced: (work: Work, node: NodeView) => void, only: (work: Work) => boolean = () => true): void {
    const { waiting, pool } = this.#ports;
    if (waiting.size === 0) return;
    const nowMs = this.#ports.clock.monoMs();
    const fullModels = new Set<ModelId>();
    let replicas = pool.replicas();
    for (const work of waiting.inOrder()) {
      if (work.notBeforeMs > nowMs || fullModels.has(work.modelId) || !only(work)) continue;
      const request = this.#requestFor(work, nowMs);
      const chosen = chooseReplica({ snapshot: { version: pool.version, nodes: pool.nodes(), replicas }, request });
      if (!chosen.ok) {
        if (isOthersToo(chosen.reason.losers)) fullModels.add(work.modelId);
        continue;
      }
      const placed = this.#start(work, chosen.value);
      if (placed === null) continue;
      waiting.leave(work);
      replicas = withLease(replicas, placed.lease.replicaId);
      onPlaced(work, placed.node);
    }
  }

  /** A second attempt of a stream without a token, outside its first one's failure domain; null when no replica can take it. */
  placeHedge(work: Work): RunningAttempt | null {
    const { pool } = this.#ports;
    const first = work.current;
    const home = first === null ? undefined : pool.nodes().get(first.lease.nodeId);
    if (home === undefined) return null;
    const request = this.#requestFor(work, this.#ports.clock.monoMs());
    const excludedNodeIds = new Set(request.excludedNodeIds);
    for (const node of pool.nodes().values()) if (sharesFailureDomain(home, node)) excludedNodeIds.add(node.nodeId);
    const snapshot = { version: pool.version, nodes: pool.nodes(), replicas: pool.replicas() };
    const chosen = chooseReplica({ snapshot, request: { ...request, excludedNodeIds } });
    if (!chosen.ok) return null;
    const node = this.#ports.roster.node(chosen.value.nodeId);
    const lease = node === null ? null : this.#grant(work, chosen.value);
    if (lease === null || node === null) return null;
    const { publicKeyHex: nodePublicKeyHex } = node;
    const attempt = work.beginHedge({ lease, nodePublicKeyHex, nowMs: this.#ports.patientMs() });
    if (this.#ports.roster.send(lease.nodeId, startMessage(work, lease, this.#ports.clock.monoMs()))) return attempt;
    this.#ports.leases.revoke(lease.leaseId);
    work.closeHedge({ ending: "node-lost", detail: LINK_CLOSED, statement: null });
    return null;
  }

  /** Whether another replica than the one it runs on could take this work now. */
  hasAlternative(work: Work): boolean {
    const { pool } = this.#ports;
    const request = this.#requestFor(work, this.#ports.clock.monoMs());
    const excludedNodeIds = new Set(request.excludedNodeIds);
    if (work.current !== null) excludedNodeIds.add(work.current.lease.nodeId);
    const snapshot = { version: pool.version, nodes: pool.nodes(), replicas: pool.replicas() };
    return chooseReplica({ snapshot, request: { ...request, excludedNodeIds } }).ok;
  }

  /** Null when some node could run it, now or after loading the model or when it is heard again; else why none can. */
  impossibility(work: Work): Refusal | null {
    const { models, pool } = this.#ports;
    const model = models.get(work.modelId);
    if (model === null) {
      const message = `the model ${work.modelId} is not registered on this grid`;
      return { code: "model-not-found", message, param: "model", retryAfterMs: null };
    }
    const found = capableNodes({ nodes: pool.nodes(), model: model.manifest, tokensNeeded: work.tokensNeeded() });
    if (found.capable + found.mayReturn > 0) return null;
    return noCapableNode(work, found.losers);
  }

  #requestFor(work: Work, nowMs: number): PlacementRequest {
    const prefix = work.prefix();
    return {
      modelId: work.modelId,
      tokensNeeded: work.tokensNeeded(),
      excludedNodeIds: work.avoided(nowMs),
      hintReplicaId: prefix === null ? null : this.#hints.find(work.modelId, prefix),
    };
  }

  #start(work: Work, placement: Placement): { lease: Lease; node: NodeView } | null {
    const { roster } = this.#ports;
    const node = roster.node(placement.nodeId);
    const lease = node === null ? null : this.#grant(work, placement);
    if (lease === null || node === null) return null;
    const attempt = work.begin({ lease, nodePublicKeyHex: node.publicKeyHex, nowMs: this.#ports.patientMs() });
    if (!roster.send(lease.nodeId, startMessage(work, attempt.lease, this.#ports.clock.monoMs()))) {
      this.#ports.leases.revoke(lease.leaseId);
      work.close({ ending: "node-lost", detail: LINK_CLOSED, statement: null });
      work.phase = "waiting";
      return null;
    }
    const prefix = work.prefix();
    if (prefix !== null) this.#hints.remember(work.modelId, prefix, lease.replicaId);
    return { lease, node };
  }

  /** The plan is checked against what is so now; a plan that no longer stands waits for the next round. */
  #grant(work: Work, placement: Placement): Lease | null {
    const { ids, leases, pool } = this.#ports;
    const replica = pool.replica(placement.replicaId);
    const granted = leases.grant(
      {
        leaseId: leaseId(ids.make("lease")),
        attemptId: attemptId(ids.make("att")),
        nodeId: placement.nodeId,
        replicaId: placement.replicaId,
        nowMs: this.#ports.patientMs(),
        ttlMs: this.#options.leaseTtlMs + work.promptTokens() * this.#options.leaseTtlPerPromptTokenMs,
      },
      {
        versionSeen: placement.versionSeen,
        versionNow: pool.version,
        slotsLeasedSeen: placement.slotsLeasedSeen,
        slotsNow: replica?.state === "ready" ? replica.slots : 0,
      },
    );
    return granted.ok ? granted.value : null;
  }
}

const LINK_CLOSED = "the link closed before the start was sent";

/** What keeps this work out keeps out all others of its model. */
function isOthersToo(losers: LoserCounts): boolean {
  return !losers.has("node-failed-before") && !losers.has("context-too-small");
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

function withLease(replicas: readonly ReplicaFact[], replicaId: ReplicaId): readonly ReplicaFact[] {
  return replicas.map((replica) =>
    replica.replicaId === replicaId ? { ...replica, slotsLeased: replica.slotsLeased + 1 } : replica,
  );
}

function noCapableNode(work: Work, losers: LoserCounts): Refusal {
  const message = `no node of the grid can run ${work.modelId} with ${work.tokensNeeded()} tokens of context (${describeLosers(losers)})`;
  return { code: "no-capable-node", message, param: null, retryAfterMs: NO_NODE_RETRY_MS };
}

/** Nodes come and go by the minute; sooner is seldom worth it. */
const NO_NODE_RETRY_MS = 15_000;
