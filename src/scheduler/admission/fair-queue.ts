/**
 * Fair shares between the tenants of one tier. Intuition: each tenant has a purse; in every round each purse gets the same
 * quantum of device time (times the tenant's weight), and a tenant's oldest request is served once its purse can pay for it.
 * So who asks for long answers gets as much device time as who asks for short ones, not as many answers.
 *
 * This is deficit round robin (Shreedhar and Varghese, SIGCOMM 1995) in closed form: a tenant that was charged v so far has its
 * k-th waiting request served in round ceil((v + cost of requests 1 to k) / quantum), v and costs divided by its weight. The
 * order is by (round, tenant, time, id), so it is the same however requests of one moment came in, and requests that cannot be
 * placed now are skipped without losing their place. Costs are expectations: the true cost of an attempt is charged when it
 * ends (as in Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024).
 *
 * | event                           | what becomes of the tenant's account                                           |
 * | ------------------------------- | ------------------------------------------------------------------------------ |
 * | waits while it waited before    | as it was                                                                      |
 * | waits, and did not before       | lifted to the least account of those who wait: nothing is saved up while absent |
 * | … and nobody waited             | lifted to `DEBT_SECONDS` below the largest account: old use is forgiven beyond that |
 * | falls `CREDIT_SECONDS` behind   | lifted: whoever waits for one full model does not then shut everybody out of another |
 *
 * Not handled: one request that costs more than `CREDIT_SECONDS`; shares over several coordinators.
 */
import { assert } from "../../domain/assert.ts";

/** A round's quantum, in micro device-seconds: about three short answers on a device of 64 slots. */
const QUANTUM_MICRO_SECONDS = 50_000;
/** Ten minutes of a whole device: more than any single request takes of one. */
const CREDIT_SECONDS = 600;
const DEBT_SECONDS = 10;
/** Accounts of tenants that do not wait; beyond this those that used least are forgotten. */
const ABSENT_ACCOUNTS_MAX = 4_096;
const MICRO = 1_000_000;

export interface FairEntry {
  readonly tenantId: string;
  readonly queuedAtMs: number;
  /** Breaks ties; unique among the entries of a queue. */
  readonly entryId: string;
  /** Normalised device-seconds that it is expected to take (slot-times.ts); at least 0. */
  readonly shareCost: number;
}

interface Account<Entry> {
  readonly tenantId: string;
  /** Device time charged so far over the tenant's weight, in whole micro-seconds: sums do not depend on their order. */
  chargedMicro: number;
  /** By time, then id. */
  readonly waiting: Entry[];
  /** Not yet lifted since it began to wait. */
  isNew: boolean;
}

/** Where a tenant stands while the order is made. */
interface Head<Entry> {
  readonly account: Account<Entry>;
  readonly at: number;
  readonly usedMicro: number;
  readonly round: number;
}

export class FairQueue<Entry extends FairEntry> {
  readonly #accounts = new Map<string, Account<Entry>>();
  readonly #weightOf: (tenantId: string) => number;
  #size = 0;
  /** What an account is lifted to when nobody waits. */
  #mostMicro = 0;

  constructor(options: { weightOf?: (tenantId: string) => number } = {}) {
    this.#weightOf = options.weightOf ?? (() => 1);
  }

  get size(): number {
    return this.#size;
  }

  waitingOf(tenantId: string): number {
    return this.#accounts.get(tenantId)?.waiting.length ?? 0;
  }

  has(entry: Entry): boolean {
    const waiting = this.#accounts.get(entry.tenantId)?.waiting ?? [];
    return waiting[placeOf(waiting, entry)] === entry;
  }

  enter(entry: Entry): void {
    const account = this.#account(entry.tenantId);
    const at = placeOf(account.waiting, entry);
    assert(account.waiting[at] !== entry, "an entry waits once");
    if (account.waiting.length === 0) account.isNew = true;
    account.waiting.splice(at, 0, entry);
    this.#size += 1;
  }

  /** Without a charge. False when it did not wait here. */
  leave(entry: Entry): boolean {
    const account = this.#accounts.get(entry.tenantId);
    if (account === undefined) return false;
    const at = placeOf(account.waiting, entry);
    if (account.waiting[at] !== entry) return false;
    this.#lift();
    account.waiting.splice(at, 1);
    this.#size -= 1;
    return true;
  }

  /** Device-seconds that a tenant took; negative gives back what was charged and not used. */
  charge(tenantId: string, deviceSeconds: number): void {
    this.#lift();
    const account = this.#account(tenantId);
    account.chargedMicro += this.#micro(tenantId, deviceSeconds);
    this.#mostMicro = Math.max(this.#mostMicro, account.chargedMicro);
    this.#forget();
  }

  /** A copy, in the order in which they are to be served. */
  inOrder(): readonly Entry[] {
    this.#lift();
    const heads: Head<Entry>[] = [];
    for (const account of this.#accounts.values()) {
      const head = this.#headOf({ account, at: -1, usedMicro: account.chargedMicro, round: 0 });
      if (head !== null) heads.push(head);
    }
    // Each tenant's own order stands, so the tenants' heads are merged.
    heads.sort(byRound);
    const order: Entry[] = [];
    for (let first = heads[0]; first !== undefined; first = heads[0]) {
      const entry = first.account.waiting[first.at];
      if (entry !== undefined) order.push(entry);
      const next = this.#headOf(first);
      if (next === null) heads.shift();
      else if (next.round !== first.round) moveBack(heads, next);
      else heads[0] = next;
    }
    return order;
  }

