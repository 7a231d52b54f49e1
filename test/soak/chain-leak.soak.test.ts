/**
 * Two thousand short requests, and a thousand before them that warm up, over a chain of which a node, mostly the middle one, is killed again and again: no process that lives
 * through it keeps memory or files.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { CHAIN_MODEL_ID, ChainGrid } from "../support/chain-grid.ts";
import { streamBodies } from "../support/chain-streams.ts";
import type { AgentProcess } from "../support/grid.ts";
import { type Holding, holdingOf, processTree } from "../support/process-tree.ts";

const START_MS_MAX = 300_000;
const SOAK_MS_MAX = 1_800_000;
const REQUESTS = 2_000;
/** The first requests fill caches and compile code: the coordinator's take some 100 MB, the next two thousand 35. */
const WARM_REQUESTS = 1_000;
const LOOK_EVERY = 500;
const AT_ONCE = 16;
const TOKENS = 6;
/** Requests between two kills. */
const CHURN_EVERY = 250;
/** A heap that was never collected in whole moves by this much between two looks. */
const RESIDENT_GROWTH_MAX_BYTES = 48 * 1024 * 1024;
const FILES_GROWTH_MAX = 12;

let chains: ChainGrid;
beforeAll(async () => {
  chains = await ChainGrid.start({ stages: 3, nodes: 4 });
}, START_MS_MAX);
afterAll(() => chains?.stop());

test(`${REQUESTS} requests with churn leave nothing behind`, { timeout: SOAK_MS_MAX }, async () => {
  const first = await chains.chain();
  const survivors = [first.stages.at(0), first.stages.at(-1)].map((stage) => chains.agent(String(stage?.nodeId)));
  const stay = new Set(survivors.map(({ nodeId }) => nodeId));
  const roots = [chains.grid.pid, ...survivors.map(({ pid }) => pid)];
  const engines = survivors.map(({ pid }) => processTree(pid).map(({ pid: one }) => one));
  const looks: { requests: number; holdings: readonly Holding[] }[] = [];
  let failed = 0;
  for (let done = 0, killedAt = 0; done < WARM_REQUESTS + REQUESTS; done += AT_ONCE) {
    const bodies = streamBodies(AT_ONCE, { model: CHAIN_MODEL_ID, tokens: TOKENS, seed: done });
    const isKill = done - killedAt >= CHURN_EVERY;
    let strike: Promise<AgentProcess> | null = null;
    const streams = await chains.streams(bodies, () => {
      if (isKill) strike ??= killOneBut(stay);
    });
    failed += streams.filter(({ error, completionTokens }) => error !== null || completionTokens !== TOKENS).length;
    if (strike !== null) {
      killedAt = done;
      const agent: AgentProcess = await strike;
      await chains.serving();
      await chains.addAgent(await chains.bury(agent));
    }
    if (done % LOOK_EVERY < AT_ONCE) looks.push({ requests: done, holdings: roots.map(holdingOf) });
  }
  looks.push({ requests: WARM_REQUESTS + REQUESTS, holdings: roots.map(holdingOf) });
  for (const look of looks) console.log(JSON.stringify(look));
  expect(failed).toBe(0);
  expect(survivors.map(({ pid }) => processTree(pid).map(({ pid: one }) => one))).toEqual(engines);
  const warm = looks.find(({ requests }) => requests >= WARM_REQUESTS)?.holdings ?? [];
  for (const [at, after] of looks.at(-1)?.holdings.entries() ?? []) {
    const before = warm[at];
    if (before === undefined) throw new Error("it was looked at while it was warm");
    expect(after.residentBytes - before.residentBytes).toBeLessThan(RESIDENT_GROWTH_MAX_BYTES);
    expect(after.openFiles - before.openFiles).toBeLessThan(FILES_GROWTH_MAX);
  }
});

/** On a busy machine stages move, also while answers run: whoever is killed, the two that are looked at live on. */
async function killOneBut(stay: ReadonlySet<string>): Promise<AgentProcess> {
  const { stages } = await chains.chain();
  const struck = stages.find(({ nodeId }) => !stay.has(nodeId));
  if (struck === undefined) throw new Error("three stages are on more nodes than two");
  const agent = chains.agent(struck.nodeId);
  agent.killGroup("SIGKILL");
  return agent;
}
