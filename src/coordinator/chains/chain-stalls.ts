/**
 * Watches for chains that live and give no tokens, and asks their stages who holds them up (scheduler/chains/chain-stall.ts decides). One inquiry for each
 * chain at a time, about the answer that waits for longest:
 *
 * | inquiry    | all have told, or `TELL_MS` passed          | looks are far enough apart | token, attempt over, new epoch |
 * | ---------- | ------------------------------------------- | -------------------------- | ------------------------------ |
 * | none       | -                                           | -                          | -                              |
 * | first look | waits                                       | -                          | none                           |
 * | waits      | -                                           | second look                | none                           |
 * | second look | nothing moved: who is at fault is replaced; else none, for as long as the answer had patience | - | none          |
 */
import { type SequenceId, sequenceIdOf } from "../../domain/chain.ts";
import type { NodeId, ReplicaId } from "../../domain/ids.ts";
import type { Crypto } from "../../ports/crypto.ts";
import {
  type ChainPace,
  chainPatience,
  looksApartMs,
  overdueAttempt,
  type StageProgress,
  type StalledStage,
  stalledStage,
} from "../../scheduler/chains/chain-stall.ts";
import type { ProgressReport } from "../../wire/chain-link.ts";
import type { RunningAttempt, Work } from "../dispatch/work.ts";
import type { Roster } from "../roster.ts";
import type { ChainView } from "./chain-view.ts";

export interface ChainStallsPorts {
  readonly crypto: Pick<Crypto, "sha256">;
  readonly roster: Pick<Roster, "send" | "subscribe">;
  readonly chains: { chains(): readonly ChainView[]; stalled(chainId: string, found: StalledStage): void };
}

export interface RunningWork {
  readonly work: Pick<Work, "phase" | "terms" | "choice">;
  readonly attempt: Pick<
    RunningAttempt,
    "crew" | "lease" | "pace" | "promptTokens" | "receivedTokenIds" | "completedAtMs"
  >;
}

/** A stage answers at once; a busy line takes some round trips. */
const TELL_MS = 1_500;

interface Seat {
  readonly nodeId: NodeId;
  readonly replicaId: ReplicaId;
}

interface Inquiry {
  readonly chainId: string;
  readonly epoch: number;
  readonly seats: readonly Seat[];
  readonly attempt: RunningWork["attempt"];
  readonly sequence: SequenceId;
  /** Positions whose tokens the coordinator has. */
  readonly known: number;
  readonly apartMs: number;
  askedAtMs: number;
  told: Map<ReplicaId, StageProgress>;
  first: readonly (StageProgress | null)[] | null;
  isAsking: boolean;
}

export class ChainStalls {
  readonly #ports: ChainStallsPorts;
  /** By chain. */
  readonly #inquiries = new Map<string, Inquiry>();
  readonly #quietUntilMs = new Map<string, number>();

  constructor(ports: ChainStallsPorts) {
    this.#ports = ports;
    ports.roster.subscribe({
      onOnline: () => undefined,
      onSuspect: () => undefined,
      onWithdrawn: () => undefined,
      onGone: () => undefined,
      onWork: () => undefined,
      onReplicas: () => undefined,
      onChain: (nodeId, message) => {
        if (message.type === "chain.progress") this.#heard(nodeId, message);
      },
    });
  }

