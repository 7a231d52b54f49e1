/** Checks of the grid that this home runs or belongs to. */
import { statusSchema } from "../../coordinator/admin/admin-schemas.ts";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { counted, formatDuration } from "../format.ts";
import { connectGrid, type GlobalOptions, type GridClient } from "../grid-client.ts";
import { type Check, fine, problem, skipped } from "./check.ts";

/** Receipts and key expiry are read by people: a minute off confuses, more misleads. */
const CLOCK_SKEW_MAX_MS = 60_000;

export async function checkGrid(options: GlobalOptions): Promise<readonly Check[]> {
  let grid: GridClient;
  try {
    grid = connectGrid(options);
  } catch (thrown) {
    if (!(thrown instanceof CliError) || thrown.code !== "grid-unknown") throw thrown;
    return [skipped("coordinator", "no grid runs in this home"), skipped("clock", "there is no grid to compare with")];
  }
  const sentMs = Date.now();
  try {
    const { headers, body } = await grid.stream("/health");
    body.resume();
    const receivedMs = Date.now();
    return [
      fine("coordinator", `${grid.url} answers (${receivedMs - sentMs} ms)`),
      checkClock(headers.date, { sentMs, receivedMs }),
      await checkServing(grid),
    ];
  } catch (thrown) {
    if (!(thrown instanceof CliError)) throw thrown;
    return [
      problem("coordinator", thrown.message, thrown.fix ?? "look at its log"),
      skipped("clock", "there is no grid to compare with"),
    ];
  }
}

/** The `Date` header has whole seconds: half of one is added, and the round trip is shared evenly. */
function checkClock(date: string | undefined, round: { sentMs: number; receivedMs: number }): Check {
  const theirMs = Date.parse(date ?? "");
  if (Number.isNaN(theirMs)) return skipped("clock", "the grid does not say its time");
  const skewMs = theirMs + 500 - (round.sentMs + round.receivedMs) / 2;
  const detail = `${formatDuration(Math.abs(skewMs))} ${skewMs < 0 ? "ahead of" : "behind"} the grid's clock`;
  return Math.abs(skewMs) <= CLOCK_SKEW_MAX_MS
    ? fine("clock", detail)
    : problem("clock", detail, "set this machine's clock, e.g. with NTP: timedatectl set-ntp true");
}

async function checkServing(grid: GridClient): Promise<Check> {
  if (!grid.hasKey) return skipped("serving", "needs a key: --key or FALLOW_API_KEY");
  try {
    const { nodes, replicas } = await grid.json("/admin/v1/status", statusSchema);
    const failed = replicas.find(({ state }) => state === "failed");
    if (failed !== undefined) {
      return problem(
        "serving",
        `${failed.modelId ?? failed.replicaId} failed on ${failed.nodeName}: ${failed.failure ?? ""}`,
        "see `fallow status`",
      );
    }
    const online = nodes.filter(({ state }) => state === "online").length;
    const ready = replicas.filter(({ state }) => state === "ready").length;
    const detail = `${counted(online, "node")} online, ${counted(ready, "replica")} ready`;
    return online > 0 ? fine("serving", detail) : problem("serving", detail, "let a machine join: `fallow join-code`");
  } catch (thrown) {
    if (thrown instanceof CliError && thrown.exitCode === EXIT.refused) return skipped("serving", thrown.message);
    throw thrown;
  }
}