  /** Who is served before `entry`, in no order; it need not wait yet. */
  before(entry: Entry): readonly Entry[] {
    this.#lift();
    const own = this.#accounts.get(entry.tenantId);
    const isThere = own !== undefined && own.waiting.length > 0;
    let usedMicro = Math.max(own?.chargedMicro ?? 0, isThere ? 0 : this.#floor());
    const waiting = own?.waiting ?? [];
    const place = placeOf(waiting, entry);
    for (const earlier of waiting.slice(0, place)) usedMicro += this.#micro(entry.tenantId, earlier.shareCost);
    const round = roundOf(usedMicro + this.#micro(entry.tenantId, entry.shareCost));
    const ahead: Entry[] = waiting.slice(0, place);
    for (const account of this.#accounts.values()) {
      if (account === own) continue;
      const isEarlier = byTenant(account, entry) < 0;
      this.#walk(account, (other, otherRound) => {
        if (otherRound < round || (otherRound === round && isEarlier)) ahead.push(other);
      });
    }
    return ahead;
  }

  /** In no order that matters. */
  *entries(): IterableIterator<Entry> {
    for (const account of this.#accounts.values()) yield* account.waiting;
  }

  #walk(account: Account<Entry>, visit: (entry: Entry, round: number) => void): void {
    let usedMicro = account.chargedMicro;
    for (const entry of account.waiting) {
      usedMicro += this.#micro(account.tenantId, entry.shareCost);
      visit(entry, roundOf(usedMicro));
    }
  }

  /** The next request of a tenant after this one; null after the last. */
  #headOf({ account, at, usedMicro }: Head<Entry>): Head<Entry> | null {
    const entry = account.waiting[at + 1];
    if (entry === undefined) return null;
    const used = usedMicro + this.#micro(account.tenantId, entry.shareCost);
    return { account, at: at + 1, usedMicro: used, round: roundOf(used) };
  }

  /** All that began to wait since the last look are lifted to one floor, so their order of arrival does not matter. */
  #lift(): void {
    const floor = this.#floor();
    for (const account of this.#accounts.values()) {
      if (account.isNew) account.chargedMicro = Math.max(account.chargedMicro, floor);
      account.isNew = false;
      if (account.waiting.length === 0) continue;
      account.chargedMicro = Math.max(account.chargedMicro, this.#mostMicro - CREDIT_SECONDS * MICRO);
    }
  }

  #floor(): number {
    let least = Number.POSITIVE_INFINITY;
    for (const account of this.#accounts.values()) {
      if (account.waiting.length > 0 && !account.isNew) least = Math.min(least, account.chargedMicro);
    }
    const forgiven = least === Number.POSITIVE_INFINITY ? DEBT_SECONDS : CREDIT_SECONDS;
    return Math.max(least === Number.POSITIVE_INFINITY ? 0 : least, this.#mostMicro - forgiven * MICRO);
  }

  #account(tenantId: string): Account<Entry> {
    let account = this.#accounts.get(tenantId);
    if (account === undefined) {
      account = { tenantId, chargedMicro: 0, waiting: [], isNew: true };
      this.#accounts.set(tenantId, account);
    }
    return account;
  }

  /** An absent tenant whose account the floor would lift anyway is as good as unknown. */
  #forget(): void {
    if (this.#accounts.size <= ABSENT_ACCOUNTS_MAX) return;
    const floor = this.#floor();
    const absent = [...this.#accounts.values()].filter(({ waiting }) => waiting.length === 0);
    absent.sort((a, b) => a.chargedMicro - b.chargedMicro || byTenant(a, b));
    let surplus = absent.length - ABSENT_ACCOUNTS_MAX;
    for (const account of absent) {
      if (account.chargedMicro > floor && surplus <= 0) break;
      this.#accounts.delete(account.tenantId);
      surplus -= 1;
    }
  }

  #micro(tenantId: string, deviceSeconds: number): number {
    const weight = this.#weightOf(tenantId);
    assert(weight > 0 && Number.isFinite(deviceSeconds), `${tenantId} has a weight above 0 and a finite cost`);
    return Math.round((deviceSeconds * MICRO) / weight);
  }
}

function roundOf(usedMicro: number): number {
  return Math.ceil(usedMicro / QUANTUM_MICRO_SECONDS);
}

function byRound<Entry>(a: Head<Entry>, b: Head<Entry>): number {
  return a.round - b.round || byTenant(a.account, b.account);
}

/** Takes the first out and puts `next` where it belongs in the sorted rest. */
function moveBack<Entry>(heads: Head<Entry>[], next: Head<Entry>): void {
  let low = 1;
  let high = heads.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const other = heads[middle];
    if (other !== undefined && byRound(other, next) < 0) low = middle + 1;
    else high = middle;
  }
  heads.copyWithin(0, 1, low);
  heads[low - 1] = next;
}

function byTenant(a: { readonly tenantId: string }, b: { readonly tenantId: string }): number {
  return a.tenantId < b.tenantId ? -1 : a.tenantId > b.tenantId ? 1 : 0;
}

/** Index of the first entry that does not come before this one. */
function placeOf<Entry extends FairEntry>(waiting: readonly Entry[], entry: Entry): number {
  let low = 0;
  let high = waiting.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const other = waiting[middle];
    if (other !== undefined && comesBefore(other, entry)) low = middle + 1;
    else high = middle;
  }
  return low;
}

export function comesBefore(a: FairEntry, b: FairEntry): boolean {
  return a.queuedAtMs === b.queuedAtMs ? a.entryId < b.entryId : a.queuedAtMs < b.queuedAtMs;
}
