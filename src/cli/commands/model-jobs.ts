/** `fallow models add` and `pull` of a reference, and the jobs behind them. A job belongs to the grid: it outlives the command. */
import { resolve } from "node:path";
import { doneSchema, modelAnswerSchema } from "../../coordinator/admin/admin-schemas.ts";
import { jobAnswerSchema, jobListSchema, jobSchema, type ModelJob } from "../../coordinator/admin/model-schemas.ts";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { formatBytes, formatTime, table } from "../format.ts";
import { connectGrid, type GlobalOptions, type GridClient } from "../grid-client.ts";
import { onStopSignals } from "../stop-signals.ts";
import { note, printJson, printText } from "../terminal.ts";
import { describeModel } from "./describe-model.ts";
import { eventsOf, openShown, printEvent, readEvents, type ShownProgress } from "./model-progress.ts";

export interface BringOptions extends GlobalOptions {
  readonly id?: string;
  readonly priceIn?: number;
  readonly priceOut?: number;
  readonly warm?: number;
  readonly draft?: string;
  readonly detach?: boolean;
}

const JOBS_PATH = "/admin/v1/model-jobs";
/** Same wording as the shell's: the command was cut off, and the job can go on. */
const INTERRUPTED = 130;

/** What is no path: the coordinator fetches it. */
export function isReference(text: string): boolean {
  return /^(hf:|https?:|hf\.co\/|huggingface\.co\/)/i.test(text);
}

export async function bringModel(reference: string, options: BringOptions): Promise<void> {
  const grid = connectGrid(options);
  const source = isReference(reference) ? reference : resolve(reference);
  const { job } = await grid.json("/admin/v1/models", jobAnswerSchema, {
    body: {
      source,
      ...(options.id === undefined ? {} : { id: options.id }),
      ...(options.priceIn === undefined ? {} : { inputMicroUsdPerMtok: options.priceIn }),
      ...(options.priceOut === undefined ? {} : { outputMicroUsdPerMtok: options.priceOut }),
      ...(options.warm === undefined ? {} : { warmReplicas: options.warm }),
      ...(options.draft === undefined ? {} : { draftModelId: options.draft }),
    },
  });
  if (options.detach === true) {
    if (options.json === true) return printJson({ job });
    return note(`${job.jobId} goes on in the grid; \`fallow models jobs\` shows how far it is`);
  }
  await followJob(grid, job, options);
}

/** Shows the job until it rests, then the model. Ctrl-C pauses it. */
export async function followJob(grid: GridClient, job: ModelJob, options: GlobalOptions): Promise<void> {
  const isJson = options.json === true;
  const shown = openShown(isJson);
  const stop = onStopSignals(() => undefined);
  let last = job;
  try {
    const path = `${JOBS_PATH}/${job.jobId}/events`;
    const body = await eventsOf(grid, path, { method: "GET", signal: stop.signal });
    let chosen: string | null = null;
    await readEvents(body, jobSchema, (view) => {
      if (view.chosen !== null && chosen === null) shown.note(view.chosen);
      chosen ??= view.chosen;
      last = view;
      printEvent(isJson, { event: "progress", ...view });
      showJob(shown, view);
    });
  } catch (thrown) {
    if (!stop.signal.aborted) throw thrown;
  } finally {
    shown.end();
    stop.dispose();
  }
  if (stop.signal.aborted && last.state !== "done") return await pauseJob(grid, last);
  await showEnd(grid, last, isJson);
}

export function showJob(shown: Pick<ShownProgress, "show">, job: ModelJob): void {
  const what = { resolving: "looking up", fetching: "fetching", checking: "checking", registering: "registering" };
  const silent = { ...job, totalBytes: null };
  if (job.waiting !== null) shown.show(`waiting: ${job.waiting}`, silent);
  else if (job.step !== null) shown.show(`${what[job.step]} ${nameOf(job)}`, job);
  else if (job.state === "queued") shown.show(`waiting for other models to come: ${nameOf(job)}`, silent);
}