  /** Every tick, by the clock of stalls. */
  look(running: readonly RunningWork[], nowMs: number): void {
    const byTail = Map.groupBy(
      running.filter(({ attempt }) => attempt.crew !== null),
      ({ attempt }) => attempt.lease.replicaId,
    );
    if (byTail.size === 0 && this.#inquiries.size === 0) return;
    const chains = this.#ports.chains.chains();
    this.#forget(chains);
    for (const chain of chains) {
      const tail = chain.stages.at(-1)?.holder?.replicaId;
      const own = tail === undefined ? [] : (byTail.get(tail) ?? []);
      if (chain.state !== "serving") this.#inquiries.delete(chain.chainId);
      else if (this.#inquiries.has(chain.chainId)) this.#goOn(chain, own, nowMs);
      else if (nowMs >= (this.#quietUntilMs.get(chain.chainId) ?? 0)) this.#mayAsk(chain, own, nowMs);
    }
  }

  // ---------------------------------------------------------------- within

  #forget(chains: readonly ChainView[]): void {
    const known = new Set(chains.map(({ chainId }) => chainId));
    for (const by of [this.#inquiries, this.#quietUntilMs]) {
      for (const chainId of [...by.keys()]) if (!known.has(chainId)) by.delete(chainId);
    }
  }

  #mayAsk(chain: ChainView, running: readonly RunningWork[], nowMs: number): void {
    const owing = running.filter(({ work, attempt }) => work.phase === "running" && attempt.completedAtMs === null);
    const pace = paceOf(chain);
    const attempts = owing.map(({ attempt }) => attempt);
    const attempt = overdueAttempt(attempts, { nowMs, patience: chainPatience(pace) });
    const work = owing.find((one) => one.attempt === attempt)?.work;
    const seats = seatsOf(chain);
    if (attempt === null || work === undefined || seats === null) return;
    const inquiry: Inquiry = {
      chainId: chain.chainId,
      epoch: chain.epoch,
      seats,
      attempt,
      sequence: sequenceIdOf({ requestId: work.terms.requestId, choice: work.choice }, (data) =>
        this.#ports.crypto.sha256(data),
      ),
      known: knownTo(attempt),
      apartMs: looksApartMs(pace),
      askedAtMs: nowMs,
      told: new Map(),
      first: null,
      isAsking: true,
    };
    this.#inquiries.set(chain.chainId, inquiry);
    this.#ask(inquiry, nowMs);
  }

  #ask(inquiry: Inquiry, nowMs: number): void {
    const { chainId, epoch: chainEpoch, seats } = inquiry;
    Object.assign(inquiry, { askedAtMs: nowMs, isAsking: true, told: new Map() });
    for (const { nodeId, replicaId } of seats) {
      this.#ports.roster.send(nodeId, { type: "chain.progress.ask", replicaId, chainId, chainEpoch });
    }
  }

  #heard(nodeId: NodeId, { chainId, chainEpoch, replicaId, isHeldUp, decoded, sequences }: ProgressReport): void {
    const inquiry = this.#inquiries.get(chainId);
    const seat = inquiry?.seats.find((one) => one.replicaId === replicaId && one.nodeId === nodeId);
    if (inquiry === undefined || seat === undefined || inquiry.epoch !== chainEpoch || !inquiry.isAsking) return;
    const own = sequences.find(({ sequence }) => sequence === inquiry.sequence);
    const { arrived, passed, isLacking } = own ?? { arrived: 0, passed: 0, isLacking: false };
    inquiry.told.set(seat.replicaId, { arrived, passed, isLacking, isHeldUp, decoded });
  }

  #goOn(chain: ChainView, running: readonly RunningWork[], nowMs: number): void {
    const inquiry = this.#inquiries.get(chain.chainId);
    if (inquiry === undefined) return;
    const { attempt, epoch, known, seats, told, first } = inquiry;
    const isSame =
      chain.epoch === epoch && running.some((one) => one.attempt === attempt) && knownTo(attempt) === known;
    if (!isSame) {
      this.#inquiries.delete(chain.chainId);
      return;
    }
    const waitedMs = nowMs - inquiry.askedAtMs;
    if (inquiry.isAsking && (told.size === seats.length || waitedMs >= TELL_MS)) {
      inquiry.isAsking = false;
      const look = seats.map(({ replicaId }) => told.get(replicaId) ?? null);
      if (first === null) inquiry.first = look;
      else this.#judge(inquiry, { first, look, nowMs });
    } else if (!inquiry.isAsking && waitedMs >= inquiry.apartMs) this.#ask(inquiry, nowMs);
  }

  #judge(
    { chainId, attempt, known, apartMs }: Inquiry,
    of: { readonly first: NonNullable<Inquiry["first"]>; readonly look: NonNullable<Inquiry["first"]>; nowMs: number },
  ): void {
    const { first, look, nowMs } = of;
    this.#inquiries.delete(chainId);
    const sinceMs = attempt.pace.lastTokenAtMs ?? attempt.pace.startedAtMs;
    const found = stalledStage(first, look, { known, isBusyExcused: nowMs - sinceMs < BUSY_MS_MAX });
    this.#quietUntilMs.set(chainId, nowMs + (found === null ? Math.min(nowMs - sinceMs, QUIET_MS_MAX) : apartMs));
    if (found !== null) this.#ports.chains.stalled(chainId, found);
  }
}

/** So long a stage may work on something else, or on what was sent again, without a token of the answer. */
const BUSY_MS_MAX = 8_000;
/** Who works slowly is asked again after as long as it was waited for, and not much later. */
const QUIET_MS_MAX = 10_000;

/** The prompt, and what was drawn under earlier attempts and this one. */
function knownTo({ promptTokens, receivedTokenIds }: RunningWork["attempt"]): number {
  return promptTokens + receivedTokenIds.length;
}

function paceOf({ loopMs, stages }: ChainView): ChainPace {
  const prompts = stages.flatMap(({ times }) => times?.promptMsPerPosition ?? []);
  return { loopMs, promptMsPerPosition: prompts.length === 0 ? null : Math.max(...prompts) };
}

/** Null while a place has nobody. */
function seatsOf({ stages }: ChainView): readonly Seat[] | null {
  const seats = stages.flatMap(({ holder }) => holder ?? []);
  return seats.length < stages.length ? null : seats;
}
