/** The server that a node would lend, as `fallow join --engine-url` would find it. */
import type { AttachedWish } from "../attached-flags.ts";
import { CliError } from "../cli-error.ts";
import { askServer } from "../compose/attached-server.ts";
import { type Check, fine, problem } from "./check.ts";

const NAME = "attached engine";
const LOOK_MS_MAX = 10_000;

export async function checkAttached(wish: AttachedWish): Promise<Check> {
  try {
    const { described } = await askServer(wish, AbortSignal.timeout(LOOK_MS_MAX));
    const { kind, version, isExact, models } = described;
    const names = models.map(({ modelId, sequencesMax }) => `${modelId} (${sequencesMax} at once)`).join(", ");
    return fine(NAME, `${kind} ${version} at ${wish.url}, by ${isExact ? "token ids" : "text"}: ${names}`);
  } catch (thrown) {
    if (!(thrown instanceof CliError)) throw thrown;
    return problem(NAME, thrown.message, thrown.fix ?? "look at the server's own log");
  }
}
