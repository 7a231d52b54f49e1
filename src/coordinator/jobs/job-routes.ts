/** `/v1/files` and `/v1/batches`, as OpenAI's clients ask them, and pause and resume beside these. */
import type { Context, Hono } from "hono";
import { batchId, type FileId, fileId, ID_PATTERNS } from "../../domain/ids.ts";
import { type Outcome, ok, type Refusal, refuse } from "../../domain/refusal.ts";
import type { FileRecord } from "../../ports/batch-store.ts";
import { batchCreateSchema } from "../../wire/openai/batches.ts";
import { parseJson, readBodyText } from "../gateway/bodies/json-body.ts";
import { parseRequest } from "../gateway/bodies/schema-issues.ts";
import { errorResponse } from "../gateway/error-table.ts";
import type { GatewayGate } from "../gateway/gateway-state.ts";
import { batchObject, fileObject } from "./job-objects.ts";
import { READ_BYTES } from "./job-options.ts";
import type { JobPorts } from "./job-ports.ts";
import type { BatchView, Jobs } from "./jobs.ts";

const FILES_LISTED = { most: 10_000, fallback: 10_000 } as const;
const BATCHES_LISTED = { most: 100, fallback: 20 } as const;
const BODY_BYTES_MAX = 64 * 1024;
const JSON_DEPTH_MAX = 8;

export interface JobRoutes {
  readonly gate: GatewayGate;
  readonly jobs: Jobs;
  readonly blobs: JobPorts["blobs"];
}

export function addJobRoutes(app: Hono, routes: JobRoutes): void {
  addFileRoutes(app, routes);
  addBatchRoutes(app, routes);
}

function addFileRoutes(app: Hono, { gate, jobs, blobs }: JobRoutes): void {
  const key = gate.requireKey("inference");
  const { files } = jobs;
  app.post("/v1/files", key, async (context) => {
    const { raw } = context.req;
    const length = raw.headers.get("content-length");
    const kept = await files.upload({
      tenantId: gate.callerKey(context).tenantId,
      contentType: raw.headers.get("content-type"),
      contentLength: length === null ? null : Number(length),
      body: raw.body ?? NO_BODY,
    });
    return kept.ok ? context.json(fileObject(kept.value)) : errorResponse(kept.reason);
  });
  app.get("/v1/files", key, async (context) => {
    const page = filePage(context);
    if (!page.ok) return errorResponse(page.reason);
    const { limit } = page.value;
    const { tenantId } = gate.callerKey(context);
    const found = await files.list({ ...page.value, tenantId, limit: limit + 1 });
    return context.json(listed(found, limit, fileObject));
  });
  const withFile = (serve: (context: Context, file: FileRecord) => Promise<Response>) => async (context: Context) => {
    const file = await files.find(gate.callerKey(context).tenantId, context.req.param("id") ?? "");
    return file.ok ? await serve(context, file.value) : errorResponse(file.reason);
  };
  app.get(
    "/v1/files/:id",
    key,
    withFile((context, file) => Promise.resolve(context.json(fileObject(file)))),
  );
  app.delete(
    "/v1/files/:id",
    key,
    withFile(async (context, file) => {
      await files.remove(file);
      return context.json({ id: file.fileId, object: "file", deleted: true });
    }),
  );
  app.get(
    "/v1/files/:id/content",
    key,
    withFile((_context, file) => content(file, blobs)),
  );
}

async function* nothing(): AsyncGenerator<Uint8Array> {
  // A request without a body.
}
const NO_BODY = { [Symbol.asyncIterator]: nothing };

async function content(file: FileRecord, blobs: JobPorts["blobs"]): Promise<Response> {
  const reader = await blobs.open(file.fileId);
  if (reader === null) return errorResponse(refuse("not-found", `No such File object: ${file.fileId}`).reason);
  let at = 0;
  const body = new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        const bytes = Math.min(READ_BYTES, reader.bytes - at);
        if (bytes > 0) controller.enqueue(await reader.read(at, bytes));
        at += bytes;
        if (at < reader.bytes) return;
        controller.close();
        await reader.close();
      },
      cancel: () => reader.close(),
    },
    { highWaterMark: 0 },
  );
  const filename = encodeURIComponent(file.filename);
  const headers = {
    "content-type": "application/octet-stream",
    "content-length": String(reader.bytes),
    "content-disposition": `attachment; filename*=UTF-8''${filename}`,
  };
  return new Response(body, { headers });
}

