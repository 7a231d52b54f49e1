/**
 * Holds that need not be waited for. A hold takes a few milliseconds to be on disk, which a short prompt would feel.
 *
 * | what is known of the key                            | generation begins  | first byte goes out   |
 * | --------------------------------------------------- | ------------------ | --------------------- |
 * | nothing, or its last hold was refused               | after the hold     | after the hold        |
 * | its last hold was granted                           | at once            | after the hold        |
 * | its tenant's balance surely covers this hold too    | at once            | at once               |
 *
 * The balance is covered surely when what was read of it lately, less every hold that is not certainly in what was read, is
 * at least the new hold: only this process takes from tenants, so the true balance is never lower. Then only a failing
 * store can still undo the hold, and the answer ends in an error. Where a cap of the key or its tenant stands, it never
 * counts as covered.
 */
import type { KeyId, TenantId } from "../../../domain/ids.ts";
import { availableMicroUsd } from "../../../domain/ledger.ts";
import type { MicroUsd } from "../../../domain/money.ts";
import type { Outcome } from "../../../domain/refusal.ts";
import { tenantAccount } from "../../../market/accounts.ts";
import type { Clock } from "../../../ports/clock.ts";
import type { LedgerStore } from "../../../ports/store.ts";
import type { HoldRequest } from "../../settlement/settlement.ts";
import type { GatewaySettlement } from "../settlement-port.ts";

/** Keys and tenants that are remembered; a forgotten one waits once. */
const KEPT_MAX = 10_000;
/** A balance is read anew at the first hold after this. */
const BALANCE_FRESH_MS = 1_000;

export interface BegunHold {
  /** Rejects as `hold` does; whoever took it must await it. */
  readonly outcome: Promise<Outcome<void>>;
  readonly mayBegin: boolean;
  readonly isCovered: boolean;
}

function isCapped({ budgetMicroUsd, caps }: HoldRequest): boolean {
  if (budgetMicroUsd !== null) return true;
  return caps !== undefined && Object.values(caps).some((cap) => cap !== null);
}

interface Balance {
  /** What is left at least; null until it was read. */
  leastMicroUsd: number | null;
  readAtMs: number;
  /** Holds that have begun and not ended: the next reading may or may not show them. */
  openMicroUsd: number;
  /** Holds that have begun since the last reading began. */
  sinceMicroUsd: number;
  isReading: boolean;
}

export class Holds {
  readonly #settlement: GatewaySettlement;
  readonly #ledger: Pick<LedgerStore, "account">;
  readonly #clock: Clock;
  /** How the hold that was begun last ended, of those that have ended. */
  readonly #latest = new Map<KeyId, { readonly number: number; readonly isGranted: boolean }>();
  readonly #balances = new Map<TenantId, Balance>();
  #begun = 0;

  constructor(deps: { settlement: GatewaySettlement; ledger: Pick<LedgerStore, "account">; clock: Clock }) {
    this.#settlement = deps.settlement;
    this.#ledger = deps.ledger;
    this.#clock = deps.clock;
  }

  /** `mayWait`: nobody waits for the outcome of one that is covered. */
  begin(request: HoldRequest, { mayWait }: { readonly mayWait: boolean } = { mayWait: false }): BegunHold {
    const balance = this.#balanceOf(request.tenantId);
    const left = balance.leastMicroUsd === null ? null : balance.leastMicroUsd - balance.sinceMicroUsd;
    const isCovered = !isCapped(request) && left !== null && left >= request.amountMicroUsd;
    const mayBegin = this.#latest.get(request.keyId)?.isGranted === true;
    const outcome = this.#hold(mayWait && isCovered && mayBegin ? { ...request, mayWait } : request, balance);
    // Awaited later by the run; until then a rejection is not an unhandled one.
    outcome.catch(() => undefined);
    if (this.#clock.monoMs() - balance.readAtMs >= BALANCE_FRESH_MS) void this.#read(request.tenantId, balance);
    return { outcome, mayBegin, isCovered: isCovered && mayBegin };
  }

  async #hold(request: HoldRequest, balance: Balance): Promise<Outcome<void>> {
    const amount: MicroUsd = request.amountMicroUsd;
    const number = ++this.#begun;
    balance.openMicroUsd += amount;
    balance.sinceMicroUsd += amount;
    let isGranted = false;
    try {
      const outcome = await this.#settlement.hold(request);
      isGranted = outcome.ok;
      return outcome;
    } finally {
      balance.openMicroUsd -= amount;
      if (this.#latest.size >= KEPT_MAX) this.#latest.clear();
      const latest = this.#latest.get(request.keyId);
      if (latest === undefined || latest.number < number) this.#latest.set(request.keyId, { number, isGranted });
    }
  }

  async #read(tenantId: TenantId, balance: Balance): Promise<void> {
    if (balance.isReading) return;
    balance.isReading = true;
    const unsure = balance.openMicroUsd;
    balance.leastMicroUsd = null;
    balance.sinceMicroUsd = 0;
    try {
      const account = await this.#ledger.account(tenantAccount(tenantId));
      balance.leastMicroUsd = account === null ? 0 : availableMicroUsd(account) - unsure;
    } catch {
      // Nothing is known of the balance then, so holds are waited for; the hold itself tells the fault.
      balance.leastMicroUsd = null;
    } finally {
      balance.readAtMs = this.#clock.monoMs();
      balance.isReading = false;
    }
  }

  #balanceOf(tenantId: TenantId): Balance {
    const known = this.#balances.get(tenantId);
    if (known !== undefined) return known;
    if (this.#balances.size >= KEPT_MAX) this.#forgetIdle();
    const balance: Balance = {
      leastMicroUsd: null,
      readAtMs: Number.NEGATIVE_INFINITY,
      openMicroUsd: 0,
      sinceMicroUsd: 0,
      isReading: false,
    };
    this.#balances.set(tenantId, balance);
    return balance;
  }

  #forgetIdle(): void {
    for (const [tenantId, balance] of this.#balances) {
      if (balance.openMicroUsd === 0 && !balance.isReading) this.#balances.delete(tenantId);
    }
  }
}
