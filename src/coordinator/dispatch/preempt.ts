/**
 * Takes slots from background work for whoever comes: it gives its slot to a request that finds none, and stands still on a small node while anybody else
 * is there. An engine that stops it by itself (`holdsBack`) keeps what it decoded, so that it goes on at once; only when that lasts does it leave for where
 * it can run. From other engines it is taken as soon as anybody begins. And makes room for priority requests that find no free slot even so: a stream of the same model on a replica that could serve the request
 * goes back to its queue, with its tokens. Nothing of it is lost but the time to decode them again, and nothing is charged for
 * that. Which stream, and whether any, is the scheduler's decision.
 */
import type { ModelId, NodeId, ReplicaId } from "../../domain/ids.ts";
import type { Log } from "../../ports/log.ts";
import type { WaitingRoom } from "../../scheduler/admission/admission.ts";
import { choosePreemption, type PreemptionCandidate } from "../../scheduler/admission/preemption.ts";
import type { ReplicaFact } from "../../scheduler/placement/snapshot.ts";
import type { AdmissionDesk } from "./admission-desk.ts";
import { GenerationWork } from "./generation-work.ts";
import type { RunningAttempts } from "./running-attempts.ts";
import type { Work } from "./work.ts";

export interface PreempterPorts {
  readonly log: Log;
  readonly waiting: WaitingRoom<Work>;
  readonly running: RunningAttempts;
  readonly desk: Pick<AdmissionDesk, "restMs" | "prefillMs" | "reprice">;
  readonly pool: { ready(modelId: ModelId): readonly ReplicaFact[]; replica(replicaId: ReplicaId): ReplicaFact | null };
}

/** As long as most answers last: decoding a history again elsewhere costs less than standing still for longer. */
const HELD_BACK_MS_MAX = 5_000;

export class Preempter {
  readonly #ports: PreempterPorts;
  /** Since the start. */
  preempted = 0;

  constructor(ports: PreempterPorts) {
    this.#ports = ports;
  }

  /** Somebody else begins on this node: background work there stops, so that it slows nobody down. */
  giveWay(nodeId: NodeId): void {
    const { running, pool } = this.#ports;
    if (!running.keptNodes.has(nodeId)) return;
    for (const work of running.works()) {
      const attempt = work.current;
      if (!work.isBackground || work.phase !== "running" || attempt?.lease.nodeId !== nodeId) continue;
      const isHeld = work instanceof GenerationWork && pool.replica(attempt.lease.replicaId)?.holdsBack === true;
      if (isHeld) attempt.wasHeldBack = true;
      else this.#preempt(work, "left the node to others");
    }
  }

  /** Background work that an engine holds back for too long leaves, whether or not there is another place: it waits where it costs no memory. */
  leaveHeld(patientMs: number): void {
    const { running } = this.#ports;
    for (const work of running.works()) {
      const attempt = work.current;
      if (attempt?.wasHeldBack !== true || work.phase !== "running" || attempt.completedAtMs !== null) continue;
      if (!running.isUsed(attempt.lease.nodeId)) continue;
      if (patientMs - (attempt.pace.lastTokenAtMs ?? attempt.pace.startedAtMs) < HELD_BACK_MS_MAX) continue;
      this.#preempt(work, "held back for others for too long");
    }
  }

  /** Frees a slot for each request that waits and may have another's; answers with those that may have one now. */
  makeRoom(nowMs: number): ReadonlySet<Work> {
    const { waiting } = this.#ports;
    const served = new Set<Work>();
    const works = this.#ports.running.works();
    const hasBackground = works.some(({ isBackground }) => isBackground);
    if (!hasBackground && !waiting.hasAny("priority")) return served;
    const exhausted = new Set<ModelId>();
    /** One that is preempted on the way runs no more, and is no candidate again. */
    const running = Map.groupBy(works, ({ modelId }) => modelId);
    for (const wanting of waiting.inOrder()) {
      if (wanting.isBackground || (wanting.tier !== "priority" && !hasBackground)) continue;
      if (wanting.notBeforeMs > nowMs || exhausted.has(wanting.modelId)) continue;
      const promised = [...served].filter(({ modelId }) => modelId === wanting.modelId).length;
      const work = this.#preemptee(wanting, { nowMs, promised, running: running.get(wanting.modelId) ?? [] });
      if (work === null) {
        exhausted.add(wanting.modelId);
        continue;
      }
      this.#preempt(work, `preempted for the ${wanting.tier} request ${wanting.terms.requestId}`);
      served.add(wanting);
    }
    return served;
  }

  #preempt(work: Work, detail: string): void {
    const { running, log, desk, waiting } = this.#ports;
    const { lease } = running.revoke(work, { ending: "moved", detail, statement: null, isNodeTold: true });
    const { nodeId, leaseId } = lease;
    const told = { requestId: work.terms.requestId, nodeId, leaseId, detail };
    if (work.isBackground) log.debug(told, "background attempt preempted");
    else log.info(told, "attempt preempted");
    this.preempted += 1;
    work.preemptions += 1;
    work.phase = "waiting";
    desk.reprice(work);
    waiting.enterPreempted(work);
  }

  /** The stream that gives its slot; null when more are free than were promised to others, or none may be taken. */
  #preemptee(wanting: Work, at: { nowMs: number; promised: number; running: readonly Work[] }): Work | null {
    const { pool } = this.#ports;
    const avoided = wanting.avoided(at.nowMs);
    const replicas = pool.ready(wanting.modelId).filter((replica) => {
      return !avoided.has(replica.nodeId) && replica.contextTokens >= wanting.tokensNeeded();
    });
    const free = replicas.reduce((sum, { slots, slotsLeased }) => sum + Math.max(0, slots - slotsLeased), 0);
    if (free > at.promised) return null;
    const takeable = new Set(replicas.map(({ replicaId }) => replicaId));
    const candidates: PreemptionCandidate[] = [];
    const works = new Map<string, Work>();
    for (const work of at.running) {
      if (wanting.tier !== "priority" && !work.isBackground) continue;
      const candidate = this.#candidateOf(work, takeable);
      if (candidate === null) continue;
      candidates.push(candidate);
      works.set(candidate.leaseId, work);
    }
    const chosen = choosePreemption(candidates);
    return chosen === null ? null : (works.get(chosen.leaseId) ?? null);
  }

  #candidateOf(work: Work, takeable: ReadonlySet<ReplicaId>): PreemptionCandidate | null {
    const { desk } = this.#ports;
    const attempt = work.current;
    // An embedding would start over: it is short, and waiting for it is cheaper.
    if (
      (!(work instanceof GenerationWork) && !work.isBackground) ||
      attempt === null ||
      !takeable.has(attempt.lease.replicaId)
    )
      return null;
    if (work.phase !== "running" || work.completion() !== null || work.hedge !== null) return null;
    return {
      leaseId: attempt.lease.leaseId,
      tier: work.tier,
      isBackground: work.isBackground,
      preemptions: work.preemptions,
      hasProgress: attempt.acknowledgedTokens > 0,
      lostWorkMs: desk.prefillMs(work.modelId, work.promptTokens()),
      reloadBytes: 0,
      restMs: desk.restMs(attempt),
    };
  }
}
