/** From what providers delivered to what settlement is told of it: counted, priced, and with what the provider is owed. */

import { type RequestId, sha256Hex } from "../../../domain/ids.ts";
import { addUsd, microUsd, priced } from "../../../domain/money.ts";
import { toHex } from "../../../market/hex.ts";
import { cloudCharge } from "../../../market/hold.ts";
import type { SettledCloudPart } from "../../../market/settle.ts";
import type { Crypto } from "../../../ports/crypto.ts";
import type { Log } from "../../../ports/log.ts";
import { isUnusual, outputTokensOf, promptTokensOf } from "./count-tokens.ts";
import type { ModelWords } from "./leg-context.ts";
import type { UsedCloudPart } from "./leg-events.ts";
import type { LegMetrics } from "./leg-metrics.ts";

export interface PartCounting {
  readonly requestId: RequestId;
  readonly crypto: Crypto;
  readonly log: Log;
  readonly metrics: LegMetrics;
  readonly words: ModelWords | null;
  /** As planned: counted where there is a vocabulary, else its most. */
  readonly promptTokens: number;
  /** All choices are of one prompt, so that a provider's count of it is one of the whole. */
  readonly hasOnePrompt: boolean;
}

export async function settledParts(
  parts: readonly UsedCloudPart[],
  counting: PartCounting,
): Promise<readonly SettledCloudPart[]> {
  return await Promise.all(parts.map((part) => settledPart(part, counting)));
}

async function settledPart(part: UsedCloudPart, counting: PartCounting): Promise<SettledCloudPart> {
  const { words, crypto, promptTokens } = counting;
  const { providerId, choice, price, cost, usage } = part;
  const own = words === null ? null : await ownTokens(part, words);
  const output = outputTokensOf(part, own);
  const prompt = promptTokensOf(counting.hasOnePrompt ? usage : null, {
    own: words === null ? null : promptTokens,
    most: promptTokens,
  });
  noteDifference(part, counting, own);
  const charged = {
    providerId,
    choice,
    promptTokens: part.isFirst ? prompt.tokens : 0,
    outputTokens: output.tokens,
    outputSha256: sha256Hex(toHex(crypto.sha256(new TextEncoder().encode(part.text)))),
    price,
    countedBy: output.countedBy,
  };
  // What it counts of its own prompt is owed to it, also where it went on with another's answer; never more than the tenant pays for the part.
  const owed = addUsd(
    priced({
      tokens: usage?.promptTokens ?? charged.promptTokens,
      microUsdPerMtok: cost.inputMicroUsdPerMtok,
      round: "down",
    }),
    priced({ tokens: charged.outputTokens, microUsdPerMtok: cost.outputMicroUsdPerMtok, round: "down" }),
  );
  return { ...charged, owedMicroUsd: microUsd(Math.min(owed, cloudCharge(charged))) };
}

async function ownTokens(part: UsedCloudPart, words: ModelWords): Promise<number> {
  const ids = part.text === "" ? [] : await words.tokenize(part.text);
  return ids.length + (part.hasEnded ? 1 : 0);
}

/** Calls are marked by tokens that nobody sees: there the two never agree. */
function noteDifference(part: UsedCloudPart, counting: PartCounting, own: number | null): void {
  const { log, metrics, requestId, words, promptTokens } = counting;
  const { usage, providerId } = part;
  if (usage === null || part.hasCalls || words === null) return;
  const isPromptOff = part.isFirst && counting.hasOnePrompt && isUnusual(promptTokens, usage.promptTokens);
  if (!isPromptOff && !isUnusual(own, usage.completionTokens)) return;
  metrics.usageDisagreed.inc({ provider: providerId });
  const told = { promptTokens: usage.promptTokens, completionTokens: usage.completionTokens };
  log.warn(
    { requestId, providerId, told, counted: { promptTokens, completionTokens: own } },
    "usage of a cloud provider differs",
  );
}
