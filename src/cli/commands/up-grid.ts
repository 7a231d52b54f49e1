/** What `fallow up` asks of its own grid, over the same API that the other commands use. */
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  joinCodeCreatedSchema,
  modelAnswerSchema,
  modelListSchema,
  type ReplicaRow,
  statusSchema,
} from "../../coordinator/admin/admin-schemas.ts";
import { jobAnswerSchema, jobSchema } from "../../coordinator/admin/model-schemas.ts";
import type { Coordinator } from "../../coordinator/coordinator.ts";
import { assert } from "../../domain/assert.ts";
import { type ModelId, modelId } from "../../domain/ids.ts";
import { decodeJoinCode } from "../../wire/join-code.ts";
import { BUNDLED_MODEL } from "../bundled-model.ts";
import type { CliError } from "../cli-error.ts";
import type { GridClient } from "../grid-client.ts";
import type { Progress } from "../terminal.ts";
import { bringFailure, isReference, showJob } from "./model-jobs.ts";
import { type BytesShown, eventsOf, progressText, readEvents } from "./model-progress.ts";

/** How often the progress of loading is looked at: as fast as an eye sees a number change. */
const PROGRESS_MS = 200;
/** The plan is made anew every second or so, and an order is acknowledged at once: what has not begun by then does not fit. */
const PLACE_MS = 10_000;

/**
 * The model that `up` waits for: the one of `--model`, which is registered when it is not; else the bundled one, unless the
 * operator removed it, then the first there is. Null when there is none.
 */
export async function chooseModel(
  grid: GridClient,
  options: { model?: string; warm: number },
  watch: { readonly progress: Progress; readonly signal: AbortSignal },
): Promise<ModelId | null> {
  const { models } = await grid.json("/admin/v1/models", modelListSchema);
  const bundled = models.find((model) => model.modelId === BUNDLED_MODEL.id);
  if (bundled !== undefined && bundled.warmReplicas !== options.warm) {
    await addModel(grid, { path: BUNDLED_MODEL.path, id: BUNDLED_MODEL.id, warmReplicas: options.warm });
  }
  if (options.model !== undefined && isReference(options.model)) return fetchModel(grid, options.model, watch);
  if (options.model !== undefined) return addModel(grid, { path: resolve(options.model) });
  if (bundled !== undefined) return options.warm === 0 ? null : modelId(bundled.modelId);
  const kept = models.find(({ warmReplicas }) => warmReplicas > 0);
  return kept === undefined ? null : modelId(kept.modelId);
}

async function addModel(
  grid: GridClient,
  body: { path: string; id?: string; warmReplicas?: number },
): Promise<ModelId> {
  const { model } = await grid.json("/admin/v1/models", modelAnswerSchema, { body });
  return modelId(model.modelId);
}

/** Null when it was stopped meanwhile: the download goes on at the next start. */
async function fetchModel(
  grid: GridClient,
  source: string,
  { progress, signal }: { progress: Progress; signal: AbortSignal },
): Promise<ModelId | null> {
  const { job } = await grid.json("/admin/v1/models", jobAnswerSchema, { body: { source } });
  const show = (what: string, bytes: BytesShown) => progress.step(progressText(what, bytes));
  let last = job;
  try {
    const body = await eventsOf(grid, `/admin/v1/model-jobs/${job.jobId}/events`, { method: "GET", signal });
    await readEvents(body, jobSchema, (view) => {
      last = view;
      showJob({ show }, view);
    });
  } catch (thrown) {
    if (!signal.aborted) throw thrown;
  }
  if (last.modelId !== null) return modelId(last.modelId);
  if (last.error !== null) throw bringFailure(last.error);
  return null;
}

export async function makeJoinCode(grid: GridClient, terms: { usesMax: number; ttlMs: number }): Promise<string> {
  return (await grid.json("/admin/v1/join-codes", joinCodeCreatedSchema, { body: terms })).joinCode;
}

export function joinTokenOf(code: string): string {
  const decoded = decodeJoinCode(code);
  assert(decoded.ok, "the grid's own join code can be read");
  return decoded.value.token;
}

interface Waiting {
  readonly grid: GridClient;
  readonly model: ModelId;
  readonly progress: Progress;
  /** Why the agent will not work without a person; null while there is hope. */
  readonly failure: () => CliError | null;
  readonly signal: AbortSignal;
}

/** `unserved`: a node is there, and after `PLACE_MS` it has not begun to load the model, so it cannot. */
export type Served = "serving" | "stopped" | "unserved";

/** Waits until the model answers. Throws what keeps the agent from working. */
export async function untilServing(coordinator: Coordinator, wait: Waiting): Promise<Served> {
  const done = new AbortController();
  const looking = lookOn(wait, done);
  const isServing = await coordinator.whenServing(wait.model, AbortSignal.any([wait.signal, done.signal]));
  done.abort();
  await looking;
  if (isServing) return "serving";
  if (wait.signal.aborted) return "stopped";
  const failure = wait.failure();
  if (failure !== null) throw failure;
  return "unserved";
}

/** Shows how far loading is, and ends the wait when there is nothing to wait for. */
async function lookOn(wait: Waiting, done: AbortController): Promise<void> {
  let idleSinceMs: number | null = null;
  while (!done.signal.aborted) {
    if (wait.failure() !== null) return done.abort();
    const { nodes, replicas } = await wait.grid.json("/admin/v1/status", statusSchema);
    const replica = replicas.find(({ modelId: id }) => id === wait.model);
    if (replica !== undefined) show(wait, replica);
    const isIdle = replica === undefined && nodes.some(({ state }) => state === "online");
    idleSinceMs = isIdle ? (idleSinceMs ?? performance.now()) : null;
    if (idleSinceMs !== null && performance.now() - idleSinceMs > PLACE_MS) return done.abort();
    await sleep(PROGRESS_MS, undefined, { signal: done.signal }).catch(() => undefined); // an abort only ends the wait
  }
}

function show({ model, progress }: Waiting, replica: ReplicaRow): void {
  if (replica.state === "loading") progress.step(`loading ${model} ${Math.round(replica.progress * 100)} %`);
  if (replica.state === "failed")
    progress.step(`${model} failed: ${replica.failure ?? "no cause given"}; trying again`);
}
