/**
 * A request is paid in two phases: before it runs, the most it can cost is held from the tenant's balance; when it ends,
 * what was delivered is posted and the rest is restored. So a tenant can never owe more than there is.
 */
import { type RequestId, type TenantId, type TransferId, transferId } from "../domain/ids.ts";
import type { Transfer } from "../domain/ledger.ts";
import { addUsd, type MicroUsd, priced, type TokenPrice } from "../domain/money.ts";
import { ESCROW, tenantAccount } from "./accounts.ts";

/** The most that a request can cost; each of its two lines is rounded up, as in `costOf`. */
export function holdAmount(request: {
  readonly promptTokens: number;
  /** Of one choice. */
  readonly maxTokens: number;
  readonly choices: number;
  readonly price: TokenPrice;
}): MicroUsd {
  return bill({
    promptTokens: request.promptTokens,
    outputTokens: request.maxTokens * request.choices,
    price: request.price,
  });
}

/**
 * What a request costs. The prompt is charged once, however often a failover prefilled it, and only when something was
 * delivered: a token, or the end of an attempt that has no tokens to give (an embedding).
 */
export function costOf(request: {
  readonly promptTokens: number;
  /** Acknowledged by the coordinator, over all choices. */
  readonly outputTokens: number;
  readonly hasFinished: boolean;
  readonly price: TokenPrice;
}): MicroUsd {
  const isDelivered = request.outputTokens > 0 || request.hasFinished;
  return bill({ ...request, promptTokens: isDelivered ? request.promptTokens : 0 });
}

/** What a cloud provider's part costs the tenant; each part is a bill of its own. */
export function cloudCharge(part: {
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly price: TokenPrice;
}): MicroUsd {
  return bill(part);
}

function bill(lines: { promptTokens: number; outputTokens: number; price: TokenPrice }): MicroUsd {
  const { inputMicroUsdPerMtok, outputMicroUsdPerMtok } = lines.price;
  return addUsd(
    priced({ tokens: lines.promptTokens, microUsdPerMtok: inputMicroUsdPerMtok, round: "up" }),
    priced({ tokens: lines.outputTokens, microUsdPerMtok: outputMicroUsdPerMtok, round: "up" }),
  );
}

/** `run`: names one of several tries to run the same request, each of which holds anew; the charge is the request's, so there is one at most. */
export function holdIdOf(request: RequestId, run: string | null = null): TransferId {
  return transferId(run === null ? `${request}:hold` : `${request}:hold:${run}`);
}

/** `amountMicroUsd` above zero: a free request has no hold. */
export function holdTransfer(hold: {
  readonly requestId: RequestId;
  readonly tenantId: TenantId;
  readonly amountMicroUsd: MicroUsd;
  readonly atMs: number;
  readonly run?: string;
}): Transfer {
  return {
    transferId: holdIdOf(hold.requestId, hold.run ?? null),
    kind: "hold",
    debitAccountId: tenantAccount(hold.tenantId),
    creditAccountId: ESCROW,
    amountMicroUsd: hold.amountMicroUsd,
    holdTransferId: null,
    requestId: hold.requestId,
    reason: "hold",
    atMs: hold.atMs,
  };
}

/** Gives the whole hold back. */
export function voidTransfer(hold: Transfer, atMs: number): Transfer {
  const isOnly = hold.requestId !== null && hold.transferId === holdIdOf(hold.requestId);
  return {
    ...hold,
    transferId: transferId(isOnly ? `${hold.requestId}:void` : `${hold.transferId}:void`),
    kind: "void",
    holdTransferId: hold.transferId,
    reason: "void",
    atMs,
  };
}
