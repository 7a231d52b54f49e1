/**
 * Double entry. A transfer moves an amount from the account it debits to the account it credits; it is immutable and applied
 * once. Two phases: a `hold` reserves (pending columns), later one `post` of at most the held amount (the rest is restored)
 * or one `void`. Corrections are new transfers.
 *
 * | transfer | state before        | effect                                                                     |
 * | -------- | ------------------- | -------------------------------------------------------------------------- |
 * | direct   | -                   | debitsPosted and creditsPosted grow                                         |
 * | hold     | -                   | debitsPending and creditsPending grow                                       |
 * | post     | hold open           | pending shrinks by the held amount, posted grows by the transfer's amount   |
 * | void     | hold open           | pending shrinks by the held amount                                          |
 * | post, void | hold resolved, none | refused: `hold-already-resolved`, `hold-unknown`                          |
 */
import type { AccountId, RequestId, TransferId } from "./ids.ts";
import type { MicroUsd } from "./money.ts";

export interface Transfer {
  readonly transferId: TransferId;
  readonly kind: "direct" | "hold" | "post" | "void";
  readonly debitAccountId: AccountId;
  readonly creditAccountId: AccountId;
  /** Above zero; for `void` the held amount. */
  readonly amountMicroUsd: MicroUsd;
  /** The hold that a `post` or `void` resolves; null otherwise. */
  readonly holdTransferId: TransferId | null;
  readonly requestId: RequestId | null;
  /** Why: `hold`, `charge`, `node-share`, `platform-fee`, `audit-fee`, `provider-cost`, `rounding`, `house-credit`, `release`, `void`. */
  readonly reason: string;
  readonly atMs: number;
}

export interface Account {
  readonly accountId: AccountId;
  /** Tenants, escrow and node accounts may not go below zero; outside accounts (`ext:…`) may. */
  readonly mustNotOverdraw: boolean;
  readonly debitsPending: MicroUsd;
  readonly debitsPosted: MicroUsd;
  readonly creditsPending: MicroUsd;
  readonly creditsPosted: MicroUsd;
}

export type LedgerRefusal =
  | {
      readonly code: "insufficient-funds";
      readonly accountId: AccountId;
      readonly availableMicroUsd: MicroUsd;
      readonly neededMicroUsd: MicroUsd;
    }
  | { readonly code: "transfer-differs"; readonly transferId: TransferId }
  | { readonly code: "hold-unknown"; readonly transferId: TransferId }
  | { readonly code: "hold-already-resolved"; readonly transferId: TransferId }
  | { readonly code: "hold-exceeded"; readonly transferId: TransferId };

export type LedgerOutcome =
  | { readonly ok: true; readonly isReplay: boolean }
  | { readonly ok: false; readonly reason: LedgerRefusal };

/** What an account may still spend: credits posted, less debits posted and held. */
export function availableMicroUsd(account: Account): number {
  return account.creditsPosted - account.debitsPosted - account.debitsPending;
}
