/**
 * Law 1: postings sum to zero, nothing is overdrawn, nobody pays for what was not delivered, a request is charged once,
 * and no key spends more than its budget.
 *
 * Keeps books of its own from the transfers that the store took, by plain addition, and holds the store's accounts against
 * them after every event that moved money. What was delivered is what the client saw, not what anybody counted for it.
 */
import type { AccountId, KeyId, RequestId, TransferId } from "../../domain/ids.ts";
import { type Account, availableMicroUsd, type Transfer } from "../../domain/ledger.ts";
import type { TokenPrice } from "../../domain/money.ts";
import { ESCROW } from "../../market/accounts.ts";
import type { Store } from "../../ports/store.ts";
import type { Checker, Observation, Report, RequestAsked } from "../observation.ts";

interface Book {
  posted: number;
  pending: number;
}

interface Purchase {
  readonly asked: RequestAsked;
  /** Tokens. */
  delivered: number;
  isEmbedded: boolean;
  charges: number;
  chargedMicroUsd: number;
  outcome: string | null;
}

export class MoneyChecker implements Checker {
  readonly name = "money";
  readonly #store: Store;
  readonly #report: Report;
  readonly #books = new Map<AccountId, Book>();
  readonly #transfers = new Map<TransferId, Transfer>();
  readonly #openHolds = new Set<TransferId>();
  readonly #purchases = new Map<RequestId, Purchase>();
  readonly #spent = new Map<KeyId, number>();
  readonly #settled = new Set<RequestId>();
  #isMoved = false;

  constructor(options: { store: Store; report: Report }) {
    this.#store = options.store;
    this.#report = options.report;
  }

  observe(observation: Observation): void {
    switch (observation.kind) {
      case "asked": {
        const { request } = observation;
        const none = { delivered: 0, isEmbedded: false, charges: 0, chargedMicroUsd: 0, outcome: null };
        this.#purchases.set(request.terms.requestId, { asked: request, ...none });
        break;
      }
      case "generation":
        if (observation.event.kind === "tokens") {
          const purchase = this.#purchases.get(observation.requestId);
          if (purchase !== undefined) purchase.delivered += observation.event.tokens.length;
        }
        break;
      case "embedded": {
        const purchase = this.#purchases.get(observation.requestId);
        if (purchase !== undefined) purchase.isEmbedded = observation.vectors !== null;
        break;
      }
      case "transfers":
        for (const transfer of observation.transfers) this.#move(transfer);
        break;
      case "settled":
        this.#settle(observation);
        break;
      case "outcome": {
        const purchase = this.#purchases.get(observation.requestId);
        if (purchase !== undefined) purchase.outcome = observation.outcome.kind;
        break;
      }
    }
  }

  async afterEvent(): Promise<void> {
    if (!this.#isMoved) return;
    this.#isMoved = false;
    this.#compare(await this.#store.ledger.accounts());
  }

  async atEnd(): Promise<void> {
    for (const hold of await this.#store.ledger.openHolds()) {
      this.#break(`${hold.transferId} still holds ${hold.amountMicroUsd}`);
    }
    for (const purchase of this.#purchases.values()) this.#checkPurchase(purchase);
  }

  /** The transfers of the settlement were told before. */
  #settle(told: { requestId: RequestId; costMicroUsd: number; leafIndex: number }): void {
    const { requestId, costMicroUsd, leafIndex } = told;
    if (this.#settled.has(requestId)) this.#break(`${requestId} was settled twice`);
    if (leafIndex !== this.#settled.size) {
      this.#break(`the receipt of ${requestId} is leaf ${leafIndex}, the log had ${this.#settled.size}`);
    }
    this.#settled.add(requestId);
    const charged = this.#purchases.get(requestId)?.chargedMicroUsd ?? 0;
    if (costMicroUsd !== charged)
      this.#break(`the receipt of ${requestId} says ${costMicroUsd}, charged was ${charged}`);
  }

  #move(transfer: Transfer): void {
    const known = this.#transfers.get(transfer.transferId);
    if (known !== undefined) return;
    this.#transfers.set(transfer.transferId, transfer);
    this.#isMoved = true;
    const amount = transfer.amountMicroUsd;
    switch (transfer.kind) {
      case "direct":
        this.#post(transfer, amount);
        break;
      case "hold":
        this.#hold(transfer, amount);
        this.#openHolds.add(transfer.transferId);
        break;
      case "post":
      case "void":
        this.#resolve(transfer);
        break;
    }
    if (transfer.reason === "charge") this.#charge(transfer);
  }

  #resolve(transfer: Transfer): void {
    const hold = transfer.holdTransferId === null ? undefined : this.#transfers.get(transfer.holdTransferId);
    if (hold === undefined || !this.#openHolds.delete(hold.transferId)) {
      this.#break(`${transfer.transferId} resolves a hold that is not open`);
      return;
    }
    this.#hold(transfer, -hold.amountMicroUsd);
    if (transfer.kind === "post") this.#post(transfer, transfer.amountMicroUsd);
  }

