/** From what the choices used to what settlement is told. Nobody pays for what was not delivered, and nobody is paid for it. */
import type { AttemptRecord } from "../../../domain/attempt.ts";
import { type Sha256Hex, sha256Hex } from "../../../domain/ids.ts";
import type { CloudPart, ReceiptChoice, ReceiptFinish } from "../../../domain/receipt.ts";
import { toHex } from "../../../market/hex.ts";
import type { Crypto } from "../../../ports/crypto.ts";
import { withAtMost } from "../legs/with-at-most.ts";
import type { ChoiceMeter } from "./answer.ts";

export interface Charge {
  readonly choices: readonly ReceiptChoice[];
  readonly attempts: readonly AttemptRecord[];
  readonly outputTokens: number;
}

/** `unfinished`: what is said of a choice that did not end by itself. `cloudParts`: what was delivered of providers, counted. */
export function chargeFor(
  meters: readonly ChoiceMeter[],
  options: { crypto: Crypto; unfinished: ReceiptFinish; cloudParts?: readonly CloudPart[] },
): Charge {
  const metered = meters.map((meter, index) => {
    const attempts = withAtMost(meter.attempts, meter.tokenIds.length);
    const gridTokens = attempts.reduce((sum, attempt) => sum + attempt.acknowledgedTokens, 0);
    return {
      attempts,
      choice: {
        outputTokens: gridTokens + cloudTokens(options.cloudParts ?? [], index),
        outputSha256: tokensSha256(options.crypto, meter.tokenIds.slice(0, gridTokens)),
        finishReason: meter.finishReason ?? options.unfinished,
      },
    };
  });
  return {
    choices: metered.map(({ choice }) => choice),
    attempts: metered.flatMap(({ attempts }) => attempts),
    outputTokens: metered.reduce((sum, { choice }) => sum + choice.outputTokens, 0),
  };
}

function cloudTokens(parts: readonly CloudPart[], index: number): number {
  let tokens = 0;
  for (const { choice, outputTokens } of parts) if (choice === index) tokens += outputTokens;
  return tokens;
}

/** Over the token ids as little-endian int32, as nodes hash what they produced. */
export function tokensSha256(crypto: Crypto, tokenIds: readonly number[]): Sha256Hex {
  const bytes = new Uint8Array(tokenIds.length * 4);
  const view = new DataView(bytes.buffer);
  for (const [index, tokenId] of tokenIds.entries()) view.setInt32(index * 4, tokenId, true);
  return sha256Hex(toHex(crypto.sha256(bytes)));
}
