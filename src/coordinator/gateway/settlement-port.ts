/** What the gateway needs of settlement: reserve before, settle after, show receipts. */
import type { ReceiptId, RequestId } from "../../domain/ids.ts";
import type { MicroUsd } from "../../domain/money.ts";
import type { SignedReceipt } from "../../domain/receipt.ts";
import type { Outcome } from "../../domain/refusal.ts";
import type { SettleRequest } from "../settlement/build-settlement.ts";
import type { HoldRequest } from "../settlement/settlement.ts";
import type { CapView, SpendingCaps, SpendingClaim } from "../settlement/spending-desk.ts";

export interface Settled {
  readonly receiptId: ReceiptId;
  readonly costMicroUsd: MicroUsd;
}

export interface GatewaySettlement {
  /** Refuses with `insufficient-funds` or `budget-exceeded`. */
  hold(request: HoldRequest): Promise<Outcome<void>>;
  /** The cap with the least left, of those whose sums are known; null when there is none. */
  budgetLeft?(who: Pick<SpendingClaim, "keyId" | "tenantId" | "atMs">, caps: SpendingCaps): CapView | null;
  /** Charge, pay and receipt in one transaction; idempotent by request id. */
  settle(request: SettleRequest): Promise<Settled>;
  /** Gives the whole hold back: nothing was delivered. May be called without a hold. */
  voidHold(requestId: RequestId): Promise<void>;
  signedReceipt(receiptId: ReceiptId): Promise<SignedReceipt | null>;
  /** The grid's Ed25519 key, which signs receipts and checkpoints; 64 hex. */
  readonly publicKeyHex: string;
  /** The log's newest signed tree head, as text. */
  checkpoint(): Promise<string>;
}
