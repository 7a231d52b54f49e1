/**
 * What a request costs at most, before it runs: each line rounded up, as the ledger charges. Prompt tokens are charged once for
 * all choices, however often a move prefills them, and a hedge that loses costs nothing, so neither raises the bound.
 */
import { addUsd, type MicroUsd, priced, type TokenPrice } from "../../domain/money.ts";

export function priceBound(request: {
  readonly price: TokenPrice;
  readonly promptTokens: number;
  /** Of one choice. */
  readonly outputTokensMax: number;
  readonly choices: number;
}): MicroUsd {
  const { inputMicroUsdPerMtok, outputMicroUsdPerMtok } = request.price;
  const outputTokens = request.outputTokensMax * request.choices;
  return addUsd(
    priced({ tokens: request.promptTokens, microUsdPerMtok: inputMicroUsdPerMtok, round: "up" }),
    priced({ tokens: outputTokens, microUsdPerMtok: outputMicroUsdPerMtok, round: "up" }),
  );
}
