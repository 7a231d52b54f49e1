/** Second attempts of priority requests that wait too long for their first token; when and where is the scheduler's decision. */
import type { ModelId } from "../../domain/ids.ts";
import { FirstTokenTimes, HedgeBudget, wantsHedge } from "../../scheduler/attempts/hedging.ts";
import type { ReplicaFact } from "../../scheduler/placement/snapshot.ts";
import { GenerationWork } from "./generation-work.ts";
import type { RunningAttempt, Work } from "./work.ts";

export interface HedgePorts {
  ready(modelId: ModelId): readonly ReplicaFact[];
  /** The clock of leases. */
  patientMs(): number;
  /** Starts the second attempt; false when no node outside the first one's failure domain can take it. */
  place(work: Work): boolean;
}

export class Hedges {
  readonly #ports: HedgePorts;
  readonly #times = new FirstTokenTimes();
  readonly #budget = new HedgeBudget();
  readonly counts = { won: 0, lost: 0 };

  constructor(ports: HedgePorts) {
    this.#ports = ports;
  }

  /** An attempt started that is no hedge. */
  started(): void {
    this.#budget.started();
  }

  firstToken(work: Work, attempt: RunningAttempt): void {
    this.#times.record(work.modelId, this.#ports.patientMs() - attempt.lease.grantedAtMs);
  }

  /** Looks at what runs and has no token yet. */
  consider(running: Iterable<Work>): void {
    /** By model; a hedge or two change little. */
    const utilisations = new Map<ModelId, number>();
    for (const work of running) {
      if (!this.#budget.hasRoom) return;
      if (!this.#wants(work, utilisations)) continue;
      if (this.#ports.place(work)) this.#budget.take();
    }
  }

  #wants(work: Work, utilisations: Map<ModelId, number>): boolean {
    const attempt = work.current;
    if (!(work instanceof GenerationWork) || attempt === null || work.phase !== "running") return false;
    if (work.tier !== "priority" || attempt.nextSeq > 0) return false;
    const utilisation = utilisations.get(work.modelId) ?? this.#utilisation(work.modelId);
    utilisations.set(work.modelId, utilisation);
    return wantsHedge({
      tier: work.tier,
      hasToken: work.promptTokens() > attempt.promptTokens || attempt.nextSeq > 0,
      hasHedge: work.hedge !== null,
      waitedMs: this.#ports.patientMs() - attempt.lease.grantedAtMs,
      firstTokenP95Ms: this.#times.p95Ms(work.modelId),
      utilisation,
    });
  }

  #utilisation(modelId: ModelId): number {
    let slots = 0;
    let leased = 0;
    for (const replica of this.#ports.ready(modelId)) {
      slots += replica.slots;
      leased += replica.slotsLeased;
    }
    return slots === 0 ? 1 : leased / slots;
  }
}
