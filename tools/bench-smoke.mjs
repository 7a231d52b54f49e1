// Runs every bench once with a small load, to see that it still runs; its figures are thrown away. A bench is a file
// bench/<name>.bench.ts that takes `--smoke` and ends with exit code 0.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Longer than any smoke run needs on a busy two-core machine; a bench that hangs must not hang the whole run. */
const BENCH_TIMEOUT_MS = 300_000;
const SHOWN_LOG_CHARS = 4000;

const folder = join(dirname(dirname(fileURLToPath(import.meta.url))), "bench");
const benches = readdirSync(folder, { recursive: true })
  .filter((name) => name.endsWith(".bench.ts"))
  .sort();
let failed = 0;
for (const name of benches) {
  const startedMs = Date.now();
  const run = spawnSync(process.execPath, [join(folder, name), "--smoke"], {
    encoding: "utf8",
    timeout: BENCH_TIMEOUT_MS,
    maxBuffer: 64 * 1024 * 1024,
  });
  const isGood = run.status === 0;
  console.log(`${isGood ? "ok    " : "FAILED"} ${name} (${((Date.now() - startedMs) / 1000).toFixed(1)} s)`);
  if (!isGood) {
    failed++;
    console.log(
      `${run.error?.message ?? run.signal ?? `exit ${run.status}`}\n${run.stdout}${run.stderr}`.slice(-SHOWN_LOG_CHARS),
    );
  }
}
console.log(`${benches.length - failed} passed, ${failed} failed`);
if (failed > 0) process.exitCode = 1;
