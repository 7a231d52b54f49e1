/**
 * Who used the grid lately: normalised device-seconds of each tenant, halved every `HALF_LIFE_MS`. For people and metrics; the
 * queue has its own accounts.
 */
import { assert } from "../../domain/assert.ts";

const HALF_LIFE_MS = 5 * 60_000;
/** Beyond this, those with the least use are forgotten. */
const TENANTS_MAX = 4_096;
/** Used less than this: gone. */
const FORGOTTEN_SECONDS = 1e-6;

export interface SharesSummary {
  readonly tenants: number;
  /** Of the tenant that used most, 0 to 1; 0 when nobody used anything. */
  readonly largestShare: number;
  /** 1 when all used the same, 1/n when one of n used everything; 1 for nobody. */
  readonly jainIndex: number;
}

export class TenantShares {
  readonly #used = new Map<string, { seconds: number; atMs: number }>();

  record(use: { tenantId: string; deviceSeconds: number; nowMs: number }): void {
    const before = this.#used.get(use.tenantId);
    const left = before === undefined ? 0 : decayed(before, use.nowMs);
    this.#used.set(use.tenantId, { seconds: left + use.deviceSeconds, atMs: use.nowMs });
    if (this.#used.size > TENANTS_MAX) this.#forget(use.nowMs);
  }

  summary(nowMs: number): SharesSummary {
    this.#forget(nowMs);
    const used = [...this.#used.values()].map((one) => decayed(one, nowMs));
    const total = used.reduce((sum, seconds) => sum + seconds, 0);
    const largestShare = total === 0 ? 0 : Math.max(...used) / total;
    return { tenants: used.length, largestShare, jainIndex: jainIndex(used) };
  }

  #forget(nowMs: number): void {
    const byUse = [...this.#used].map(([tenantId, one]) => ({ tenantId, seconds: decayed(one, nowMs) }));
    byUse.sort((a, b) => b.seconds - a.seconds || (a.tenantId < b.tenantId ? -1 : 1));
    for (const [at, { tenantId, seconds }] of byUse.entries()) {
      if (at >= TENANTS_MAX || seconds < FORGOTTEN_SECONDS) this.#used.delete(tenantId);
    }
  }
}

/** R. Jain, D. Chiu, W. Hawe, "A quantitative measure of fairness", DEC-TR-301, 1984. */
export function jainIndex(values: readonly number[]): number {
  let sum = 0;
  let squares = 0;
  for (const value of values) {
    assert(value >= 0, `${value} is no negative share`);
    sum += value;
    squares += value * value;
  }
  return squares === 0 ? 1 : (sum * sum) / (values.length * squares);
}

function decayed(one: { seconds: number; atMs: number }, nowMs: number): number {
  return one.seconds * 2 ** (-Math.max(0, nowMs - one.atMs) / HALF_LIFE_MS);
}
