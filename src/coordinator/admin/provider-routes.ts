/** The operator's routes about cloud providers: list, add, change, enable, probe, try, remove. */
import type { Context, Hono } from "hono";
import type { ProviderModel } from "../../domain/provider.ts";
import { refuse } from "../../domain/refusal.ts";
import type { Clock } from "../../ports/clock.ts";
import type { CloudProviderView } from "../../ports/cloud.ts";
import type { CloudUpstream } from "../../ports/cloud-upstream.ts";
import { specOf } from "../../wire/provider-settings.ts";
import { askOnce } from "../cloud/ask-once.ts";
import type { CloudDesk } from "../cloud/cloud-desk.ts";
import { probeProvider } from "../cloud/probe-provider.ts";
import { costOf } from "../cloud/provider-seat.ts";
import type { AdminGate } from "./admin-sources.ts";
import { eventStream } from "./event-stream.ts";
import {
  enableProviderSchema,
  type ProviderRow,
  probeProviderSchema,
  providerSettingsSchema,
  type TestAnswer,
  testProviderSchema,
} from "./provider-schemas.ts";
import { bodyOf } from "./request-body.ts";

const PATH = "/admin/v1/providers";
const TEST_DEFAULTS = { prompt: "Say hello in one short sentence.", tokensMax: 64 } as const;
/** 500 models with every field. */
const SETTINGS_BYTES_MAX = 1_048_576;

export interface ProviderSources {
  readonly gate: Pick<AdminGate, "refusal">;
  readonly clock: Clock;
  /** Null where no cloud provider can be asked. */
  readonly cloud: { readonly desk: CloudDesk; readonly upstream: CloudUpstream } | null;
}

type Cloud = NonNullable<ProviderSources["cloud"]>;

export function addProviderRoutes(app: Hono, { gate, clock, cloud }: ProviderSources): void {
  if (cloud === null) {
    app.get(PATH, (context) => context.json({ providers: [] }));
    return;
  }
  const { desk } = cloud;
  const row = (view: CloudProviderView) => rowOf(view, desk);
  const named = (context: Context, answer: (view: CloudProviderView) => Promise<Response> | Response) => {
    const providerId = context.req.param("providerId") ?? "";
    const view = desk.get(providerId);
    return view === null ? gate.refusal(context, unknown(providerId)) : answer(view);
  };
  app.get(PATH, (context) => context.json({ providers: desk.list().map(row) }));
  app.get(`${PATH}/:providerId`, (context) => named(context, (view) => context.json({ provider: row(view) })));
  app.put(`${PATH}/:providerId`, async (context) => {
    const body = await bodyOf(context, providerSettingsSchema, "", SETTINGS_BYTES_MAX);
    if (!body.ok) return gate.refusal(context, body.reason);
    const { providerId } = body.value;
    if (providerId !== context.req.param("providerId")) {
      const message = `the path names ${context.req.param("providerId")} and the body ${providerId}`;
      return gate.refusal(context, refuse("invalid-request", message, { param: "providerId" }).reason);
    }
    const before = desk.get(providerId)?.spec ?? null;
    const put = await desk.put(specOf(body.value, before, Math.floor(clock.wallMs())));
    if (!put.ok) return gate.refusal(context, put.reason);
    return context.json({ provider: row(put.value) }, before === null ? 201 : 200);
  });
  app.post(`${PATH}/:providerId/enabled`, (context) =>
    named(context, async ({ spec }) => {
      const body = await bodyOf(context, enableProviderSchema);
      if (!body.ok) return gate.refusal(context, body.reason);
      const changed = await desk.change(spec.providerId, (now) => ({ ...now, ...body.value }));
      return changed === null
        ? gate.refusal(context, unknown(spec.providerId))
        : context.json({ provider: row(changed) });
    }),
  );
  app.delete(`${PATH}/:providerId`, async (context) => {
    const providerId = context.req.param("providerId");
    const isDone = await desk.remove(providerId);
    return isDone ? context.json({ ok: true }) : gate.refusal(context, unknown(providerId));
  });
  app.post(`${PATH}/:providerId/probe`, (context) =>
    named(context, async ({ spec }) => {
      const body = await bodyOf(context, probeProviderSchema, "{}");
      if (!body.ok) return gate.refusal(context, body.reason);
      const models = modelsOf(spec.models, body.value.models);
      if ("missing" in models) return gate.refusal(context, unknownModel(spec.providerId, models.missing));
      return eventStream(context, (signal) => probeProvider({ spec, models }, { ...cloud, clock, signal }));
    }),
  );
  app.post(`${PATH}/:providerId/test`, (context) =>
    named(context, async (view) => {
      const body = await bodyOf(context, testProviderSchema, "{}");
      if (!body.ok) return gate.refusal(context, body.reason);
      const { modelId, ...question } = body.value;
      const models = modelsOf(view.spec.models, modelId === undefined ? undefined : [modelId]);
      const model = "missing" in models ? undefined : models[0];
      if (model === undefined) return gate.refusal(context, unknownModel(view.spec.providerId, modelId ?? "any"));
      const { signal } = context.req.raw;
      return context.json(await test({ view, model, question }, { cloud, clock, signal }));
    }),
  );
}

async function test(
  {
    view,
    model,
    question,
  }: {
    view: CloudProviderView;
    model: ProviderModel;
    question: { prompt?: string | undefined; tokensMax?: number | undefined };
  },
  { cloud, clock, signal }: { cloud: Cloud; clock: Clock; signal: AbortSignal },
): Promise<TestAnswer> {
  const { prompt = TEST_DEFAULTS.prompt, tokensMax = TEST_DEFAULTS.tokensMax } = question;
  const form = { kind: "chat", body: { messages: [{ role: "user", content: prompt }] } } as const;
  const { providerId } = view.spec;
  const answer = await askOnce({ providerId, model, form, tokensMax }, { desk: cloud.desk, clock, signal });
  const { text, firstTokenMs, totalMs, usage, failure } = answer;
  return {
    modelId: model.modelId,
    text,
    firstTokenMs,
    totalMs,
    usage,
    costMicroUsd:
      usage === null
        ? null
        : costOf(model.cost, { promptTokens: usage.promptTokens, outputTokens: usage.completionTokens }),
    failure: failure === null ? null : { failure: failure.failure, message: failure.message },
  };
}

/** All of them, or those that are named. */
function modelsOf(
  models: readonly ProviderModel[],
  named: readonly string[] | undefined,
): readonly ProviderModel[] | { readonly missing: string } {
  if (named === undefined) return models;
  const missing = named.find((id) => !models.some(({ modelId }) => modelId === id));
  return missing === undefined ? models.filter(({ modelId }) => named.includes(modelId)) : { missing };
}

function rowOf({ spec, health }: CloudProviderView, desk: CloudDesk): ProviderRow {
  const { failed, oddities: _, ...numbers } = desk.numbersOf(spec.providerId);
  return {
    ...spec,
    regions: [...spec.regions],
    models: spec.models.map((model) => ({ ...model })),
    health,
    numbers: { ...numbers, failed: [...failed].map(([failure, count]) => ({ failure, count })) },
  };
}

function unknown(providerId: string) {
  return refuse("not-found", `there is no provider called ${JSON.stringify(providerId.slice(0, 80))}`).reason;
}

function unknownModel(providerId: string, modelId: string) {
  return refuse("model-not-found", `provider ${providerId} offers no model ${JSON.stringify(modelId.slice(0, 128))}`, {
    param: "model",
  }).reason;
}
