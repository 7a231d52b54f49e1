/**
 * Where Node keeps compiled code between runs: in the user's own cache folder and not in the shared temporary one, because
 * code that is read from there is run. Where it cannot be written, Node goes without.
 */
import { homedir } from "node:os";
import { join, resolve } from "node:path";

export function compileCacheFolder(): string {
  const named = process.env["NODE_COMPILE_CACHE"];
  if (named !== undefined && named !== "") return resolve(named);
  const base = process.env["XDG_CACHE_HOME"];
  return join(base !== undefined && base !== "" ? base : join(homedir(), ".cache"), "fallow", "node");
}
