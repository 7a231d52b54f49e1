/** `x-ratelimit-*-budget`: where the key, or its tenant, stands under the cap that has the least left. Keys without a cap get none. */
import { formatUsd, type MicroUsd, microUsd } from "../../../domain/money.ts";
import { monthEndMs } from "../../../market/usage-day.ts";
import type { ApiKey } from "../../../ports/store.ts";
import { capsOf } from "../../settlement/settlement.ts";
import type { GatewayState } from "../gateway-state.ts";
import { goDuration } from "./rate-limit.ts";

export async function writeBudgetHeaders(state: GatewayState, key: ApiKey, headers: Headers): Promise<void> {
  const { settlement, clock } = state.deps;
  const caps = capsOf(await state.keys.capsOf(key));
  const atMs = Math.floor(clock.wallMs());
  const cap = settlement.budgetLeft?.({ keyId: key.keyId, tenantId: key.tenantId, atMs }, caps) ?? null;
  if (cap === null) return;
  headers.set("x-ratelimit-limit-budget", formatUsd(cap.capMicroUsd));
  headers.set("x-ratelimit-remaining-budget", formatUsd(atLeastNothing(cap.leftMicroUsd)));
  if (cap.scope === "month") headers.set("x-ratelimit-reset-budget", goDuration(monthEndMs(atMs) - atMs));
}

/** A cap that was lowered below what is spent has nothing left, not less. */
function atLeastNothing(left: MicroUsd): MicroUsd {
  return microUsd(Math.max(0, left));
}
