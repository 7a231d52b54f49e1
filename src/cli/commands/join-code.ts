import { joinCodeCreatedSchema } from "../../coordinator/admin/admin-schemas.ts";
import { counted, formatTime } from "../format.ts";
import { connectGrid, type GlobalOptions } from "../grid-client.ts";
import { runnerName } from "../runner-name.ts";
import { note, printJson, printLine } from "../terminal.ts";

const HOUR_MS = 3_600_000;

export async function createJoinCode(options: GlobalOptions & { uses: number; hours: number }): Promise<void> {
  const made = await connectGrid(options).json("/admin/v1/join-codes", joinCodeCreatedSchema, {
    body: { usesMax: options.uses, ttlMs: Math.max(1_000, Math.round(options.hours * HOUR_MS)) },
  });
  if (options.json === true) return printJson(made);
  note(
    `for ${counted(made.usesMax, "machine")}, until ${formatTime(made.expiresAtMs)} UTC; there: ${runnerName()} join CODE`,
  );
  printLine(made.joinCode);
}
