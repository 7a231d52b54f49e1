/**
 * Durable leases, from an accepted ask to the committed lease. Asks that come while a commit is under way are matched together
 * and share the next one; each caller is answered after the commit that holds his lease, never before.
 *
 * | ask                      | becomes                                                                                    |
 * | ------------------------ | ------------------------------------------------------------------------------------------ |
 * | nothing fits             | refused: `no-capacity`                                                                      |
 * | the store refuses a node | matched again without that node, `TRIES_MAX` times, then refused                            |
 * | the store fails          | refused: `storage-unavailable`; its slots stay held until it is known whether it was granted |
 * | granted                  | the caller's, until he ends it, it runs out, or a node of it gets a new epoch               |
 *
 * Whether a failed commit was durable is found by asking again: the same ask twice is one lease. What turns out to be granted
 * and was refused to its caller is ended. Until that is known nothing new is taken.
 */
import { type DurableLease, LEASE_BATCH_MAX, type LeasePart, type LeaseWant } from "../../domain/durable-lease.ts";
import { FallowError } from "../../domain/fault.ts";
import type { LeaseId, NodeId } from "../../domain/ids.ts";
import { type Outcome, ok, refuse } from "../../domain/refusal.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import type { Log } from "../../ports/log.ts";
import type { LeaseRef, LeaseStore } from "../../ports/store.ts";
import type { SlotMatcher } from "./slot-matcher.ts";

/** Asks that wait for their turn: a second of the slowest store that the bench saw. */
const WAITING_MAX = 8_192;
/** Leases of one commit: larger ones gain little (bench leases) and hold up whatever else is written. */
const BATCH_MAX = Math.min(LEASE_BATCH_MAX, 512);
/** One commit is under way while the next batch is matched and handed over. */
const COMMITS_MAX = 2;
const TRIES_MAX = 3;
const RETRY_MS = 500;
const EXPIRY_LOOK_MS = 1_000;
const LIVE_PAGE = 10_000;
/** A year: longer work renews its lease. */
const TTL_MS_MAX = 31_536_000_000;

export interface LeaseAsk {
  readonly leaseId: LeaseId;
  /** The task, gang or batch. */
  readonly holderId: string;
  readonly ttlMs: number;
}

export interface LeaseDeskPorts<Ask> {
  readonly store: LeaseStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly slots: SlotMatcher<Ask>;
  /** A lease ended by itself. */
  onExpired?(lease: DurableLease): void;
}

interface WaitingAsk<Ask> {
  readonly ask: Ask;
  readonly avoided: Set<NodeId>;
  tries: number;
  answer(outcome: Outcome<DurableLease>): void;
}

interface Matched<Ask> {
  readonly waiting: WaitingAsk<Ask>;
  readonly want: LeaseWant;
}

interface WaitingEnd {
  readonly lease: DurableLease;
  answer(isEnded: boolean): void;
  fail(fault: FallowError): void;
}

export class LeaseDesk<Ask extends LeaseAsk> {
  readonly #ports: LeaseDeskPorts<Ask>;
  readonly #asks: WaitingAsk<Ask>[] = [];
  readonly #ends: WaitingEnd[] = [];
  /** Asked for in a commit that failed: granted or not, nobody knows. */
  readonly #doubtful: LeaseWant[] = [];
  /** Leases that this desk counts as held. */
  readonly #held = new Map<LeaseId, readonly LeasePart[]>();
  #commits = 0;
  #isPumpQueued = false;
  #isStopped = false;
  #retry: Timer | null = null;
  #expiry: Timer | null = null;

  constructor(ports: LeaseDeskPorts<Ask>) {
    this.#ports = ports;
  }

  /** Holds the slots of what an earlier life granted; nodes have been offered before. */
  async start(): Promise<void> {
    const { store, slots } = this.#ports;
    for (let after: LeaseId | null = null; ; ) {
      const page: readonly DurableLease[] = await store.live({ after, limit: LIVE_PAGE });
      for (const { leaseId, parts } of page) {
        this.#held.set(leaseId, parts);
        slots.hold(parts);
      }
      if (page.length < LIVE_PAGE) break;
      after = page.at(-1)?.leaseId ?? null;
    }
    this.#lookForExpired();
  }

