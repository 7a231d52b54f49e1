#!/usr/bin/env node
/**
 * The entry point of `fallow`. Node's version is checked and its compile cache switched on before any other file is read: with
 * the cache a start reads compiled code instead of stripping types and compiling some hundred files again.
 */
import { enableCompileCache } from "node:module";
import { compileCacheFolder } from "./compile-cache.ts";

const NODE_MAJOR_MIN = 24;

if (Number(process.versions.node.split(".")[0]) < NODE_MAJOR_MIN) {
  process.stderr.write(`fallow: needs Node ${NODE_MAJOR_MIN} or later, this is ${process.versions.node}\n`);
  process.exitCode = 1;
} else {
  enableCompileCache(compileCacheFolder());
  // SQLite in Node still announces itself as a release candidate on stderr, where scripts read our errors.
  process.removeAllListeners("warning");
  const { runCommandLine } = await import("./run-command-line.ts");
  await runCommandLine();
}