  #post(transfer: Transfer, amount: number): void {
    this.#book(transfer.debitAccountId).posted -= amount;
    this.#book(transfer.creditAccountId).posted += amount;
  }

  #hold(transfer: Transfer, amount: number): void {
    this.#book(transfer.debitAccountId).pending -= amount;
    this.#book(transfer.creditAccountId).pending += amount;
  }

  #charge(transfer: Transfer): void {
    const purchase = transfer.requestId === null ? undefined : this.#purchases.get(transfer.requestId);
    if (purchase === undefined) {
      this.#break(`${transfer.transferId} charges for a request that nobody made`);
      return;
    }
    purchase.charges += 1;
    purchase.chargedMicroUsd += transfer.amountMicroUsd;
    const worth = worthOf(purchase);
    if (purchase.chargedMicroUsd > worth) {
      this.#break(`${transfer.requestId} was charged ${purchase.chargedMicroUsd} for what is worth ${worth}`);
    }
    const { keyId, budgetMicroUsd } = purchase.asked;
    const spent = (this.#spent.get(keyId) ?? 0) + transfer.amountMicroUsd;
    this.#spent.set(keyId, spent);
    if (budgetMicroUsd !== null && spent > budgetMicroUsd) {
      this.#break(`${keyId} has spent ${spent} of a budget of ${budgetMicroUsd}`);
    }
    if (purchase.charges > 1) this.#break(`${transfer.requestId} was charged ${purchase.charges} times`);
  }

  #compare(accounts: readonly Account[]): void {
    let posted = 0;
    let pending = 0;
    for (const account of accounts) {
      const accountPosted = account.creditsPosted - account.debitsPosted;
      const accountPending = account.creditsPending - account.debitsPending;
      posted += accountPosted;
      pending += accountPending;
      const own = this.#book(account.accountId);
      if (own.posted !== accountPosted || own.pending !== accountPending) {
        const told = `${accountPosted} posted and ${accountPending} held`;
        this.#break(`${account.accountId} has ${told}, its transfers add up to ${own.posted} and ${own.pending}`);
      }
      if (account.mustNotOverdraw && availableMicroUsd(account) < 0) {
        this.#break(`${account.accountId} is overdrawn: ${availableMicroUsd(account)}`);
      }
    }
    const inEscrow = this.#book(ESCROW).posted;
    if (inEscrow !== 0) this.#break(`${inEscrow} stay in escrow: charged, and paid to nobody`);
    if (posted !== 0 || pending !== 0) this.#break(`postings sum to ${posted}, holds to ${pending}`);
  }

  #checkPurchase(purchase: Purchase): void {
    const { outcome, asked } = purchase;
    // Whoever was cut off by the coordinator's death pays at most for what came; `#charge` saw to that.
    if (outcome !== "answered" && outcome !== "cancelled") return;
    const worth = worthOf(purchase);
    if (purchase.chargedMicroUsd !== worth) {
      const { requestId } = asked.terms;
      this.#break(`${requestId} (${outcome}) paid ${purchase.chargedMicroUsd} for what is worth ${worth}`);
    }
  }

  #book(account: AccountId): Book {
    let book = this.#books.get(account);
    if (book === undefined) {
      book = { posted: 0, pending: 0 };
      this.#books.set(account, book);
    }
    return book;
  }

  #break(what: string): void {
    this.#report({ law: 1, what });
  }
}

/** The bill by the price list: prompt once if anything came, each line rounded up. */
function worthOf(purchase: Purchase): number {
  if (purchase.delivered === 0 && !purchase.isEmbedded) return 0;
  const { price } = purchase.asked.terms;
  return line(purchase.asked.promptTokens, price, "input") + line(purchase.delivered, price, "output");
}

function line(tokens: number, price: TokenPrice, side: "input" | "output"): number {
  const perMtok = side === "input" ? price.inputMicroUsdPerMtok : price.outputMicroUsdPerMtok;
  return Math.ceil((tokens * perMtok) / 1_000_000);
}
