/**
 * What each key has spent and holds, so that a budget is kept while many requests of one key run at once. Settled charges are
 * the store's; holds are of this life only (a restart voids them). A key's first request asks the store, before it holds
 * anything; from then on the sum is kept here.
 */
import type { KeyId } from "../../domain/ids.ts";
import { addUsd, type MicroUsd, subtractUsd, ZERO_USD } from "../../domain/money.ts";
import type { KeyStore } from "../../ports/store.ts";

/** Keys with a budget that are remembered; one that holds nothing is forgotten first and asked for again. */
const KEYS_KEPT_MAX = 10_000;

interface Spending {
  settled: MicroUsd;
  held: MicroUsd;
}

export class KeySpending {
  readonly #keys: Pick<KeyStore, "spent">;
  readonly #spending = new Map<KeyId, Spending>();
  readonly #loading = new Map<KeyId, Promise<void>>();

  constructor(keys: Pick<KeyStore, "spent">) {
    this.#keys = keys;
  }

  /** Adds to what the key holds, or says what is left of its budget when that is too little. */
  async reserve(claim: {
    keyId: KeyId;
    budgetMicroUsd: MicroUsd;
    amountMicroUsd: MicroUsd;
  }): Promise<{ readonly isReserved: boolean; readonly leftMicroUsd: MicroUsd }> {
    let spending = this.#spending.get(claim.keyId);
    while (spending === undefined) {
      await this.#load(claim.keyId);
      spending = this.#spending.get(claim.keyId);
    }
    const left = subtractUsd(claim.budgetMicroUsd, addUsd(spending.settled, spending.held));
    const isReserved = claim.amountMicroUsd <= left;
    if (isReserved) spending.held = addUsd(spending.held, claim.amountMicroUsd);
    return { isReserved, leftMicroUsd: left };
  }

  /** A hold ended; `settledMicroUsd` of it was charged. */
  end(claim: { keyId: KeyId; heldMicroUsd: MicroUsd; settledMicroUsd: MicroUsd }): void {
    const spending = this.#spending.get(claim.keyId);
    if (spending === undefined) return;
    spending.held = subtractUsd(spending.held, claim.heldMicroUsd);
    spending.settled = addUsd(spending.settled, claim.settledMicroUsd);
  }

  /** One question to the store per key, however many requests wait for its answer. */
  #load(keyId: KeyId): Promise<void> {
    const loading = this.#loading.get(keyId) ?? this.#ask(keyId).finally(() => this.#loading.delete(keyId));
    this.#loading.set(keyId, loading);
    return loading;
  }

  async #ask(keyId: KeyId): Promise<void> {
    const settled = await this.#keys.spent(keyId);
    if (this.#spending.size >= KEYS_KEPT_MAX) this.#forgetIdle();
    this.#spending.set(keyId, { settled, held: ZERO_USD });
  }

  #forgetIdle(): void {
    for (const [keyId, spending] of this.#spending) {
      if (spending.held === 0) this.#spending.delete(keyId);
    }
  }
}
