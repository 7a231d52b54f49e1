/** Fetches a model in processes that are killed in the middle, one after the other, and says what was sent for it. */
import { type ChildProcess, fork } from "node:child_process";
import { createHash, randomBytes, randomInt } from "node:crypto";
import { on, once } from "node:events";
import { createReadStream } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { nodeId } from "../../src/domain/ids.ts";
import { CHUNK_BYTES_DEFAULT } from "../../src/domain/weights.ts";
import { SWARM_GRID_ID, type SwarmGrid, type SwarmModel } from "./swarm-grid.ts";

const FETCHER = fileURLToPath(new URL("./swarm-fetcher.ts", import.meta.url));
/** A kill falls anywhere into the fetching of this and some chunks more. */
const CHUNKS_PER_LIFE = 5;
const KILL_MS_MAX = 30;

export interface KillDrill {
  /** Of what was kept, a life found less than the one before had told. */
  readonly lost: readonly { readonly kept: number; readonly found: number }[];
  readonly sha256: string;
  /** Lives that ended before the model was whole. */
  readonly kills: number;
}

export async function killDrill(grid: SwarmGrid, model: SwarmModel, kills: number): Promise<KillDrill> {
  const folder = await mkdtemp(join(grid.folder, "killed-"));
  const seed = randomBytes(32).toString("hex");
  const lost: { kept: number; found: number }[] = [];
  let { token } = await grid.registry.issueJoinToken({ usesMax: 1, ttlMs: 600_000 });
  let kept = 0;
  for (let life = 0; ; life++) {
    const child = fork(FETCHER, [grid.url, SWARM_GRID_ID, token, folder, seed, JSON.stringify(model)]);
    token = "";
    const enough = life === kills ? Number.POSITIVE_INFINITY : kept + CHUNKS_PER_LIFE * CHUNK_BYTES_DEFAULT;
    const outcome = await fetchUntil(child, { grid, model, enough });
    if (outcome.path === null) await sleep(randomInt(KILL_MS_MAX));
    child.kill("SIGKILL");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    if (outcome.firstBytes < kept) lost.push({ kept, found: outcome.firstBytes });
    kept = outcome.doneBytes;
    if (outcome.path !== null) return { lost, kills: life, sha256: await digestOf(outcome.path) };
  }
}

async function fetchUntil(
  child: ChildProcess,
  { grid, model, enough }: { grid: SwarmGrid; model: SwarmModel; enough: number },
): Promise<{ firstBytes: number; doneBytes: number; path: string | null }> {
  let [firstBytes, doneBytes] = [-1, 0];
  for await (const [message] of on(child, "message", { close: ["exit"] })) {
    if (message.nodeId !== undefined) {
      grid.order(nodeId(message.nodeId), model);
      child.send("fetch");
    }
    if (message.doneBytes !== undefined) {
      doneBytes = message.doneBytes;
      if (firstBytes < 0) firstBytes = doneBytes;
      if (doneBytes >= enough) return { firstBytes, doneBytes, path: null };
    }
    if (message.path !== undefined) return { firstBytes, doneBytes, path: message.path };
  }
  throw new Error("the fetching process ended by itself");
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const bytes of createReadStream(path)) hash.update(bytes);
  return hash.digest("hex");
}
