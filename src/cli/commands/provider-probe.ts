/** `fallow providers probe` and `test`: ask a provider, and tell what came. */
import { type ProbeEvent, probeEventSchema, testAnswerSchema } from "../../coordinator/admin/provider-schemas.ts";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { connectGrid, type GlobalOptions, type GridClient } from "../grid-client.ts";
import { note, openProgress, printJson, printLine } from "../terminal.ts";
import { readEvents } from "./model-progress.ts";
import { abilitiesText, pathOf } from "./provider-calls.ts";
import { usd } from "./tables.ts";

export interface ProbeOptions extends GlobalOptions {
  readonly model?: readonly string[];
}

export async function probeProvider(providerId: string, options: ProbeOptions): Promise<void> {
  await probeAndTell({ grid: connectGrid(options), providerId, models: options.model }, options);
}

/** Exit code 5 when a model did not answer. */
export async function probeAndTell(
  { grid, providerId, models }: { grid: GridClient; providerId: string; models: readonly string[] | undefined },
  options: GlobalOptions,
): Promise<void> {
  const isJson = options.json === true;
  const progress = openProgress();
  const failures: string[] = [];
  try {
    const { body } = await grid.stream(`${pathOf(providerId)}/probe`, {
      method: "POST",
      body: models === undefined ? {} : { models },
      accept: "application/x-ndjson",
    });
    await readEvents(body, probeEventSchema, (event) => {
      if (event.event === "error") failures.push(event.message);
      if (event.event === "result" && event.failure !== null)
        failures.push(`${event.modelId}: ${event.failure.message}`);
      if (isJson) printJson(event);
      else tell(event, progress);
    });
  } finally {
    progress.end();
  }
  if (failures.length === 0) return;
  throw new CliError(`${providerId} does not answer as it should: ${failures.join("; ")}`, {
    exitCode: EXIT.checkFailed,
    code: "provider-failing",
    fix: `mend what the message names, then \`fallow providers probe ${providerId}\``,
  });
}

function tell(event: ProbeEvent, progress: ReturnType<typeof openProgress>): void {
  switch (event.event) {
    case "begin":
      progress.note(`probing ${event.models.join(", ")} costs at most ${usd(event.costMicroUsdMax)} USD`);
      return;
    case "listed":
      for (const name of event.missing) progress.note(`its list of ${event.models ?? 0} models has no ${name}`);
      return;
    case "step":
      progress.step(`${event.modelId}: ${event.step} ${event.isThere ? "yes" : "no"}`);
      return;
    case "result":
      if (event.abilities !== null) progress.note(`${event.modelId}: ${abilitiesText(event.abilities)}`);
      return;
    case "error":
      return;
  }
}

export interface TestOptions extends GlobalOptions {
  readonly model?: string;
  readonly maxTokens?: number;
}

/** The answer's text on stdout, what it took on stderr. Exit code 5 when none came. */
export async function testProvider(
  { providerId, text }: { providerId: string; text: string | undefined },
  options: TestOptions,
): Promise<void> {
  const answer = await connectGrid(options).json(`${pathOf(providerId)}/test`, testAnswerSchema, {
    method: "POST",
    body: {
      ...(options.model === undefined ? {} : { modelId: options.model }),
      ...(text === undefined ? {} : { prompt: text }),
      ...(options.maxTokens === undefined ? {} : { tokensMax: options.maxTokens }),
    },
  });
  if (options.json === true) printJson(answer);
  if (answer.failure !== null) {
    throw new CliError(answer.failure.message, {
      exitCode: EXIT.checkFailed,
      code: answer.failure.failure,
      fix: "docs/providers.md says what each failure means and who can mend it",
    });
  }
  if (options.json === true) return;
  printLine(answer.text);
  const { usage, firstTokenMs, totalMs, costMicroUsd } = answer;
  const tokens = usage === null ? "no usage told" : `${usage.promptTokens} + ${usage.completionTokens} tokens`;
  const cost = costMicroUsd === null ? "" : `, ${usd(costMicroUsd)} USD`;
  note(
    `${answer.modelId}: first token after ${Math.round(firstTokenMs ?? totalMs)} ms, all after ${Math.round(totalMs)} ms, ${tokens}${cost}`,
  );
}
