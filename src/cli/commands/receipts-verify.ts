/** `fallow receipts verify`: checks a receipt with nothing but the file. Exit code 5 when a check fails. */
import { readFileSync } from "node:fs";
import { NodeCrypto } from "../../adapters/crypto-node/node-crypto.ts";
import { verifyReceipt } from "../../market/verify-receipt.ts";
import { parseSignedReceipt, RECEIPT_BOUNDS } from "../../wire/receipt.ts";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { plain } from "../format.ts";
import { asTypedHere } from "../runner-name.ts";
import { printJson, printLine } from "../terminal.ts";

const STDIN = 0;
const RECEIPT_FILE_FIX = "name a file that `fallow receipts get ID --out FILE` wrote";

export async function verifyReceiptFile(
  file: string,
  options: { json?: boolean; coordinatorKey?: string },
): Promise<void> {
  const { isValid, checks } = verifyReceipt(parse(file, read(file)), {
    parse: parseSignedReceipt,
    crypto: new NodeCrypto(),
    trustedPublicKeyHex: options.coordinatorKey ?? null,
  });
  if (!isValid) process.exitCode = EXIT.checkFailed;
  if (options.json === true) {
    printJson({ isValid, checks });
    return;
  }
  for (const { name, isPassed, detail } of checks)
    printLine(`${isPassed ? "ok    " : "FAILED"}  ${plain(`${name}: ${detail}`)}`);
  printLine(isValid ? "the receipt is valid" : "the receipt is NOT valid");
  if (isValid && options.coordinatorKey === undefined) {
    printLine(
      asTypedHere(
        '(signed by the key that it names; give --coordinator-key, the "public key" of `fallow status`, to check whose that is)',
      ),
    );
  }
}

function read(file: string): string {
  let text: string;
  try {
    text = readFileSync(file === "-" ? STDIN : file, "utf8");
  } catch (thrown) {
    throw new CliError(`${file} cannot be read`, {
      fix: RECEIPT_FILE_FIX,
      cause: thrown,
    });
  }
  if (text.length <= RECEIPT_BOUNDS.receiptCharsMax) return text;
  throw new CliError(`${file} has ${text.length} characters, a receipt at most ${RECEIPT_BOUNDS.receiptCharsMax}`);
}

function parse(file: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (thrown) {
    throw new CliError(`${file} is no receipt: it is not JSON`, {
      exitCode: EXIT.checkFailed,
      code: "receipt-malformed",
      fix: RECEIPT_FILE_FIX,
      cause: thrown,
    });
  }
}
