/** House credit: what the operator of a fresh grid gives its first tenant, so that the first request is not refused. */
import { type TenantId, transferId } from "../domain/ids.ts";
import type { Transfer } from "../domain/ledger.ts";
import { type MicroUsd, microUsd } from "../domain/money.ts";
import { HOUSE, tenantAccount } from "./accounts.ts";

/** 100 USD: at a typical price of an 8B model (0.10 USD per million tokens) about a billion tokens. */
export const FIRST_HOUSE_CREDIT: MicroUsd = microUsd(100_000_000);

/** `creditId` names the occasion (`first`, `gift-2`): the same tenant and occasion are credited once. */
export function houseCredit(credit: {
  readonly tenantId: TenantId;
  readonly creditId: string;
  readonly amountMicroUsd: MicroUsd;
  readonly atMs: number;
}): Transfer {
  return {
    transferId: transferId(`house:${credit.tenantId}:${credit.creditId}`),
    kind: "direct",
    debitAccountId: HOUSE,
    creditAccountId: tenantAccount(credit.tenantId),
    amountMicroUsd: credit.amountMicroUsd,
    holdTransferId: null,
    requestId: null,
    reason: "house-credit",
    atMs: credit.atMs,
  };
}
