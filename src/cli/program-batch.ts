/** Commands about batches: files of requests that run in idle capacity. */
import { type Command, Option } from "commander";
import { BATCH_ENDPOINTS } from "../wire/openai/batches.ts";
import { wholeNumber, withCommonOptions } from "./command-options.ts";

const client = { isClient: true } as const;
const SUBMITTED = `
What a file holds:
  requests   one JSON object a line, as OpenAI's Batch API takes them: custom_id, method, url, body
  prompts    anything else, with --model: each line is a prompt of its own`;

export function addBatchCommands(program: Command): void {
  const batch = program.command("batch").description("run files of requests in idle capacity, at the flex price");
  addSubmit(batch);
  withCommonOptions(
    batch
      .command("list", { isDefault: true })
      .description("list batches, newest first")
      .option("--limit <count>", "how many", wholeNumber({ min: 1, max: 100 }), 20),
    client,
  ).action(async (options) => {
    const { listBatches } = await import("./commands/batch.ts");
    await listBatches(options);
  });
  const one = (name: string, description: string) =>
    withCommonOptions(batch.command(name).description(description).argument("<batch>"), client);
  one("status", "show one batch").action(async (id: string, options) => {
    const { showBatch } = await import("./commands/batch.ts");
    await showBatch(id, options);
  });
  one("watch", "show how far a batch is until it ends").action(async (id: string, options) => {
    const { watchBatch } = await import("./commands/batch.ts");
    await watchBatch(id, options);
  });
  for (const [name, description] of [
    ["cancel", "end a batch; results that are there stay"],
    ["pause", "begin no more lines of a batch"],
    ["resume", "go on with a batch that was paused"],
  ] as const) {
    one(name, description).action(async (id: string, options) => {
      const { changeBatch } = await import("./commands/batch.ts");
      await changeBatch(id, name, options);
    });
  }
  one("results", "print or save the results of a batch, in the order of its lines")
    .option("-o, --output <file>", "write them there instead of to stdout")
    .option("--errors", "the lines that failed instead")
    .action(async (id: string, options) => {
      const { fetchResults } = await import("./commands/batch.ts");
      await fetchResults(id, options);
    });
}

function addSubmit(batch: Command): void {
  const submit = batch
    .command("submit")
    .description("run a file of requests, or of prompts")
    .argument("<file>")
    .addOption(
      new Option("--endpoint <path>", "what the requests ask").choices(BATCH_ENDPOINTS).default(BATCH_ENDPOINTS[0]),
    )
    .option("--model <id>", "the file holds prompts, one a line, for this model")
    .option("--max-tokens <count>", "of each answer to a prompt", wholeNumber({ min: 1, max: 1_000_000 }))
    .option("--watch", "show how far it is until it ends")
    .addHelpText("after", SUBMITTED);
  withCommonOptions(submit, client).action(async (file: string, options) => {
    const { submitBatch } = await import("./commands/batch-submit.ts");
    await submitBatch(file, options);
  });
}
