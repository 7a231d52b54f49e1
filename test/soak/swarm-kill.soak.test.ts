/** A node that is killed in the middle of fetching, twenty times, goes on where it was and has the right bytes in the end. */
import { type ChildProcess, fork } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { on, once } from "node:events";
import { createReadStream } from "node:fs";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { nodeId } from "../../src/domain/ids.ts";
import { CHUNK_BYTES_DEFAULT } from "../../src/domain/weights.ts";
import { writeRandomModel } from "../support/random-model.ts";
import { SWARM_GRID_ID, SwarmGrid } from "../support/swarm-grid.ts";

const KILLS = 20;
const MODEL_BYTES = 200 * 1024 * 1024;
const FETCHER = fileURLToPath(new URL("../support/swarm-fetcher.ts", import.meta.url));

test(`kill -9 in the middle of a download, ${KILLS} times, costs what was on its way and no more`, {
  timeout: 600_000,
}, async () => {
  const models = await mkdtemp(join(tmpdir(), "fallow-kill-"));
  const grid = await SwarmGrid.open();
  try {
    const path = join(models, "random.gguf");
    await writeRandomModel(path, { fileBytes: MODEL_BYTES, layerCount: 32 });
    const model = await grid.addModel(path);
    const seed = randomBytes(32).toString("hex");
    const folder = join(models, "store");
    let [token, kept] = [(await grid.registry.issueJoinToken({ usesMax: 1, ttlMs: 600_000 })).token, 0];
    for (let life = 0; ; life++) {
      const child = fork(FETCHER, [grid.url, SWARM_GRID_ID, token, folder, seed, JSON.stringify(model)]);
      token = "";
      const isLast = life === KILLS;
      const outcome = await fetchUntil(child, {
        grid,
        model,
        enough: isLast ? Number.POSITIVE_INFINITY : kept + 6 * CHUNK_BYTES_DEFAULT,
      });
      // What an earlier life was told to be kept is there: nothing of it comes again.
      expect(outcome.firstBytes).toBeGreaterThanOrEqual(kept);
      kept = outcome.doneBytes;
      child.kill("SIGKILL");
      if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
      if (!isLast) continue;
      const hash = createHash("sha256");
      for await (const bytes of createReadStream(outcome.path ?? "")) hash.update(bytes);
      expect(hash.digest("hex")).toBe(model.weightsSha256);
      break;
    }
    // Beyond the model only what was on its way at each kill: three requests of four chunks each.
    const again = grid.sourceBytes - (await stat(path)).size;
    expect(again).toBeLessThan(KILLS * 12 * CHUNK_BYTES_DEFAULT);
  } finally {
    await grid.close();
    await rm(models, { recursive: true, force: true });
  }
});

async function fetchUntil(
  child: ChildProcess,
  more: {
    grid: SwarmGrid;
    model: { weightsSha256: string; fileBytes: number } & Parameters<SwarmGrid["order"]>[1];
    enough: number;
  },
): Promise<{ firstBytes: number; doneBytes: number; path: string | null }> {
  let [firstBytes, doneBytes] = [-1, 0];
  for await (const [message] of on(child, "message")) {
    if (message.nodeId !== undefined) {
      more.grid.order(nodeId(message.nodeId), more.model);
      child.send("fetch");
    }
    if (message.doneBytes !== undefined) {
      doneBytes = message.doneBytes;
      if (firstBytes < 0) firstBytes = doneBytes;
      if (doneBytes >= more.enough) return { firstBytes, doneBytes, path: null };
    }
    if (message.path !== undefined) return { firstBytes, doneBytes, path: message.path };
  }
  throw new Error("the fetching process ended by itself");
}
