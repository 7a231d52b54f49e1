import { usageListSchema } from "../../coordinator/admin/budget-schemas.ts";
import { table } from "../format.ts";
import { connectGrid, type GlobalOptions } from "../grid-client.ts";
import { printJson, printText } from "../terminal.ts";

const DAY_MS = 86_400_000;
const SUMS = ["requests", "prompt_tokens", "completion_tokens", "cost_usd"];

export interface UsageOptions extends GlobalOptions {
  readonly by: string;
  readonly days: number;
  readonly tenant?: string;
  readonly all?: boolean;
  readonly csv?: boolean;
}

/** Of the key's own tenant; of others with a key that has the scope `admin`. */
export async function showUsage(options: UsageOptions): Promise<void> {
  const grid = connectGrid(options);
  const toMs = Date.now() + 1;
  const query = new URLSearchParams({
    group_by: options.by,
    from_ms: String(Math.max(0, Math.floor(toMs - options.days * DAY_MS))),
    to_ms: String(toMs),
    ...(options.tenant === undefined ? {} : { tenant: options.tenant }),
  });
  const isWide = options.all === true || options.tenant !== undefined;
  const path = `${isWide ? "/admin/v1/usage" : "/v1/grid/usage"}?${query.toString()}`;
  if (options.csv === true) return printText((await grid.text(`${path}&format=csv`)).trimEnd());
  const { data } = await grid.json(path, usageListSchema);
  if (options.json === true) return printJson({ usage: data });
  const names = Object.keys(data[0] ?? {}).filter((name) => !SUMS.includes(name));
  printText(
    table(
      [
        ...names.map((name) => ({ title: name.replace(/_id$|^service_/, "").toUpperCase() })),
        { title: "REQUESTS", isRight: true },
        { title: "IN", isRight: true },
        { title: "OUT", isRight: true },
        { title: "USD", isRight: true },
      ],
      data.map((row) => [...names, ...SUMS].map((name) => String(row[name] ?? ""))),
      "nothing was used in this time",
    ),
  );
}
