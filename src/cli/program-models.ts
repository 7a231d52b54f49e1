/** Commands about the models of a running grid. */
import type { Command } from "commander";
import { wholeNumber, withCommonOptions } from "./command-options.ts";

const client = { isClient: true } as const;
const REFERENCES = `
What a model is named by:
  hf:owner/repo                      the usual quantisation of a repository of the Hugging Face hub
  hf:owner/repo@revision:Q5_K_M      a branch, tag or commit; a quantisation or a file of it
  https://host/model.gguf            an address; the first file of a split set means the set
  ./model.gguf, ./folder             a file, or a folder with one model, on the grid's machine`;

export function addModelCommands(program: Command): void {
  const models = program.command("models").description("list, add, fetch, check or remove models");
  withCommonOptions(models.command("list", { isDefault: true }).description("list models"), client).action(
    async (options) => {
      const { listModels } = await import("./commands/models.ts");
      await listModels(options);
    },
  );
  addBringing(models);
  addChecking(models);
  addJobs(models);
}

function addBringing(models: Command): void {
  const add = terms(
    models
      .command("add")
      .description("register a model; what it is, is read from its files")
      .argument("<reference>", "hf:owner/repo, https://…, a file or a folder")
      .option("--id <id>", "name that callers use (default: from the file)"),
  )
    .option("--warm <replicas>", "replicas that are kept ready", wholeNumber({ min: 0, max: 1_000 }))
    .option("--draft <model>", "a small model with the same tokens that drafts for it where it is split over nodes")
    .option("-d, --detach", "do not wait: the grid goes on by itself")
    .addHelpText("after", REFERENCES);
  withCommonOptions(add, client).action(async (reference: string, options) => {
    const { bringModel } = await import("./commands/model-jobs.ts");
    await bringModel(reference, options);
  });
  const pull = terms(
    models
      .command("pull")
      .description("fetch a model without loading it; of one that is there, fetch again what is damaged or lost")
      .argument("<model|reference>")
      .option("--id <id>", "of a reference: name that callers use (default: from the file)"),
  )
    .option("-d, --detach", "do not wait: the grid goes on by itself")
    .addHelpText("after", REFERENCES);
  withCommonOptions(pull, client).action(async (named: string, options) => {
    const { pullModel } = await import("./commands/models.ts");
    await pullModel(named, options);
  });
}

function terms(command: Command): Command {
  return command
    .option("--price-in <micro-usd>", "per million prompt tokens", wholeNumber({ min: 0, max: 1e9 }))
    .option("--price-out <micro-usd>", "per million output tokens", wholeNumber({ min: 0, max: 1e9 }));
}

function addChecking(models: Command): void {
  withCommonOptions(
    models.command("show").description("show one model, its files and where they came from").argument("<model>"),
    client,
  ).action(async (model: string, options) => {
    const { showModel } = await import("./commands/models.ts");
    await showModel(model, options);
  });
  withCommonOptions(
    models.command("verify").description("hold the grid's files against their manifest").argument("<model>"),
    client,
  ).action(async (model: string, options) => {
    const { verifyModel } = await import("./commands/models.ts");
    await verifyModel(model, options);
  });
  withCommonOptions(
    models
      .command("draft")
      .description("tell or set the model that drafts for another where that is split over nodes")
      .argument("<model>")
      .argument("[draft]", "a registered model with the same tokens, half as large at most; none: no more"),
    client,
  ).action(async (model: string, draft: string | undefined, options) => {
    const { draftModel } = await import("./commands/models.ts");
    await draftModel(model, draft, options);
  });
  withCommonOptions(
    models.command("rm").description("remove a model from the grid; your own file stays").argument("<model>"),
    client,
  ).action(async (model: string, options) => {
    const { removeModel } = await import("./commands/models.ts");
    await removeModel(model, options);
  });
}

function addJobs(models: Command): void {
  withCommonOptions(models.command("jobs").description("list models on their way"), client).action(async (options) => {
    const { listJobs } = await import("./commands/model-jobs.ts");
    await listJobs(options);
  });
  withCommonOptions(
    models.command("cancel").description("stop bringing a model, and delete what came").argument("<job>"),
    client,
  ).action(async (job: string, options) => {
    const { cancelJob } = await import("./commands/model-jobs.ts");
    await cancelJob(job, options);
  });
}
