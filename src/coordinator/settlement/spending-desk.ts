/**
 * Caps on what keys and tenants spend, kept while many of their requests run at once: a request is let in only when the most that it can
 * cost fits under every cap, beside what was settled and what all running requests hold. So a cap is never passed, and a key stops within
 * one request's worth of it. Settled charges are the store's, written with each receipt; holds are of this life only (a restart voids them).
 *
 * | cap          | counts                                                                     | begins anew            |
 * | ------------ | --------------------------------------------------------------------------- | ---------------------- |
 * | total        | all that was ever settled, and all holds                                   | never                  |
 * | month        | what was settled of requests made in this UTC month, and their holds       | at the first of a month |
 *
 * An owner's sums are read at his first capped request and then kept here. Where requests of his are being settled at that very moment they
 * may count twice until the next start: the cap then stops him early by those requests, never late.
 */
import type { KeyId, RequestId, TenantId } from "../../domain/ids.ts";
import { addUsd, formatUsd, type MicroUsd, subtractUsd, ZERO_USD } from "../../domain/money.ts";
import { type Refusal, refuse } from "../../domain/refusal.ts";
import { dayOf, monthEndMs, monthOf } from "../../market/usage-day.ts";
import type { SpendingStore } from "../../ports/store.ts";

/** Each is null when there is no such cap. */
export interface SpendingCaps {
  readonly keyMicroUsd: MicroUsd | null;
  readonly keyMonthMicroUsd: MicroUsd | null;
  readonly tenantMicroUsd: MicroUsd | null;
  readonly tenantMonthMicroUsd: MicroUsd | null;
}

export const NO_CAPS: SpendingCaps = {
  keyMicroUsd: null,
  keyMonthMicroUsd: null,
  tenantMicroUsd: null,
  tenantMonthMicroUsd: null,
};

export interface SpendingClaim {
  readonly requestId: RequestId;
  readonly keyId: KeyId;
  readonly tenantId: TenantId;
  readonly amountMicroUsd: MicroUsd;
  readonly atMs: number;
}

/** Where somebody stands under one cap. */
export interface CapView {
  readonly whose: "key" | "tenant";
  readonly scope: "total" | "month";
  readonly capMicroUsd: MicroUsd;
  readonly leftMicroUsd: MicroUsd;
}

/** Owners that are remembered; one that holds nothing is forgotten first and read again. */
const OWNERS_KEPT_MAX = 10_000;
/** This month and the one before, of which requests may still run. */
const MONTHS_KEPT_MAX = 2;

type OwnerName = `key ${KeyId}` | `tenant ${TenantId}`;

interface Month {
  settled: MicroUsd;
  held: MicroUsd;
}

interface Owner {
  settled: MicroUsd;
  held: MicroUsd;
  readonly months: Map<string, Month>;
}

interface EndedClaim {
  readonly month: string;
  readonly settled: MicroUsd;
}

interface Cap {
  readonly owner: OwnerName;
  readonly whose: CapView["whose"];
  readonly scope: CapView["scope"];
  readonly capMicroUsd: MicroUsd;
}

export class SpendingDesk {
  readonly #store: SpendingStore;
  readonly #owners = new Map<OwnerName, Owner>();
  /** Every request that holds, capped or not: an owner whose cap comes later is to count them. */
  readonly #open = new Map<RequestId, SpendingClaim>();
  readonly #loading = new Map<string, Promise<void>>();
  /** Sums on their way, and what of the owner was settled meanwhile. */
  readonly #reading = new Set<{ readonly name: OwnerName; readonly ended: EndedClaim[] }>();

  constructor(store: SpendingStore) {
    this.#store = store;
  }