function nameOf({ reference }: ModelJob): string {
  return reference.split(/[/\\]/).at(-1) ?? reference;
}

/** The stream's end may be told by a coordinator that stops: the job goes on when it is there again. */
async function showEnd(grid: GridClient, job: ModelJob, isJson: boolean): Promise<void> {
  if (job.state === "done" && job.modelId !== null) {
    const path = `/admin/v1/models/${encodeURIComponent(job.modelId)}`;
    const { model } = await grid.json(path, modelAnswerSchema);
    if (isJson) return printJson({ model, job });
    note(
      `${model.modelId} is registered${job.fetchedBytes === 0 ? "" : ` (${formatBytes(job.fetchedBytes)} fetched)`}`,
    );
    return printText(describeModel(model, null));
  }
  if (job.error !== null) throw bringFailure(job.error);
  const paused = job.state === "paused";
  throw new CliError(paused ? `${job.jobId} was paused` : "the grid stopped before the model was there", {
    code: paused ? "job-paused" : "grid-stopped",
    fix: "it goes on where it was: start the grid, then run the same command again",
  });
}

export function bringFailure(error: { code: string; message: string }): CliError {
  const isRefused = /^(invalid-|model-source-(invalid|refused|unsafe|changed)|model-file-)/.test(error.code);
  const fix = isRefused
    ? "change what the message names; docs/models.md says how models are named and what they must be"
    : error.code === "disk-full"
      ? "free some space on the grid's disk, then run the same command again: it goes on where it was"
      : error.code === "model-source-unreachable"
        ? "see that the grid's machine reaches it (HTTPS_PROXY names a proxy, HF_ENDPOINT a mirror of the hub) and run the same command again, or add a file that is there: `fallow models add ./model.gguf`"
        : "run the same command again: it goes on where it was";
  return new CliError(error.message, { exitCode: isRefused ? EXIT.refused : EXIT.failure, code: error.code, fix });
}

async function pauseJob(grid: GridClient, { jobId }: ModelJob): Promise<void> {
  await grid.json(`${JOBS_PATH}/${jobId}/pause`, doneSchema, { method: "POST" });
  // Asked for after it rests: the last event was of a moment before.
  const { job } = await grid.json(`${JOBS_PATH}/${jobId}`, jobAnswerSchema);
  const kept = `stopped, ${formatBytes(job.doneBytes)} are kept`;
  note(`${kept}: run the same command again to go on, or \`fallow models cancel ${jobId}\` to delete them`);
  process.exitCode = INTERRUPTED;
}

export async function listJobs(options: GlobalOptions): Promise<void> {
  const { jobs } = await connectGrid(options).json(JOBS_PATH, jobListSchema);
  if (options.json === true) return printJson({ jobs });
  printText(
    table(
      [
        { title: "JOB" },
        { title: "STATE" },
        { title: "DONE", isRight: true },
        { title: "OF", isRight: true },
        { title: "SINCE", dropOrder: 1 },
        { title: "REFERENCE" },
      ],
      jobs.map((job) => [
        job.jobId,
        job.error === null ? (job.step ?? job.state) : `${job.state}: ${job.error.code}`,
        formatBytes(job.doneBytes),
        job.totalBytes === null ? "-" : formatBytes(job.totalBytes),
        formatTime(job.createdAtMs),
        job.reference,
      ]),
      "no model is on its way",
    ),
  );
}

export async function cancelJob(jobId: string, options: GlobalOptions): Promise<void> {
  await connectGrid(options).json(`${JOBS_PATH}/${encodeURIComponent(jobId)}`, doneSchema, { method: "DELETE" });
  if (options.json === true) return printJson({ jobId, action: "cancel" });
  note(`${jobId} is cancelled, and what it fetched is deleted`);
}
