/** The operator's routes about models: list, add, remove, the jobs that bring them, and checks of their files. */
import type { Context, Hono } from "hono";
import { ID_PATTERNS, type ModelId, modelId } from "../../domain/ids.ts";
import { refuse } from "../../domain/refusal.ts";
import type { ModelRecord } from "../../ports/store.ts";
import { modelRow } from "./admin-rows.ts";
import type { AdminSources } from "./admin-sources.ts";
import { eventStream } from "./event-stream.ts";
import { addModelSchema, setDraftSchema } from "./model-schemas.ts";
import { bodyOf } from "./request-body.ts";

export function addModelRoutes(app: Hono, sources: AdminSources): void {
  const { gate, store } = sources;
  app.get("/admin/v1/models", async (context) => {
    const models = await store.models.list();
    return context.json({
      models: models.map((model) => modelRow(model, sources.readyReplicas(model.manifest.modelId))),
    });
  });
  app.get("/admin/v1/models/:modelId", (context) =>
    withModel(context, sources, (model) =>
      Promise.resolve(context.json({ model: modelRow(model, sources.readyReplicas(model.manifest.modelId)) })),
    ),
  );
  app.post("/admin/v1/models", (context) => addModel(context, sources));
  app.delete("/admin/v1/models/:modelId", async (context) => {
    const id = idOf(context);
    const isDone = id !== null && (await sources.models.remove(id));
    return isDone ? context.json({ ok: true }) : gate.refusal(context, unknown("model", context.req.param("modelId")));
  });
  app.put("/admin/v1/models/:modelId/draft", (context) =>
    withModel(context, sources, async ({ manifest }) => {
      const body = await bodyOf(context, setDraftSchema);
      if (!body.ok) return gate.refusal(context, body.reason);
      const set = await sources.models.setDraft(manifest.modelId, body.value.draftModelId);
      if (!set.ok) return gate.refusal(context, set.reason);
      return context.json({ model: modelRow(set.value, sources.readyReplicas(manifest.modelId)) });
    }),
  );
  app.get("/admin/v1/models/:modelId/weights", (context) =>
    withModel(context, sources, async (model) => context.json({ weights: await sources.models.weights(model) })),
  );
  app.post("/admin/v1/models/:modelId/verify", (context) =>
    withModel(context, sources, (model) =>
      Promise.resolve(eventStream(context, (signal) => sources.models.check(model, { isMending: false, signal }))),
    ),
  );
  app.post("/admin/v1/models/:modelId/pull", (context) =>
    withModel(context, sources, async (model) => {
      const job = await sources.models.fetchAnew(model);
      if (job !== null && !job.ok) return gate.refusal(context, job.reason);
      if (job !== null) return context.json({ job: job.value }, 202);
      return eventStream(context, (signal) => sources.models.check(model, { isMending: true, signal }));
    }),
  );
  addJobRoutes(app, sources);
}

async function addModel(context: Context, sources: AdminSources): Promise<Response> {
  const { gate, models } = sources;
  const body = await bodyOf(context, addModelSchema);
  if (!body.ok) return gate.refusal(context, body.reason);
  if (body.value.path !== undefined) {
    const added = await models.add(body.value, context.req.raw.signal);
    return added.ok ? context.json({ model: modelRow(added.value, 0) }, 201) : gate.refusal(context, added.reason);
  }
  const job = await models.start(body.value);
  if (!job.ok) return gate.refusal(context, job.reason);
  const wantsEvents = /text\/event-stream|application\/x-ndjson/.test(context.req.header("accept") ?? "");
  if (!wantsEvents) return context.json({ job: job.value }, 202);
  return eventStream(context, (signal) => models.jobs?.follow(job.value.jobId, signal) ?? none());
}

function addJobRoutes(app: Hono, { gate, models }: AdminSources): void {
  const path = "/admin/v1/model-jobs";
  app.get(path, (context) => context.json({ jobs: models.jobs?.list() ?? [] }));
  app.get(`${path}/:jobId`, (context) => {
    const job = models.jobs?.get(context.req.param("jobId")) ?? null;
    return job === null ? gate.refusal(context, unknown("job", context.req.param("jobId"))) : context.json({ job });
  });
  app.get(`${path}/:jobId/events`, (context) => {
    const jobId = context.req.param("jobId");
    const { jobs } = models;
    if (jobs === null || jobs.get(jobId) === null) return gate.refusal(context, unknown("job", jobId));
    return eventStream(context, (signal) => jobs.follow(jobId, signal));
  });
  app.post(`${path}/:jobId/pause`, async (context) => {
    const jobId = context.req.param("jobId");
    const isDone = (await models.jobs?.pause(jobId)) === true;
    return isDone ? context.json({ ok: true }) : gate.refusal(context, unknown("job", jobId));
  });
  app.delete(`${path}/:jobId`, async (context) => {
    const jobId = context.req.param("jobId");
    const isDone = (await models.jobs?.cancel(jobId)) === true;
    return isDone ? context.json({ ok: true }) : gate.refusal(context, unknown("job", jobId));
  });
}

async function withModel(
  context: Context,
  { gate, store }: AdminSources,
  answer: (model: ModelRecord) => Promise<Response>,
): Promise<Response> {
  const id = idOf(context);
  const model = id === null ? null : await store.models.get(id);
  return model === null
    ? gate.refusal(context, unknown("model", context.req.param("modelId") ?? ""))
    : await answer(model);
}

function idOf(context: Context): ModelId | null {
  const named = context.req.param("modelId") ?? "";
  return ID_PATTERNS.model.test(named) ? modelId(named) : null;
}

function unknown(kind: string, named: string) {
  return refuse("not-found", `there is no ${kind} called ${JSON.stringify(named.slice(0, 80))}`).reason;
}

async function* none(): AsyncIterable<unknown> {
  // A grid without sources starts no job, so nothing is followed.
}
