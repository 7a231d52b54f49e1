/**
 * The chart of accounts. Money enters the grid through `ext:` accounts, which stand for the world outside and may go below
 * zero; every other account may not.
 *
 * | account               | holds                                                              |
 * | --------------------- | ------------------------------------------------------------------ |
 * | `ext:house`           | what the house gave away: negative by the house credit              |
 * | `tenant:{id}`         | a tenant's balance                                                  |
 * | `escrow`              | charges on their way to those who earned them; zero between settlements |
 * | `node:{id}:held`      | earned, inside the audit window                                     |
 * | `node:{id}:payable`   | earned, past the audit window                                       |
 * | `provider:{id}`       | owed to a cloud provider for what it made                           |
 * | `rev:platform`        | the grid operator's share                                           |
 * | `rev:audit`           | pays for audits                                                     |
 * | `sys:rounding`        | remainders of rounding, never negative                              |
 */
import { type AccountId, accountId, type NodeId, type TenantId } from "../domain/ids.ts";

export const ESCROW: AccountId = accountId("escrow");
export const PLATFORM_REVENUE: AccountId = accountId("rev:platform");
export const AUDIT_REVENUE: AccountId = accountId("rev:audit");
export const ROUNDING: AccountId = accountId("sys:rounding");
export const HOUSE: AccountId = accountId("ext:house");

export function tenantAccount(tenant: TenantId): AccountId {
  return accountId(`tenant:${tenant}`);
}

export function nodeHeldAccount(node: NodeId): AccountId {
  return accountId(`node:${node}:held`);
}

export function nodePayableAccount(node: NodeId): AccountId {
  return accountId(`node:${node}:payable`);
}

export function providerAccount(providerId: string): AccountId {
  return accountId(`provider:${providerId}`);
}

export function mustNotOverdraw(account: AccountId): boolean {
  return !account.startsWith("ext:");
}
