import { writeFileSync } from "node:fs";
import { z } from "zod";
import { requestListSchema } from "../../coordinator/admin/admin-schemas.ts";
import { formatTime, table } from "../format.ts";
import { connectGrid, type GlobalOptions } from "../grid-client.ts";
import { note, printJson, printLine, printText } from "../terminal.ts";
import { usd } from "./tables.ts";

export async function listReceipts(options: GlobalOptions & { limit: number }): Promise<void> {
  const { requests } = await connectGrid(options).json(`/admin/v1/requests?limit=${options.limit}`, requestListSchema);
  if (options.json === true) return printJson({ receipts: requests });
  printText(
    table(
      [
        { title: "RECEIPT" },
        { title: "REQUEST" },
        { title: "TIME" },
        { title: "MODEL" },
        { title: "TIER" },
        { title: "IN", isRight: true },
        { title: "OUT", isRight: true },
        { title: "USD", isRight: true },
        { title: "ATTEMPTS", isRight: true },
      ],
      requests.map((row) => [
        row.receiptId,
        row.requestId,
        formatTime(row.createdAtMs),
        row.modelId,
        row.tier,
        String(row.promptTokens),
        String(row.outputTokens),
        usd(row.costMicroUsd),
        String(row.attempts),
      ]),
      "no request was settled yet",
    ),
  );
}

/** Prints exactly what the grid signed, so that the file can be verified anywhere. */
export async function getReceipt(id: string, options: GlobalOptions & { out?: string }): Promise<void> {
  const grid = connectGrid(options);
  const receipt = await grid.json(`/v1/grid/receipts/${encodeURIComponent(id)}`, z.looseObject({}));
  if (options.out === undefined) {
    if (options.json === true) return printJson(receipt);
    return printLine(JSON.stringify(receipt, null, 2));
  }
  writeFileSync(options.out, `${JSON.stringify(receipt, null, 2)}\n`);
  if (options.json === true) return printJson({ file: options.out });
  note(`written to ${options.out}; check it with: fallow receipts verify ${options.out}`);
}
