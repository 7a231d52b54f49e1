/** `fallow batch …` against a running grid. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { field, list, parsed } from "./support/exchange.ts";
import { type Grid, runFallow, startGrid } from "./support/grid.ts";

let grid: Grid;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "fallow-cli-batch-"));
  grid = await startGrid({ args: ["--threads", "1"] });
});
afterAll(async () => {
  await grid.stop();
  rmSync(folder, { recursive: true });
});

const fallow = (...args: readonly string[]) => runFallow(["batch", ...args], { home: grid.home });

describe("fallow batch", () => {
  test("runs a file of prompts, shows how far it is, and gives the results in its order", async () => {
    const prompts = join(folder, "prompts.txt");
    writeFileSync(prompts, "In the beginning\n\nAnd God said\r\n");
    const submitted = await fallow("submit", prompts, "--model", "tiny", "--max-tokens", "5", "--watch");
    expect(submitted.code, submitted.stderr).toBe(0);
    expect(submitted.stderr).toMatch(/batch_\w+ completed: 2 of 2 lines/);
    const listed = await fallow("list", "--json");
    const batch = list(field(listed.json, "batches"))[0];
    const id = String(field(batch, "id"));
    const saved = join(folder, "results.jsonl");
    const [kept, shown, status, listedAsText, none] = await Promise.all([
      fallow("results", id, "-o", saved),
      fallow("results", id),
      fallow("status", id),
      fallow("list"),
      fallow("results", id, "--errors"),
    ]);
    expect(kept.code).toBe(0);
    const results = readFileSync(saved, "utf8").trimEnd().split("\n").map(parsed);
    expect(results.map((result) => field(result, "custom_id"))).toEqual(["line-1", "line-3"]);
    expect(shown.stdout).toBe(readFileSync(saved, "utf8"));
    expect(status.stdout).toContain(`${id} completed: 2 of 2 lines`);
    expect(listedAsText.stdout).toContain("2 of 2 lines");
    expect([none.code, none.stderr]).toEqual([4, expect.stringContaining("has no failed lines")]);
  });

  test("says what is wrong with a file, with the line", async () => {
    const requests = join(folder, "requests.jsonl");
    writeFileSync(requests, '{"custom_id":"a"}\n{\n');
    const submitted = await fallow("submit", requests, "--watch");
    expect(submitted.code).not.toBe(0);
    expect(submitted.stderr).toContain("line 2:");
    expect(submitted.stderr).toContain("invalid_json_line");
  });

  test("cancels, and refuses what is not there", async () => {
    const prompts = join(folder, "many.txt");
    writeFileSync(prompts, "Tell me more\n".repeat(300));
    const [submitted, unknown, absent] = await Promise.all([
      fallow("submit", prompts, "--model", "tiny", "--max-tokens", "40", "--json"),
      fallow("status", "batch_none"),
      fallow("submit", join(folder, "absent")),
    ]);
    const id = String(field(submitted.json, "id"));
    expect(unknown.code).not.toBe(0);
    expect(absent.stderr).toContain("cannot be read");
    expect(field(field((await fallow("pause", id, "--json")).json, "grid"), "is_paused")).toBe(true);
    expect((await fallow("resume", id)).code).toBe(0);
    expect((await fallow("cancel", id)).code).toBe(0);
    const watched = await fallow("watch", id);
    expect(watched.stderr).toContain("cancelled");
  });
});
