/** What `models show` and `add` print of one model. */
import type { ModelRow } from "../../coordinator/admin/admin-schemas.ts";
import type { WeightsFactsRow } from "../../coordinator/admin/model-schemas.ts";
import { counted, fields, formatBytes, formatCount } from "../format.ts";
import { usd } from "./tables.ts";

/** A set of more files is told by its count; `--json` has all. */
const FILES_SHOWN_MAX = 8;

export function describeModel(model: ModelRow, weights: WeightsFactsRow["weights"]): string {
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
    ["draft model", model.draftModelId ?? "none"],
    ["licence", model.licence ?? "not told"],
    ["source", model.source ?? "a file of the operator"],
    ["sha-256", model.weightsSha256],
    ...(weights === null ? [] : weightsFields(weights)),
  ]);
}

function weightsFields(weights: NonNullable<WeightsFactsRow["weights"]>): readonly (readonly [string, string])[] {
  const { files, parts, chunks, chunkBytes } = weights;
  const shown = files.slice(0, FILES_SHOWN_MAX).map(({ name, fileBytes }) => `${name} (${formatBytes(fileBytes)})`);
  const more = files.length > shown.length ? [`and ${files.length - shown.length} more`] : [];
  const layers = parts.find(({ kind }) => kind === "layer");
  const others = parts.filter(({ kind }) => kind !== "layer").map(({ kind, bytes }) => `${kind} ${formatBytes(bytes)}`);
  const perLayer =
    layers === undefined || layers.layers === 0
      ? []
      : [`${counted(layers.layers, "layer")} of ${formatBytes(layers.bytes / layers.layers)}`];
  return [
    ["files", [...shown, ...more].join(", ")],
    ["chunks", `${chunks} of ${formatBytes(chunkBytes)}`],
    ["parts", [...others, ...perLayer].join(", ")],
  ];
}
