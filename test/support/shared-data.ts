/**
 * Measured data that may not be committed (traces, published cluster settings): the folder `shared` beside the checkout. Suites that
 * need it are left out where it is absent, and fail in CI.
 */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { isCi } from "../../tools/test-tools.ts";

const FOLDER = new URL("../../../shared/", import.meta.url);

/** Null where there is none; throws in CI, where a suite that is left out would go unnoticed. */
export function findSharedData(): string | null {
  if (existsSync(new URL("helix/README.md", FOLDER))) return fileURLToPath(FOLDER);
  if (isCi()) throw new Error(`${fileURLToPath(FOLDER)} is missing: measured clusters and traces belong there`);
  return null;
}

/** A file's text, e.g. `helix/geo24_70b.json`; unpacked when its name ends in `.gz`. */
export function readShared(path: string): string {
  const bytes = readFileSync(new URL(path, FOLDER));
  return (path.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString("utf8");
}
