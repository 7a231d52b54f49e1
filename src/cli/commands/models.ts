import { doneSchema, modelAnswerSchema, modelListSchema } from "../../coordinator/admin/admin-schemas.ts";
import {
  type CheckEvent,
  checkEventSchema,
  jobAnswerSchema,
  weightsFactsSchema,
} from "../../coordinator/admin/model-schemas.ts";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { counted, formatBytes } from "../format.ts";
import { connectGrid, type GlobalOptions, readAll } from "../grid-client.ts";
import { note, printJson, printText } from "../terminal.ts";
import { describeModel } from "./describe-model.ts";
import { type BringOptions, bringModel, followJob, isReference } from "./model-jobs.ts";
import { openShown, printEvent, readEvents } from "./model-progress.ts";
import { modelTable } from "./tables.ts";

type CheckResult = Extract<CheckEvent, { event: "result" }>;
/** Runs of damaged chunks that are named; `--json` has all. */
const RUNS_SHOWN_MAX = 8;

export async function listModels(options: GlobalOptions): Promise<void> {
  const { models } = await connectGrid(options).json("/admin/v1/models", modelListSchema);
  if (options.json === true) return printJson({ models });
  printText(modelTable(models));
}

export async function showModel(modelId: string, options: GlobalOptions): Promise<void> {
  const grid = connectGrid(options);
  const { model } = await grid.json(pathOf(modelId), modelAnswerSchema);
  const { weights } = await grid.json(`${pathOf(modelId)}/weights`, weightsFactsSchema);
  if (options.json === true) return printJson({ model, weights });
  printText(describeModel(model, weights));
}

export async function removeModel(modelId: string, options: GlobalOptions): Promise<void> {
  await connectGrid(options).json(pathOf(modelId), doneSchema, { method: "DELETE" });
  if (options.json === true) return printJson({ modelId, action: "remove" });
  note(`${modelId} is removed`);
}

/** Without a draft: tells the one it has. `none` takes it away. */
export async function draftModel(modelId: string, draft: string | undefined, options: GlobalOptions): Promise<void> {
  const grid = connectGrid(options);
  const { model } =
    draft === undefined
      ? await grid.json(pathOf(modelId), modelAnswerSchema)
      : await grid.json(`${pathOf(modelId)}/draft`, modelAnswerSchema, {
          method: "PUT",
          body: { draftModelId: draft === "none" ? null : draft },
        });
  const { draftModelId } = model;
  if (options.json === true) return printJson({ modelId, draftModelId });
  printText(
    draftModelId === null
      ? `no model drafts for ${modelId}: what repeats does`
      : `${draftModelId} drafts for ${modelId}`,
  );
}

/** Exit code 5 when a chunk is damaged. */
export async function verifyModel(modelId: string, options: GlobalOptions): Promise<void> {
  const grid = connectGrid(options);
  const { body } = await grid.stream(`${pathOf(modelId)}/verify`, { method: "POST", accept: "application/x-ndjson" });
  const result = await readCheck(body, options);
  if (options.json === true) printJson(result);
  else if (result.isWhole) note(`${modelId} is whole: ${chunksOf(result)} have their digests`);
  if (result.isWhole) return;
  throw new CliError(damageText(result), {
    exitCode: EXIT.checkFailed,
    code: "weights-damaged",
    fix: `\`fallow models pull ${modelId}\` fetches what is damaged; if it was a file of yours, \`models rm\` and add it again`,
  });
}

/** A registered model: mends its files from where they came. A reference: fetches it and keeps no replica warm. */
export async function pullModel(named: string, options: BringOptions): Promise<void> {
  if (isReference(named)) return await bringModel(named, { warm: 0, ...options });
  const grid = connectGrid(options);
  const answer = await grid.stream(`${pathOf(named)}/pull`, { method: "POST", accept: "application/x-ndjson" });
  if (answer.status === 202) {
    const { job } = jobAnswerSchema.parse(JSON.parse(await readAll(answer.body)));
    return await followJob(grid, job, options);
  }
  const result = await readCheck(answer.body, options);
  if (options.json === true) printJson(result);
  if (!result.isWhole) throw new CliError(damageText(result), { exitCode: EXIT.checkFailed, code: "weights-damaged" });
  if (options.json === true) return;
  const mended = `${counted(result.mendedChunks, "chunk")} fetched again, ${formatBytes(result.fetchedBytes)}`;
  note(`${named} is whole: ${result.mendedChunks === 0 ? `${chunksOf(result)}, nothing to fetch` : mended}`);
}

async function readCheck(body: Parameters<typeof readAll>[0], options: GlobalOptions): Promise<CheckResult> {
  const isJson = options.json === true;
  const shown = openShown(isJson);
  const ends: CheckEvent[] = [];
  try {
    await readEvents(body, checkEventSchema, (event) => {
      if (event.event !== "progress") {
        ends.push(event);
        return;
      }
      printEvent(isJson, event);
      shown.show(event.step, { ...event, bytesPerSecond: null });
    });
  } finally {
    shown.end();
  }
  const [end] = ends;
  if (end?.event === "result") return end;
  const { code, message } =
    end?.event === "error" ? end : { code: "grid-stopped", message: "the grid stopped meanwhile" };
  const isRefused = /^(weights-unusable|source-unknown|model-)/.test(code);
  throw new CliError(message, {
    exitCode: isRefused ? EXIT.refused : EXIT.failure,
    code,
    fix: isRefused ? "do what the message says; docs/models.md tells more" : "look at the grid's log, then try again",
  });
}

function damageText(result: CheckResult): string {
  const words = result.files.flatMap(({ name, damaged, problem }) => {
    const runs = damaged
      .slice(0, RUNS_SHOWN_MAX)
      .map(([first, count]) => (count === 1 ? `${first}` : `${first}-${first + count - 1}`));
    const more = damaged.length > runs.length ? ` and ${damaged.length - runs.length} more runs` : "";
    const chunks = damaged.length === 0 ? [] : [`${name}: chunks ${runs.join(", ")}${more}`];
    return [...chunks, ...(problem === null ? [] : [`${name}: ${problem}`])];
  });
  return `${result.modelId} is damaged (${counted(result.damagedChunks, "chunk")}): ${words.join("; ")}`;
}

function chunksOf({ files }: CheckResult): string {
  const chunks = files.reduce((sum, file) => sum + file.chunks, 0);
  return `${counted(chunks, "chunk")} of ${counted(files.length, "file")}`;
}

function pathOf(modelId: string): string {
  return `/admin/v1/models/${encodeURIComponent(modelId)}`;
}
