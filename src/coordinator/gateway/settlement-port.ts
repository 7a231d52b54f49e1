/** What the gateway needs of settlement: reserve before, settle after, show receipts. */
import type { AttemptRecord } from "../../domain/attempt.ts";
import type { KeyId, ReceiptId, RequestId, Sha256Hex, TenantId } from "../../domain/ids.ts";
import type { ModelManifest } from "../../domain/model.ts";
import type { MicroUsd, TokenPrice } from "../../domain/money.ts";
import type { ReceiptChoice, SignedReceipt } from "../../domain/receipt.ts";
import type { Outcome } from "../../domain/refusal.ts";
import type { ServiceTier } from "../../domain/tier.ts";

export interface HoldRequest {
  readonly requestId: RequestId;
  readonly tenantId: TenantId;
  readonly keyId: KeyId;
  /** What the key may spend in all; null: no bound of its own. */
  readonly budgetMicroUsd: MicroUsd | null;
  /** The most that the request can cost. */
  readonly amountMicroUsd: MicroUsd;
  readonly atMs: number;
}

export interface SettleRequest {
  readonly requestId: RequestId;
  readonly tenantId: TenantId;
  readonly keyId: KeyId;
  readonly model: ModelManifest;
  readonly tier: ServiceTier;
  readonly price: TokenPrice;
  readonly requestSha256: Sha256Hex;
  readonly seedSha256: Sha256Hex;
  readonly promptTokens: number;
  readonly choices: readonly ReceiptChoice[];
  /** `acknowledgedTokens` of each is what was delivered of it: what the tenant pays and the node is paid for. */
  readonly attempts: readonly AttemptRecord[];
  readonly createdAtMs: number;
}

export interface Settled {
  readonly receiptId: ReceiptId;
  readonly costMicroUsd: MicroUsd;
}

export interface GatewaySettlement {
  /** Refuses with `insufficient-funds` or `budget-exceeded`. */
  hold(request: HoldRequest): Promise<Outcome<void>>;
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
