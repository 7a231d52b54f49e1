import { writeFileSync } from "node:fs";
import { z } from "zod";
import { formatTime, table } from "../format.ts";
import { connectGrid, type GlobalOptions } from "../grid-client.ts";
import { runnerName } from "../runner-name.ts";
import { note, printJson, printLine, printText } from "../terminal.ts";

/** What the API says of a receipt in a list. */
const receiptListSchema = z.object({
  data: z.array(
    z.object({
      id: z.string(),
      request_id: z.string(),
      key_id: z.string(),
      model: z.string(),
      service_tier: z.string(),
      prompt_tokens: z.number(),
      completion_tokens: z.number(),
      cost_usd: z.string(),
      created: z.number(),
      leaf_index: z.number(),
    }),
  ),
});

/** Those of the key's own tenant: a key with the scope `usage` is enough. */
export async function listReceipts(options: GlobalOptions & { limit: number }): Promise<void> {
  const path = `/v1/grid/receipts?limit=${options.limit}`;
  const { data } = await connectGrid(options).json(path, receiptListSchema);
  if (options.json === true) return printJson({ receipts: data });
  printText(
    table(
      [
        { title: "RECEIPT" },
        { title: "REQUEST", dropOrder: 2 },
        { title: "TIME" },
        { title: "MODEL" },
        { title: "TIER", dropOrder: 1 },
        { title: "IN", isRight: true },
        { title: "OUT", isRight: true },
        { title: "USD", isRight: true },
      ],
      data.map((row) => [
        row.id,
        row.request_id,
        formatTime(row.created * 1_000),
        row.model,
        row.service_tier,
        String(row.prompt_tokens),
        String(row.completion_tokens),
        row.cost_usd,
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
  note(`written to ${options.out}; check it with: ${runnerName()} receipts verify ${options.out}`);
}
