/**
 * Why requests of late went where they went: for each what was asked, when, and every decision about it. The last
 * `EXPLAINED_REQUESTS_MAX` requests are kept, in memory only. A request that waits gets the same answer again and again: equal waits in
 * a row are one entry with a count.
 */
import type { RequestConstraints } from "../../domain/generation.ts";
import type { LeaseId, ModelId, NodeId, ReplicaId, RequestId } from "../../domain/ids.ts";
import type { ServiceTier } from "../../domain/tier.ts";
import type { Clock } from "../../ports/clock.ts";
import type { MatchExplanation } from "../../scheduler/matching/explain.ts";
import type { Work } from "./work.ts";

/** A few kilobytes each. */
export const EXPLAINED_REQUESTS_MAX = 1_000;
/** Of one choice; a stream moves at most eight times (failover.ts), and waits before each move. */
export const DECISIONS_MAX = 24;
/** Of one request; further choices go unexplained. */
export const CHOICES_MAX = 16;

/** `plan-outdated`: the replica was no longer as it was seen, and the next round decides again. */
export type DecisionKind = "leased" | "hedged" | "waits" | "plan-outdated";

export interface ExplainedDecision {
  readonly kind: DecisionKind;
  /** Since the request was asked: the first time, and the last of `times`. */
  readonly afterMs: number;
  readonly untilMs: number;
  readonly times: number;
  readonly leaseId: LeaseId | null;
  readonly nodeId: NodeId | null;
  readonly replicaId: ReplicaId | null;
  /** How the attempt before this decision ended, as `moved: the owner is back`; null for the first. */
  readonly because: string | null;
  readonly match: MatchExplanation;
}

export interface ExplainedChoice {
  readonly choice: number;
  readonly tokensNeeded: number;
  /** From the question to its first lease; null while it waits, and when it never got one. */
  readonly waitedMs: number | null;
  /** Attempts that ended, in order: `finished`, `moved: node suspect …`. */
  readonly attempts: readonly string[];
  /** `waits`, `runs`, `done`, or the code and message of the refusal. */
  readonly state: string;
  readonly decisions: readonly ExplainedDecision[];
  /** Decisions that were left out of the middle. */
  readonly decisionsLeftOut: number;
}

export interface ExplainedRequest {
  readonly requestId: RequestId;
  readonly modelId: ModelId;
  readonly tier: ServiceTier;
  readonly constraints: RequestConstraints | null;
  /** Wall clock. */
  readonly askedAtMs: number;
  readonly choices: readonly ExplainedChoice[];
}

/** Of what a node said of its failure: it may say 2,000 characters each time, and a thousand requests remember it. */
const SAID_CHARS_MAX = 200;

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };
interface ChoiceRecord extends Mutable<Omit<ExplainedChoice, "decisions">> {
  readonly decisions: Mutable<ExplainedDecision>[];
}
interface RequestRecord extends Omit<ExplainedRequest, "choices"> {
  readonly askedMonoMs: number;
  readonly choices: ChoiceRecord[];
}

export interface NewDecision extends Pick<ExplainedDecision, "kind" | "match"> {
  readonly lease: { readonly leaseId: LeaseId; readonly nodeId: NodeId; readonly replicaId: ReplicaId } | null;
}

export class ExplainRing {
  readonly #clock: Clock;
  /** Oldest first. */
  readonly #requests = new Map<RequestId, RequestRecord>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#requests.size;
  }

  asked(work: Work): void {
    const { terms } = work;
    let request = this.#requests.get(terms.requestId);
    if (request === undefined) {
      request = {
        requestId: terms.requestId,
        modelId: terms.modelId,
        tier: terms.tier,
        constraints: terms.constraints ?? null,
        askedAtMs: Math.floor(this.#clock.wallMs()),
        askedMonoMs: work.queuedAtMs,
        choices: [],
      };
      this.#requests.set(terms.requestId, request);
      for (const oldest of this.#requests.keys()) {
        if (this.#requests.size <= EXPLAINED_REQUESTS_MAX) break;
        this.#requests.delete(oldest);
      }
    }
    if (request.choices.length >= CHOICES_MAX) return;
    const tokensNeeded = work.tokensNeeded();
    request.choices.push({
      choice: work.choice,
      tokensNeeded,
      waitedMs: null,
      attempts: [],
      state: "waits",
      decisions: [],
      decisionsLeftOut: 0,
    });
  }

  decided(work: Work, decision: NewDecision): void {
    const request = this.#requests.get(work.terms.requestId);
    const choice = this.#choice(work);
    if (request === undefined || choice === null) return;
    const afterMs = Math.round(this.#clock.monoMs() - request.askedMonoMs);
    const last = choice.decisions.at(-1);
    if (last?.kind === "waits" && decision.kind === "waits") {
      last.untilMs = afterMs;
      last.times += 1;
      last.match = decision.match;
      return;
    }
    if (choice.decisions.length >= DECISIONS_MAX) {
      choice.decisions.splice(DECISIONS_MAX / 2, 1);
      choice.decisionsLeftOut += 1;
    }
    const { kind, lease, match } = decision;
    const { leaseId = null, nodeId = null, replicaId = null } = lease ?? {};
    const because = endings(work).at(-1) ?? null;
    choice.decisions.push({
      kind,
      afterMs,
      untilMs: afterMs,
      times: 1,
      leaseId,
      nodeId,
      replicaId,
      because,
      match,
    });
    choice.state = lease === null ? "waits" : "runs";
    if (lease !== null) choice.waitedMs ??= afterMs;
  }

  /** No more follows: `refusal` when it ended without an answer. */
  ended(work: Work, refusal: { readonly code: string; readonly message: string } | null): void {
    const choice = this.#choice(work);
    if (choice === null) return;
    choice.attempts = endings(work);
    choice.state = refusal === null ? "done" : shortened(`${refusal.code}: ${refusal.message}`);
  }

  /** Null when it is not among the last ones. */
  find(requestId: RequestId): ExplainedRequest | null {
    return this.#requests.get(requestId) ?? null;
  }

  #choice(work: Work): ChoiceRecord | null {
    const request = this.#requests.get(work.terms.requestId);
    return request?.choices.find(({ choice }) => choice === work.choice) ?? null;
  }
}

function endings(work: Work): readonly string[] {
  return work.records().map(({ ending, detail }) => (detail === null ? ending : shortened(`${ending}: ${detail}`)));
}

/** A copy: a plain slice would keep the whole text alive. */
function shortened(text: string): string {
  return text.length <= SAID_CHARS_MAX ? text : `${[...text.slice(0, SAID_CHARS_MAX)].join("")}…`;
}
