/** Measured data that may not be committed: the folder `shared` beside the checkout. Benches that need it say so where it is absent. */
import { existsSync, readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";

const FOLDER = new URL("../../../shared/", import.meta.url);

export function hasShared(): boolean {
  return existsSync(new URL("helix/README.md", FOLDER));
}

/** A file's text, e.g. `helix/geo24_70b.json`; unpacked when its name ends in `.gz`. */
export function readShared(path: string): string {
  const bytes = readFileSync(new URL(path, FOLDER));
  return (path.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString("utf8");
}
