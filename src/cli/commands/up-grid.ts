/** What `fallow up` asks of its own grid, over the same API that the other commands use. */
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  joinCodeCreatedSchema,
  modelAnswerSchema,
  modelListSchema,
  replicaListSchema,
} from "../../coordinator/admin/admin-schemas.ts";
import type { Coordinator } from "../../coordinator/coordinator.ts";
import { assert } from "../../domain/assert.ts";
import { type ModelId, modelId } from "../../domain/ids.ts";
import { decodeJoinCode } from "../../wire/join-code.ts";
import { BUNDLED_MODEL } from "../bundled-model.ts";
import type { CliError } from "../cli-error.ts";
import type { GridClient } from "../grid-client.ts";
import type { Progress } from "../terminal.ts";

/** How often the progress of loading is looked at: as fast as an eye sees a number change. */
const PROGRESS_MS = 200;

/**
 * The model that `up` waits for: the one of `--model`, which is registered when it is not; else the bundled one, unless the
 * operator removed it, then the first there is. Null when there is none.
 */
export async function chooseModel(
  grid: GridClient,
  options: { model?: string; warm: number },
): Promise<ModelId | null> {
  const { models } = await grid.json("/admin/v1/models", modelListSchema);
  const bundled = models.find((model) => model.modelId === BUNDLED_MODEL.id);
  if (bundled !== undefined && bundled.warmReplicas !== options.warm) {
    await addModel(grid, { path: BUNDLED_MODEL.path, id: BUNDLED_MODEL.id, warmReplicas: options.warm });
  }
  if (options.model !== undefined) return addModel(grid, { path: resolve(options.model) });
  const chosen = bundled ?? models[0];
  return chosen === undefined || chosen.warmReplicas === 0 ? null : modelId(chosen.modelId);
}

async function addModel(
  grid: GridClient,
  body: { path: string; id?: string; warmReplicas?: number },
): Promise<ModelId> {
  const { model } = await grid.json("/admin/v1/models", modelAnswerSchema, { body });
  return modelId(model.modelId);
}

export async function makeJoinCode(grid: GridClient, terms: { usesMax: number; ttlMs: number }): Promise<string> {
  return (await grid.json("/admin/v1/join-codes", joinCodeCreatedSchema, { body: terms })).joinCode;
}

export function joinTokenOf(code: string): string {
  const decoded = decodeJoinCode(code);
  assert(decoded.ok, "the grid's own join code can be read");
  return decoded.value.token;
}

/** Resolves with true when the model answers, with false at the abort. Throws what keeps the agent from working. */
export async function untilServing(
  coordinator: Coordinator,
  wait: {
    grid: GridClient;
    model: ModelId;
    progress: Progress;
    failure: () => CliError | null;
    signal: AbortSignal;
  },
): Promise<boolean> {
  const done = new AbortController();
  const signal = AbortSignal.any([wait.signal, done.signal]);
  const looking = lookOn(wait, done);
  try {
    const isServing = await coordinator.whenServing(wait.model, signal);
    done.abort();
    const failure = wait.failure();
    if (!isServing && !wait.signal.aborted && failure !== null) throw failure;
    return isServing;
  } finally {
    done.abort();
    await looking;
  }
}

/** Shows how far loading is, and ends the wait when the agent cannot work. */
async function lookOn(
  wait: { grid: GridClient; model: ModelId; progress: Progress; failure: () => CliError | null },
  done: AbortController,
): Promise<void> {
  while (!done.signal.aborted) {
    if (wait.failure() !== null) return done.abort();
    const { replicas } = await wait.grid.json("/admin/v1/replicas", replicaListSchema);
    const [replica] = replicas.filter(({ modelId: id }) => id === wait.model);
    if (replica?.state === "loading")
      wait.progress.step(`loading ${wait.model} ${Math.round(replica.progress * 100)} %`);
    if (replica?.state === "failed")
      wait.progress.step(`${wait.model} failed: ${replica.failure ?? "no cause given"}; trying again`);
    await sleep(PROGRESS_MS, undefined, { signal: done.signal }).catch(() => undefined); // an abort only ends the wait
  }
}
