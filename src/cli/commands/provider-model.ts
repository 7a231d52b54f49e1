/** The form in which a model of a provider is written on the command line: `OUR-ID=THEIR-ID@IN/OUT`. */
import { ID_PATTERNS, modelId } from "../../domain/ids.ts";
import { PROVIDER_DEFAULTS, pricedWithMargin, priceOfUsd } from "../../wire/provider-file.ts";
import type { ProviderModelSettings } from "../../wire/provider-settings.ts";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import type { ProviderFlags } from "../program-providers.ts";

const FIX = "write it as OUR-ID=THEIR-ID@IN/OUT with USD per million tokens, e.g. --model llama=llama-3-8b@0.05/0.08";
const PRICED = /^(.+)@(\d+(?:\.\d+)?)\/(\d+(?:\.\d+)?)$/;
const USD_MAX = 1_000;

export function parseModelFlag(
  text: string,
  flags: Pick<ProviderFlags, "margin" | "context" | "maxOutput" | "quantisation">,
): ProviderModelSettings {
  const [, names = "", inputText = "", outputText = ""] = PRICED.exec(text) ?? [];
  if (names === "") throw wrong(`--model ${text} says no cost: 0/0 if it is free`);
  const at = names.indexOf("=");
  const ours = at === -1 ? names : names.slice(0, at);
  const theirs = at === -1 ? names : names.slice(at + 1);
  if (!ID_PATTERNS.model.test(ours)) throw wrong(`${JSON.stringify(ours)} is no id of a model`);
  if (theirs === "") throw wrong(`--model ${text} says no name of the model there`);
  const inputUsd = Number(inputText);
  const outputUsd = Number(outputText);
  if (inputUsd > USD_MAX || outputUsd > USD_MAX)
    throw wrong(`--model ${text} costs more than ${USD_MAX} USD per million tokens`);
  const cost = priceOfUsd({ inputUsd, outputUsd });
  return {
    modelId: modelId(ours),
    upstreamModel: theirs,
    cost,
    price: pricedWithMargin(cost, flags.margin ?? PROVIDER_DEFAULTS.marginPercent),
    contextTokensMax: flags.context ?? PROVIDER_DEFAULTS.contextTokensMax,
    outputTokensMax: flags.maxOutput ?? null,
    quantisation: flags.quantisation?.toLowerCase() ?? null,
  };
}

function wrong(message: string): CliError {
  return new CliError(message, { exitCode: EXIT.usage, code: "usage", fix: FIX });
}
