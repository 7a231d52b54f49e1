/** Reads the status page's files from `web/`, which stands beside `src/` in a clone and beside `dist/` when installed. */
import { readFileSync } from "node:fs";
import type { StatusPageFile, StatusPageFiles } from "../../coordinator/admin/status-page.ts";

const FILES = [
  ["/", "index.html", "text/html; charset=utf-8"],
  ["/web/status.css", "status.css", "text/css; charset=utf-8"],
  ["/web/status.js", "status.js", "text/javascript; charset=utf-8"],
  ["/web/metrics-panel.js", "metrics-panel.js", "text/javascript; charset=utf-8"],
  ["/web/icon.svg", "icon.svg", "image/svg+xml"],
] as const;

export function readStatusPage(): StatusPageFiles {
  return new Map<string, StatusPageFile>(
    FILES.map(([path, name, contentType]) => [
      path,
      { contentType, body: readFileSync(new URL(`../../../web/${name}`, import.meta.url), "utf8") },
    ]),
  );
}
