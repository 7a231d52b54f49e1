import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { BoundedLog } from "./bounded-log.ts";

test("a log keeps its last words, and never more than two files of its bound", () => {
  const folder = mkdtempSync(join(tmpdir(), "fallow-log-"));
  try {
    const path = join(folder, "server.log");
    const log = new BoundedLog(path, 100);
    for (let line = 0; line < 50; line++) log.write(Buffer.from(`line number ${line}\n`));
    log.write(new Uint8Array(1_000).fill(65));
    log.write(Buffer.from("\nthe end\n"));
    log.close();
    expect(statSync(path).size).toBeLessThanOrEqual(100);
    expect(statSync(`${path}.1`).size).toBeLessThanOrEqual(100);
    expect(readFileSync(path, "utf8")).toContain("the end");
    expect(log.lastWords()).toMatch(/the end$/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
