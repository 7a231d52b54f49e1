/** What operators ask about models, over the catalogue and the intake: the admin routes call these. */
import { FallowError } from "../../domain/fault.ts";
import { no, type Outcome, REFUSAL_CODES, refuse } from "../../domain/refusal.ts";
import { chunkCountOf } from "../../domain/weights.ts";
import type { ModelSources } from "../../ports/model-source.ts";
import type { ModelRecord } from "../../ports/store.ts";
import { bytesOfParts } from "../../weights/weights-parts.ts";
import type { AddModel, CheckEvent, WeightsFactsRow } from "../admin/model-schemas.ts";
import { isResting, type JobView } from "./intake-job.ts";
import type { ModelCatalogue } from "./model-catalogue.ts";
import type { ModelIntake } from "./model-intake.ts";
import { mendFiles, readKept, type VerifyPorts, verifyFiles } from "./verify-weights.ts";

export interface ModelDeskPorts extends VerifyPorts {
  readonly catalogue: ModelCatalogue;
  /** Null in a grid that takes files of its own machine only. */
  readonly intake: ModelIntake | null;
  readonly sources: ModelSources | null;
}

/** A job that does not change is told again after so long: connections that say nothing are taken for dead. */
const REPEAT_MS = 15_000;
/** A check tells how far it is after each of so many bytes. */
const TELL_BYTES = 64 * 1024 * 1024;

export class ModelDesk {
  readonly #ports: ModelDeskPorts;

  constructor(ports: ModelDeskPorts) {
    this.#ports = ports;
  }

  get jobs() {
    const { intake } = this.#ports;
    if (intake === null) return null;
    return {
      list: () => intake.list(),
      get: (jobId: string) => intake.get(jobId),
      pause: (jobId: string) => intake.pause(jobId),
      cancel: (jobId: string) => intake.cancel(jobId),
      follow: (jobId: string, signal: AbortSignal) => follow(intake, jobId, signal),
    };
  }

  /** Waits for the end: a model of this machine is there soon. */
  async add(model: AddModel, signal: AbortSignal): Promise<Outcome<ModelRecord>> {
    const { path = "", source: _, ...terms } = model;
    const { intake, catalogue } = this.#ports;
    if (intake === null) return await catalogue.add({ ...terms, path });
    const job = await intake.add({ reference: path, terms });
    if (!job.ok) return job;
    const ended = await intake.whenResting(job.value.jobId, signal);
    const record = intake.recordOf(job.value.jobId);
    if (record !== null) return { ok: true, value: record };
    return failureOf(ended);
  }

  async start(model: AddModel): Promise<Outcome<JobView>> {
    const { source = "", path: _, ...terms } = model;
    const { intake } = this.#ports;
    if (intake === null)
      return refuse("invalid-request", "this grid takes files of its own machine only", { param: "source" });
    return await intake.add({ reference: source, terms });
  }

  remove(modelId: ModelRecord["manifest"]["modelId"]): Promise<boolean> {
    return this.#ports.catalogue.remove(modelId);
  }

  setDraft(modelId: ModelRecord["manifest"]["modelId"], draftModelId: string | null): Promise<Outcome<ModelRecord>> {
    return this.#ports.catalogue.setDraft(modelId, draftModelId);
  }

