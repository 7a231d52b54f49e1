/** Usage added up by what somebody wants to see it by. Rows come from the store by all dimensions there are. */
import { addUsd, type MicroUsd } from "../domain/money.ts";

export const USAGE_DIMENSIONS = ["day", "tenant", "key", "model", "tier", "provider"] as const;
export type UsageDimension = (typeof USAGE_DIMENSIONS)[number];

export interface UsageSums {
  readonly requests: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly costMicroUsd: MicroUsd;
}

export interface UsageSource extends UsageSums {
  readonly day: string;
  readonly tenantId: string;
  readonly keyId: string;
  readonly modelId: string;
  readonly tier: string;
  readonly provider: string;
}

export interface UsageGroup extends UsageSums {
  /** In the order of the dimensions that were asked for. */
  readonly by: readonly string[];
}

const FIELD: Readonly<Record<UsageDimension, (row: UsageSource) => string>> = {
  day: (row) => row.day,
  tenant: (row) => row.tenantId,
  key: (row) => row.keyId,
  model: (row) => row.modelId,
  tier: (row) => row.tier,
  provider: (row) => row.provider,
};

/** Sorted by the dimensions in their order; without any, one group of all (and none where there is nothing). */
export function groupUsage(rows: readonly UsageSource[], dimensions: readonly UsageDimension[]): readonly UsageGroup[] {
  const groups = new Map<string, UsageGroup>();
  for (const row of rows) {
    const by = dimensions.map((dimension) => FIELD[dimension](row));
    const name = JSON.stringify(by);
    const group = groups.get(name);
    groups.set(name, group === undefined ? { ...sumsOf(row), by } : { ...added(group, row), by });
  }
  return [...groups.values()].sort((a, b) => compare(a.by, b.by));
}

function sumsOf({ requests, promptTokens, outputTokens, costMicroUsd }: UsageSums): UsageSums {
  return { requests, promptTokens, outputTokens, costMicroUsd };
}

function added(a: UsageSums, b: UsageSums): UsageSums {
  return {
    requests: a.requests + b.requests,
    promptTokens: a.promptTokens + b.promptTokens,
    outputTokens: a.outputTokens + b.outputTokens,
    costMicroUsd: addUsd(a.costMicroUsd, b.costMicroUsd),
  };
}

/** By bytes, field by field. */
function compare(a: readonly string[], b: readonly string[]): number {
  for (const [at, field] of a.entries()) {
    const other = b[at] ?? "";
    if (field !== other) return field < other ? -1 : 1;
  }
  return 0;
}