  /** Null once the claim counts; else which cap it would pass. */
  async reserve(claim: SpendingClaim, caps: SpendingCaps): Promise<Refusal | null> {
    const month = monthOf(claim.atMs);
    const wanted = capsOf(claim, caps);
    for (;;) {
      const missing = wanted.filter(({ owner }) => this.#owners.get(owner)?.months.has(month) !== true);
      if (missing.length === 0) break;
      await Promise.all(missing.map(({ owner }) => this.#load(owner, claim)));
    }
    for (const cap of wanted) {
      const left = this.#left(cap, month);
      if (claim.amountMicroUsd > left) return overCap(claim, { ...cap, leftMicroUsd: left });
    }
    this.#open.set(claim.requestId, claim);
    for (const owner of this.#known(claim)) addHeld(owner, month, claim.amountMicroUsd);
    return null;
  }

  /** The hold ended; `settledMicroUsd` of it was charged. Does nothing for a request that holds nothing. */
  end(requestId: RequestId, settledMicroUsd: MicroUsd): void {
    const claim = this.#open.get(requestId);
    if (claim === undefined) return;
    this.#open.delete(requestId);
    const month = monthOf(claim.atMs);
    for (const owner of this.#known(claim)) {
      addHeld(owner, month, subtractUsd(ZERO_USD, claim.amountMicroUsd));
      addSettled(owner, month, settledMicroUsd);
    }
    for (const { name, ended } of this.#reading) {
      if (namesOf(claim).includes(name)) ended.push({ month, settled: settledMicroUsd });
    }
  }

  /** Of the caps whose sums are known, the one with the least left; null when there is none. */
  tightest(who: Pick<SpendingClaim, "keyId" | "tenantId" | "atMs">, caps: SpendingCaps): CapView | null {
    const month = monthOf(who.atMs);
    let tightest: CapView | null = null;
    for (const cap of capsOf(who, caps)) {
      if (this.#owners.get(cap.owner)?.months.has(month) !== true) continue;
      const leftMicroUsd = this.#left(cap, month);
      if (tightest === null || leftMicroUsd < tightest.leftMicroUsd) tightest = { ...cap, leftMicroUsd };
    }
    return tightest;
  }

  #left({ owner, scope, capMicroUsd }: Cap, month: string): MicroUsd {
    const known = this.#owners.get(owner);
    const sums = scope === "total" ? known : known?.months.get(month);
    return subtractUsd(capMicroUsd, addUsd(sums?.settled ?? ZERO_USD, sums?.held ?? ZERO_USD));
  }

  #known(claim: Pick<SpendingClaim, "keyId" | "tenantId">): readonly Owner[] {
    return namesOf(claim).flatMap((name) => this.#owners.get(name) ?? []);
  }

  /** One question to the store per owner and month, however many requests wait for its answer. */
  #load(name: OwnerName, claim: SpendingClaim): Promise<void> {
    const month = monthOf(claim.atMs);
    const key = `${name} ${month}`;
    const loading = this.#loading.get(key) ?? this.#ask(name, claim, month).finally(() => this.#loading.delete(key));
    this.#loading.set(key, loading);
    return loading;
  }

  /** Whether the store's sums hold what ended while they were read is not known, so that counts again. */
  async #ask(name: OwnerName, claim: SpendingClaim, month: string): Promise<void> {
    const reading = { name, ended: [] as EndedClaim[] };
    this.#reading.add(reading);
    try {
      const spent = name.startsWith("key ")
        ? await this.#store.ofKey(claim.keyId, month)
        : await this.#store.ofTenant(claim.tenantId, month);
      const open = [...this.#open.values()].filter((one) => namesOf(one).includes(name));
      const { ended } = reading;
      const owner = this.#owners.get(name) ?? {
        settled: addUsd(spent.totalMicroUsd, ...ended.map(({ settled }) => settled)),
        held: addUsd(...open.map(({ amountMicroUsd }) => amountMicroUsd)),
        months: new Map<string, Month>(),
      };
      owner.months.set(month, {
        settled: addUsd(spent.monthMicroUsd, ...ended.flatMap((one) => (one.month === month ? one.settled : []))),
        held: addUsd(...open.flatMap((one) => (monthOf(one.atMs) === month ? one.amountMicroUsd : []))),
      });
      if (this.#owners.size >= OWNERS_KEPT_MAX) this.#forgetIdle();
      this.#owners.set(name, owner);
    } finally {
      this.#reading.delete(reading);
    }
  }

  #forgetIdle(): void {
    for (const [name, owner] of this.#owners) if (owner.held === 0) this.#owners.delete(name);
  }
}

function namesOf(claim: Pick<SpendingClaim, "keyId" | "tenantId">): readonly OwnerName[] {
  return [`key ${claim.keyId}`, `tenant ${claim.tenantId}`];
}

function capsOf(claim: Pick<SpendingClaim, "keyId" | "tenantId">, caps: SpendingCaps): readonly Cap[] {
  const key = { owner: `key ${claim.keyId}`, whose: "key" } as const;
  const tenant = { owner: `tenant ${claim.tenantId}`, whose: "tenant" } as const;
  const all = [
    { ...key, scope: "total", cap: caps.keyMicroUsd },
    { ...key, scope: "month", cap: caps.keyMonthMicroUsd },
    { ...tenant, scope: "total", cap: caps.tenantMicroUsd },
    { ...tenant, scope: "month", cap: caps.tenantMonthMicroUsd },
  ] as const;
  return all.flatMap(({ cap, ...which }) => (cap === null ? [] : [{ ...which, capMicroUsd: cap }]));
}

function addHeld(owner: Owner, month: string, amount: MicroUsd): void {
  owner.held = addUsd(owner.held, amount);
  const sums = owner.months.get(month);
  if (sums !== undefined) sums.held = addUsd(sums.held, amount);
  for (const [name, { held }] of owner.months) {
    if (owner.months.size <= MONTHS_KEPT_MAX) break;
    if (held === 0 && name !== month) owner.months.delete(name);
  }
}

function addSettled(owner: Owner, month: string, amount: MicroUsd): void {
  owner.settled = addUsd(owner.settled, amount);
  const sums = owner.months.get(month);
  if (sums !== undefined) sums.settled = addUsd(sums.settled, amount);
}

function overCap(claim: SpendingClaim, cap: CapView): Refusal {
  const { whose, scope, capMicroUsd, leftMicroUsd } = cap;
  const { amountMicroUsd, atMs } = claim;
  const which = scope === "total" ? "budget" : `budget for ${monthOf(atMs)}`;
  const endMs = monthEndMs(atMs);
  const canWait = scope === "month" && amountMicroUsd <= capMicroUsd;
  const reset = scope === "month" ? ` The next month begins at ${dayOf(endMs)}T00:00:00Z.` : "";
  return refuse(
    "budget-exceeded",
    `this request may cost up to ${formatUsd(amountMicroUsd)} USD; the ${whose} has ${formatUsd(leftMicroUsd)} USD left of its ${which} of ${formatUsd(capMicroUsd)} USD (running requests count with the most they can cost). Lower max_tokens, or use a ${whose} with a larger budget.${reset}`,
    { retryAfterMs: canWait ? endMs - atMs : null },
  ).reason;
}
