/** A refusal of the grid for want of capacity also says that a provider could have run the request, where only the caller's word is missing. */
import type { Refusal, RefusalCode } from "../../../domain/refusal.ts";
import type { Cloud } from "../../../ports/cloud.ts";
import { hybridOf } from "../../../scheduler/tiers/route-rules.ts";
import type { GenerationPlan } from "../plans/generation-plan.ts";

const FOR_CAPACITY: ReadonlySet<RefusalCode> = new Set([
  "no-capacity",
  "no-capable-node",
  "queue-full",
  "resource-unavailable",
]);

export function withCloudHint(
  refusal: Refusal,
  by: { readonly runner: { readonly deps: { readonly cloud?: Cloud } }; readonly plan: GenerationPlan },
): Refusal {
  const { plan } = by;
  if (!FOR_CAPACITY.has(refusal.code) || hybridOf(plan.tier, plan.preferences) !== "grid-only") return refusal;
  const offers = by.runner.deps.cloud?.offers(plan.model.manifest.modelId) ?? [];
  const names = offers.flatMap(({ spec }) => (spec.isEnabled ? [spec.providerId] : []));
  if (names.length === 0) return refusal;
  const hint = `cloud providers that have the model (${names.join(", ")}) were not asked, as grid.hybrid is grid-only: prefer-grid or cloud-fallback lets them in`;
  return { ...refusal, message: `${refusal.message}; ${hint}` };
}