  /** Asks that wait are refused; commits under way still answer. May be called twice. */
  stop(): void {
    this.#isStopped = true;
    this.#retry?.cancel();
    this.#expiry?.cancel();
    for (const { answer } of this.#asks.splice(0)) answer(refuse("draining", "the coordinator shuts down"));
  }

  /** Resolves after the commit, or with why there is none. */
  lease(ask: Ask): Promise<Outcome<DurableLease>> {
    const refusal = this.#refusal(ask);
    if (refusal !== null) return Promise.resolve(refusal);
    return new Promise((answer) => {
      this.#asks.push({ ask, avoided: new Set(), tries: 0, answer });
      this.#pumpSoon();
    });
  }

  /** False when it was over already. Rejects when the store fails: then it ends by itself at the latest. */
  end(lease: DurableLease): Promise<boolean> {
    return new Promise((answer, fail) => {
      this.#ends.push({ lease, answer, fail });
      this.#pumpSoon();
    });
  }

  /** False when it is over. */
  async renew(lease: DurableLease, ttlMs: number): Promise<boolean> {
    const { leaseId, epoch } = lease;
    const endsAtMs = Math.floor(this.#ports.clock.wallMs()) + ttlMs;
    const [isLive = false] = await this.#ports.store.renew([{ leaseId, epoch, endsAtMs }]);
    return isLive;
  }

  /** What no store would take is refused here: in a commit it would fail with all that share it. */
  #refusal({ ttlMs }: Ask): Outcome<DurableLease> | null {
    if (!Number.isSafeInteger(ttlMs) || ttlMs < 1 || ttlMs > TTL_MS_MAX) {
      return refuse(
        "invalid-request",
        `a lease lasts a whole number of milliseconds from 1 to ${TTL_MS_MAX}, not ${ttlMs}`,
      );
    }
    if (this.#isStopped) return refuse("draining", "the coordinator shuts down");
    if (this.#doubtful.length > 0) return storageRefusal(`${this.#doubtful.length} leases are in doubt`);
    if (this.#asks.length < WAITING_MAX) return null;
    return refuse("queue-full", `${WAITING_MAX} leases are waiting to be granted already`, { retryAfterMs: 1_000 });
  }

  #pumpSoon(): void {
    if (this.#isPumpQueued || this.#commits >= COMMITS_MAX) return;
    this.#isPumpQueued = true;
    // A microtask: whoever asks in this turn joins the batch.
    queueMicrotask(() => {
      this.#isPumpQueued = false;
      this.#pump();
    });
  }

  #pump(): void {
    if (this.#commits >= COMMITS_MAX || this.#retry !== null) return;
    const ends = this.#ends.splice(0, BATCH_MAX);
    const matched = this.#doubtful.length === 0 ? this.#match(this.#asks.splice(0, BATCH_MAX)) : [];
    if (ends.length + matched.length === 0) return;
    this.#commits += 1;
    // Both are asked of the store in one turn, so they share a commit.
    const ended = this.#commitEnds(ends);
    const granted = this.#commitGrants(matched);
    void Promise.all([ended, granted]).then(() => {
      this.#commits -= 1;
      if (this.#asks.length + this.#ends.length > 0) this.#pump();
    });
    if (this.#asks.length + this.#ends.length > 0) this.#pumpSoon();
  }

  #match(asks: readonly WaitingAsk<Ask>[]): readonly Matched<Ask>[] {
    const { slots, clock } = this.#ports;
    const grantedAtMs = Math.floor(clock.wallMs());
    const matched: Matched<Ask>[] = [];
    for (const waiting of asks) {
      const { leaseId, holderId, ttlMs } = waiting.ask;
      const parts = slots.find(waiting.ask, waiting.avoided);
      if (parts === null) {
        waiting.answer(refuse("no-capacity", `no node has room for ${holderId} now`, { retryAfterMs: 1_000 }));
        continue;
      }
      slots.hold(parts);
      matched.push({ waiting, want: { leaseId, holderId, parts, grantedAtMs, endsAtMs: grantedAtMs + ttlMs } });
    }
    return matched;
  }

  async #commitGrants(matched: readonly Matched<Ask>[]): Promise<void> {
    if (matched.length === 0) return;
    try {
      const outcomes = await this.#ports.store.grant(matched.map(({ want }) => want));
      for (const [at, { waiting, want }] of matched.entries()) {
        const outcome = outcomes[at];
        if (outcome?.ok === true) {
          this.#held.set(want.leaseId, outcome.lease.parts);
          // A replay of an ask whose first answer was lost: its slots are those of the first time.
          if (outcome.isReplay) this.#ports.slots.release(want.parts);
          waiting.answer(ok(outcome.lease));
          continue;
        }
        this.#ports.slots.release(want.parts);
        this.#again(waiting, outcome?.reason.code === "lease-differs" ? null : (outcome?.reason.nodeId ?? null));
      }
    } catch (cause) {
      const fault = faultOf(cause);
      this.#ports.log.warn({ fault: fault.message, leases: matched.length }, "leases are in doubt");
      for (const { waiting, want } of matched) {
        this.#doubtful.push(want);
        waiting.answer(storageRefusal(fault.message));
      }
      this.#resolveLater();
    }
  }

  /** The store knows better than the index: that node is left out next time. */
  #again(waiting: WaitingAsk<Ask>, nodeId: NodeId | null): void {
    const { holderId, leaseId } = waiting.ask;
    waiting.tries += 1;
    if (nodeId === null) {
      waiting.answer(refuse("invalid-request", `${leaseId} was granted for something else than ${holderId} asks`));
    } else if (waiting.tries >= TRIES_MAX || this.#isStopped) {
      const message = `${waiting.tries} nodes that had room for ${holderId} had none when it was committed`;
      waiting.answer(refuse("no-capacity", message, { retryAfterMs: 1_000 }));
    } else {
      waiting.avoided.add(nodeId);
      this.#asks.unshift(waiting);
    }
  }

  async #commitEnds(ends: readonly WaitingEnd[]): Promise<void> {
    if (ends.length === 0) return;
    try {
      const areEnded = await this.#ports.store.end(ends.map(({ lease }) => refOf(lease)));
      for (const [at, { lease, answer }] of ends.entries()) {
        this.#release(lease.leaseId);
        answer(areEnded[at] ?? false);
      }
    } catch (cause) {
      // Their slots stay held until the leases run out.
      for (const { fail } of ends) fail(faultOf(cause));
    }
  }

  #resolveLater(): void {
    if (this.#retry !== null || this.#isStopped) return;
    this.#retry = this.#ports.clock.setTimer(RETRY_MS, () => {
      void this.#resolveDoubts().then((isResolved) => {
        this.#retry = null;
        if (isResolved) this.#pumpSoon();
        else this.#resolveLater();
      });
    });
  }

  /** Asked again, each is granted for certain or refused for certain; nobody waits for it, so it is ended. */
  async #resolveDoubts(): Promise<boolean> {
    const { store, slots } = this.#ports;
    try {
      while (this.#doubtful.length > 0) {
        const wants = this.#doubtful.slice(0, BATCH_MAX);
        const outcomes = await store.grant(wants);
        await store.end(outcomes.flatMap((outcome) => (outcome.ok ? [refOf(outcome.lease)] : [])));
        for (const { parts } of this.#doubtful.splice(0, wants.length)) slots.release(parts);
      }
      return true;
    } catch (cause) {
      this.#ports.log.warn({ fault: faultOf(cause).message }, "leases are still in doubt");
      return false;
    }
  }

  #lookForExpired(): void {
    if (this.#isStopped) return;
    this.#expiry = this.#ports.clock.setTimer(EXPIRY_LOOK_MS, () => {
      void this.#expire().then(() => this.#lookForExpired());
    });
  }

  async #expire(): Promise<void> {
    const { store, clock, log, onExpired } = this.#ports;
    try {
      const expired = await store.expire({ nowMs: Math.floor(clock.wallMs()), limit: BATCH_MAX });
      for (const lease of expired) {
        this.#release(lease.leaseId);
        onExpired?.(lease);
      }
    } catch (cause) {
      log.warn({ fault: faultOf(cause).message }, "leases that ran out could not be ended; looked at again");
    }
  }

  #release(leaseId: LeaseId): void {
    const parts = this.#held.get(leaseId);
    if (parts === undefined) return;
    this.#held.delete(leaseId);
    this.#ports.slots.release(parts);
  }
}

function refOf({ leaseId, epoch }: DurableLease): LeaseRef {
  return { leaseId, epoch };
}

function storageRefusal(why: string): Outcome<DurableLease> {
  return refuse("storage-unavailable", `no lease can be made durable: ${why}`, { retryAfterMs: RETRY_MS });
}

/** A bug is no storage fault: it goes on to whoever made it. */
function faultOf(cause: unknown): FallowError {
  if (cause instanceof FallowError) return cause;
  throw cause;
}
