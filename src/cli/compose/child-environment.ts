/** The environment of engine and vocabulary processes: what drivers read, and where compiled code is kept. */
import { engineEnvironment } from "../../adapters/engine-llama/child-environment.ts";
import { compileCacheFolder } from "../compile-cache.ts";

export function childEnvironment(): Record<string, string> {
  return { ...engineEnvironment(process.env), NODE_COMPILE_CACHE: compileCacheFolder() };
}
