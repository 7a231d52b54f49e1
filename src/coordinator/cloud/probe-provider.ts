/** Probes a provider's models one after the other and keeps what was found; told as it goes on. */
import { addUsd, type MicroUsd, ZERO_USD } from "../../domain/money.ts";
import type { ProviderModel, ProviderSpec } from "../../domain/provider.ts";
import type { Clock } from "../../ports/clock.ts";
import type { CloudUpstream } from "../../ports/cloud-upstream.ts";
import type { ProbeEvent } from "../admin/provider-schemas.ts";
import { askOnce } from "./ask-once.ts";
import type { CloudDesk } from "./cloud-desk.ts";
import { PROBE_TOKENS_MAX, probeModel } from "./probe-model.ts";
import { costOf } from "./provider-seat.ts";

const LIST_MS_MAX = 20_000;

export interface ProbeParts {
  readonly desk: CloudDesk;
  readonly upstream: CloudUpstream;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** `models` are of `spec`. Ends after the last result, or when the signal tells that nobody listens. */
export async function* probeProvider(
  { spec, models }: { spec: ProviderSpec; models: readonly ProviderModel[] },
  parts: ProbeParts,
): AsyncGenerator<ProbeEvent> {
  const { desk, upstream, clock, signal } = parts;
  const { providerId } = spec;
  const costMicroUsdMax = models.reduce((sum, model) => addUsd(sum, probeCostMax(model)), ZERO_USD);
  yield { event: "begin", models: models.map(({ modelId }) => modelId), costMicroUsdMax };
  const listed = await upstream.models(spec, { totalMsMax: LIST_MS_MAX });
  const known = listed.ok ? new Set(listed.value) : null;
  yield {
    event: "listed",
    models: known?.size ?? null,
    missing: models.flatMap(({ upstreamModel }) => (known?.has(upstreamModel) === false ? [upstreamModel] : [])),
  };
  for (const model of models) {
    if (signal.aborted) return;
    const steps = probeModel(model, {
      ask: (question) => askOnce({ providerId, ...question }, { desk, clock, signal }),
      nowMs: Math.floor(clock.wallMs()),
    });
    let step = await steps.next();
    while (step.done !== true) {
      yield { event: "step", modelId: model.modelId, ...step.value };
      step = await steps.next();
    }
    if (signal.aborted) return;
    const found = step.value;
    if (found.ok) await desk.setAbilities(providerId, { model, abilities: found.abilities });
    yield {
      event: "result",
      modelId: model.modelId,
      abilities: found.ok ? found.abilities : null,
      failure: found.ok ? null : { failure: found.reason.failure, message: found.reason.message },
    };
  }
}

/** What probing the model costs us at most. */
export function probeCostMax(model: ProviderModel): MicroUsd {
  const { prompt, output } = PROBE_TOKENS_MAX;
  return costOf(model.cost, { promptTokens: prompt, outputTokens: output });
}