  /** Null while there is no manifest. */
  async weights(model: ModelRecord): Promise<WeightsFactsRow["weights"]> {
    const kept = await readKept(model.manifest.weightsSha256, this.#ports);
    if (!kept.ok) return null;
    const { manifest } = kept.value;
    const kinds = [...new Set(manifest.parts.map(({ kind }) => kind))];
    const { source } = manifest;
    return {
      chunkBytes: manifest.chunkBytes,
      chunks: chunkCountOf(manifest),
      files: manifest.files.map(({ name, fileBytes, sha256 }) => ({ name, fileBytes, sha256 })),
      parts: kinds.map((kind) => {
        const parts = manifest.parts.filter((part) => part.kind === kind);
        return { kind, layers: kind === "layer" ? parts.length : 0, bytes: bytesOfParts(parts) };
      }),
      source:
        source.kind === "hf" ? `hf:${source.repo}@${source.revision}` : source.kind === "https" ? source.url : "local",
      licence: manifest.licence,
    };
  }

  /** A job that fetches all of a model again, when its files or manifest are lost; null when damage can be mended in place. */
  async fetchAnew({ manifest }: ModelRecord): Promise<Outcome<JobView> | null> {
    const kept = await readKept(manifest.weightsSha256, this.#ports);
    if (kept.ok) return null;
    if (manifest.source === undefined) {
      const message = `${manifest.modelId} came from a file of the operator: add that file again (${kept.reason.message})`;
      return refuse("invalid-request", message);
    }
    await this.#ports.modelFiles.discard(manifest.weightsSha256);
    return await this.start({ source: manifest.source, id: manifest.modelId });
  }

  /** Checks a model's files, and mends them when asked to. Ends with one `result` or `error`. */
  async *check(
    { manifest }: ModelRecord,
    { isMending, signal }: { isMending: boolean; signal: AbortSignal },
  ): AsyncIterable<CheckEvent> {
    const { modelId, weightsSha256, source } = manifest;
    const { sources } = this.#ports;
    const kept = await readKept(weightsSha256, this.#ports);
    if (!kept.ok)
      return yield { event: "error", code: "weights-unusable", message: `${modelId}: ${kept.reason.message}` };
    const files = yield* progressOf("checking", (onBytes) => verifyFiles(kept.value, this.#ports, { signal, onBytes }));
    const damagedChunks = files.reduce(
      (sum, { damaged }) => sum + damaged.reduce((all, [, count]) => all + count, 0),
      0,
    );
    const isBad = damagedChunks > 0 || files.some(({ problem }) => problem !== null);
    const result = { event: "result", modelId, files: files.map(rowOf), damagedChunks } as const;
    if (!isMending || !isBad) return yield { ...result, isWhole: !isBad, fetchedBytes: 0, mendedChunks: 0 };
    if (source === undefined || sources === null) {
      const message = `${damagedChunks} chunks of ${modelId} are damaged, and it came from a file of the operator: add that file again under this id after \`models rm\``;
      return yield { event: "error", code: "source-unknown", message };
    }
    const mended = yield* progressOf("fetching", (onBytes) =>
      mendFiles(kept.value, files, { sources, reference: source }, this.#ports, { signal, onBytes }),
    );
    const again = await verifyFiles(kept.value, this.#ports, { signal, onBytes: () => undefined });
    const isWhole = again.every(({ damaged, problem }) => damaged.length === 0 && problem === null);
    yield { ...result, isWhole, fetchedBytes: mended.fetchedBytes, mendedChunks: mended.chunks };
  }
}

async function* follow(intake: ModelIntake, jobId: string, signal: AbortSignal): AsyncIterable<JobView> {
  for (let seen = 0; !signal.aborted; ) {
    const next = await intake.viewAfter(jobId, seen, { withinMs: REPEAT_MS, signal });
    if (next === null) return;
    seen = next.version;
    yield next.view;
    if (isResting(next.view.state)) return;
  }
}

/** Runs work that tells how far it is, and yields that now and then. */
async function* progressOf<T>(
  step: "checking" | "fetching",
  work: (onBytes: (doneBytes: number, totalBytes: number) => void) => Promise<T>,
): AsyncGenerator<CheckEvent, T> {
  let told = { doneBytes: 0, totalBytes: 0 };
  let shownBytes = -TELL_BYTES;
  let wake: () => void = () => undefined;
  let ended = false;
  const done = work((doneBytes, totalBytes) => {
    told = { doneBytes, totalBytes };
    if (doneBytes - shownBytes >= TELL_BYTES) wake();
  }).finally(() => {
    ended = true;
    wake();
  });
  // The generator may be left before it asks for the end.
  done.catch(() => undefined);
  while (!ended) {
    await new Promise<void>((resolve) => {
      wake = resolve;
      if (ended || told.doneBytes - shownBytes >= TELL_BYTES) resolve();
    });
    if (ended) break;
    shownBytes = told.doneBytes;
    yield { event: "progress", step, doneBytes: told.doneBytes, totalBytes: told.totalBytes };
  }
  return await done;
}

function rowOf(file: Awaited<ReturnType<typeof verifyFiles>>[number]) {
  const { name, fileBytes, chunks, problem } = file;
  return {
    name,
    fileBytes,
    chunks,
    problem,
    damaged: file.damaged.map(([first, count]): [number, number] => [first, count]),
  };
}

/** A fault of the machine stays one: the gateway knows its status. */
function failureOf(job: JobView | null): Outcome<ModelRecord> {
  const error = job?.error ?? { code: "cancelled", message: "adding the model was stopped" };
  const code = REFUSAL_CODES.find((one) => one === error.code);
  if (code !== undefined) {
    const param = /\bmodel id:|is registered with other/.test(error.message) ? "id" : "path";
    return no({ code, message: error.message, param, retryAfterMs: null });
  }
  if (/^model-(source|file)-/.test(error.code)) return refuse("invalid-request", error.message, { param: "path" });
  throw new FallowError(error.code, error.message);
}
