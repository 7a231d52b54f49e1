import { resolve } from "node:path";
import {
  doneSchema,
  type ModelRow,
  modelAnswerSchema,
  modelListSchema,
} from "../../coordinator/admin/admin-schemas.ts";
import { counted, fields, formatBytes, formatCount } from "../format.ts";
import { connectGrid, type GlobalOptions } from "../grid-client.ts";
import { note, printJson, printText } from "../terminal.ts";
import { modelTable, usd } from "./tables.ts";

export interface AddModelOptions extends GlobalOptions {
  readonly id?: string;
  readonly priceIn?: number;
  readonly priceOut?: number;
  readonly warm?: number;
}

export async function listModels(options: GlobalOptions): Promise<void> {
  const { models } = await connectGrid(options).json("/admin/v1/models", modelListSchema);
  if (options.json === true) return printJson({ models });
  printText(modelTable(models));
}

export async function addModel(file: string, options: AddModelOptions): Promise<void> {
  const { model } = await connectGrid(options).json("/admin/v1/models", modelAnswerSchema, {
    body: {
      path: resolve(file),
      ...(options.id === undefined ? {} : { id: options.id }),
      ...(options.priceIn === undefined ? {} : { inputMicroUsdPerMtok: options.priceIn }),
      ...(options.priceOut === undefined ? {} : { outputMicroUsdPerMtok: options.priceOut }),
      ...(options.warm === undefined ? {} : { warmReplicas: options.warm }),
    },
  });
  if (options.json === true) return printJson({ model });
  note(`${model.modelId} is registered`);
  printText(describe(model));
}

export async function showModel(modelId: string, options: GlobalOptions): Promise<void> {
  const { model } = await connectGrid(options).json(
    `/admin/v1/models/${encodeURIComponent(modelId)}`,
    modelAnswerSchema,
  );
  if (options.json === true) return printJson({ model });
  printText(describe(model));
}

export async function removeModel(modelId: string, options: GlobalOptions): Promise<void> {
  await connectGrid(options).json(`/admin/v1/models/${encodeURIComponent(modelId)}`, doneSchema, { method: "DELETE" });
  if (options.json === true) return printJson({ modelId, action: "remove" });
  note(`${modelId} is removed`);
}

function describe(model: ModelRow): string {
  return fields([
    ["id", model.modelId],
    ["name", model.name],
    [
      "architecture",
      `${model.architecture}, ${counted(model.layerCount, "layer")}, ${formatCount(model.parameterCount)} parameters`,
    ],
    ["quantisation", model.quantisation],
    ["size", formatBytes(model.fileBytes)],
    ["context", `${model.contextTokensMax} tokens`],
    ["vocabulary", `${model.vocabSize} tokens`],
    ["chat template", model.hasChatTemplate ? "yes" : "none"],
    [
      "price",
      `${usd(model.inputMicroUsdPerMtok)} in, ${usd(model.outputMicroUsdPerMtok)} out (USD per million tokens)`,
    ],
    ["replicas", `${model.replicasReady} ready, ${model.warmReplicas} kept warm`],
    ["sha-256", model.weightsSha256],
  ]);
}