function addBatchRoutes(app: Hono, { gate, jobs }: JobRoutes): void {
  const key = gate.requireKey("inference");
  const answer = (context: Context, found: Outcome<BatchView>) =>
    found.ok ? context.json(batchObject(found.value)) : errorResponse(found.reason);
  app.post("/v1/batches", key, async (context) => {
    const wanted = await batchBody(context.req.raw);
    if (!wanted.ok) return errorResponse(wanted.reason);
    const { input_file_id: inputFileId, endpoint, completion_window: completionWindow } = wanted.value;
    const { metadata = null, output_expires_after: life } = wanted.value;
    const more = { completionWindow, metadata, outputExpiresAfterS: life?.seconds ?? null };
    return answer(context, await jobs.submit({ key: gate.callerKey(context), inputFileId, endpoint, ...more }));
  });
  app.get("/v1/batches", key, async (context) => {
    const { tenantId } = gate.callerKey(context);
    const limit = limitOf(context, BATCHES_LISTED);
    if (!limit.ok) return errorResponse(limit.reason);
    const after = context.req.query("after") ?? null;
    if (after !== null && !ID_PATTERNS.batch.test(after)) return errorResponse(unknownAfter(after));
    const page = { tenantId, after: after === null ? null : batchId(after), limit: limit.value + 1 };
    return context.json(listed(await jobs.list(page), limit.value, batchObject));
  });
  const idOf = (context: Context) => context.req.param("id") ?? "";
  const tenantOf = (context: Context) => gate.callerKey(context).tenantId;
  app.get("/v1/batches/:id", key, async (context) =>
    answer(context, await jobs.find(tenantOf(context), idOf(context))),
  );
  app.post("/v1/batches/:id/cancel", key, async (context) =>
    answer(context, await jobs.cancel(tenantOf(context), idOf(context))),
  );
  app.post("/v1/batches/:id/pause", key, async (context) =>
    answer(context, await jobs.pause(tenantOf(context), idOf(context), true)),
  );
  app.post("/v1/batches/:id/resume", key, async (context) =>
    answer(context, await jobs.pause(tenantOf(context), idOf(context), false)),
  );
}

async function batchBody(request: Request) {
  const text = await readBodyText(request, BODY_BYTES_MAX);
  const parsed = text.ok ? parseJson(text.value, JSON_DEPTH_MAX) : text;
  return parsed.ok ? parseRequest(batchCreateSchema, parsed.value) : parsed;
}

function filePage(context: Context): Outcome<{
  readonly purpose: string | null;
  readonly after: FileId | null;
  readonly limit: number;
  readonly order: "asc" | "desc";
}> {
  const limit = limitOf(context, FILES_LISTED);
  if (!limit.ok) return limit;
  const after = context.req.query("after") ?? null;
  if (after !== null && !ID_PATTERNS.file.test(after)) return { ok: false, reason: unknownAfter(after) };
  const order = context.req.query("order") ?? "desc";
  if (order !== "asc" && order !== "desc") {
    return refuse("invalid-request", `'order' is ${JSON.stringify(order.slice(0, 20))}; "asc" or "desc" is taken`, {
      param: "order",
    });
  }
  const purpose = context.req.query("purpose") ?? null;
  return ok({ purpose, after: after === null ? null : fileId(after), limit: limit.value, order });
}

function unknownAfter(after: string): Refusal {
  return refuse("invalid-request", `'after' is ${JSON.stringify(after.slice(0, 64))}, which is no id of this list`, {
    param: "after",
  }).reason;
}

function limitOf(context: Context, bounds: { most: number; fallback: number }): Outcome<number> {
  const given = context.req.query("limit");
  if (given === undefined) return ok(bounds.fallback);
  const limit = Number(given);
  if (Number.isInteger(limit) && limit >= 1 && limit <= bounds.most) return ok(limit);
  return refuse("invalid-request", `'limit' is ${JSON.stringify(given.slice(0, 20))}; 1 to ${bounds.most} is taken`, {
    param: "limit",
  });
}

/** `found` has one more than was asked for when there are more. */
function listed<T, O extends { readonly id: string }>(found: readonly T[], limit: number, shown: (one: T) => O) {
  const data = found.slice(0, limit).map(shown);
  return {
    object: "list",
    data,
    first_id: data.at(0)?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: found.length > limit,
  };
}
