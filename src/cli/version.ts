import { readFileSync } from "node:fs";
import { assert } from "../domain/assert.ts";

/** The version in package.json, which stands beside `src/` in a clone and beside `dist/` when installed. */
export function packageVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  assert(typeof manifest === "object" && manifest !== null && "version" in manifest, "package.json has a version");
  return String(manifest.version);
}
