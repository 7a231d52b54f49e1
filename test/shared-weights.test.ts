/** Two agents of one machine that keep their models in one folder, as real processes of a real grid. */
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { type AgentProcess, type Grid, runFallow, startAgent, startGrid } from "./support/grid.ts";

const toStop: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const stop of toStop.splice(0).reverse()) await stop();
});

test("two agents serve one model from one folder that was filled once, and one outlives the other's kill", {
  timeout: 180_000,
}, async () => {
  const folder = await mkdtemp(join(tmpdir(), "fallow-shared-"));
  toStop.push(() => rm(folder, { recursive: true, force: true }));
  const grid: Grid = await startGrid({ args: ["--no-agent", "--warm", "2", "--threads", "1"] });
  toStop.push(() => grid.stop());
  const args = ["--threads", "1", "--weights-folder", folder];
  const joined = await Promise.all(
    ["one", "two"].map((name) => startAgent(grid.joinCode, { args: [...args, "--name", name] })),
  );
  for (const agent of joined) toStop.push(() => agent.stop());
  const [fetcher, other] = joined.toSorted((a, b) => fetchedBytes(b) - fetchedBytes(a));
  if (fetcher === undefined || other === undefined) throw new Error("two were started");

  const models = (await readdir(folder)).filter((name) => !name.endsWith(".lock"));
  expect(models).toHaveLength(1);
  const [digest = ""] = models;
  const { size } = await stat(join(folder, digest, `${digest}.gguf`));
  // Whoever held the right to write fetched it, and the other took what it wrote.
  expect(fetchedBytes(fetcher) + fetchedBytes(other)).toBe(size);

  fetcher.killGroup("SIGKILL");
  await fetcher.exited;
  const answer = await runFallow(["chat", "--json", "say something", "--url", grid.baseUrl, "--key", grid.apiKey]);
  expect(answer.code, answer.stderr).toBe(0);
});

function fetchedBytes(agent: AgentProcess): number {
  return agent.events().reduce((sum, { event, bytes }) => sum + (event === "fetched" ? Number(bytes) : 0), 0);
}
