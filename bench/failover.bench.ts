/**
 * How long a client waits when the node that answers it is lost in mid-stream: real processes on one machine, the tiny model,
 * the agent's whole process group struck at token 50. The gap is the longest time between two tokens from there on.
 *
 *   cold: no other node has the model loaded, so it is fetched, loaded and self-tested first
 *   warm: a second replica is ready
 *   stopped: SIGSTOP, with a second replica ready: the time of suspicion comes on top
 */
import { z } from "zod";
import { LIVENESS } from "../src/domain/node.ts";
import { type AgentProcess, type Grid, startAgent, startGrid } from "../test/support/grid.ts";
import { timedCompletion } from "../test/support/timed-stream.ts";
import { openBench } from "./lib/bench-run.ts";
import { spreadOf } from "./lib/quantiles.ts";

const bench = openBench("failover");
const ROUNDS = bench.isSmoke ? 1 : 7;
const TOKENS = 800;
const FAULT_AT = 50;
const WARM_BAR_MS = 300;
const COLD_BAR_MS = 1_500;
const READY_TRIES = 600;

const replicasSchema = z.object({ replicas: z.array(z.object({ state: z.string(), nodeId: z.string() })) });

const gapsMs = {
  cold: await series({ warm: 1, signal: "SIGKILL" }),
  warm: await series({ warm: 2, signal: "SIGKILL" }),
  stopped: await series({ warm: 2, signal: "SIGSTOP" }),
};
const measured = Object.fromEntries(Object.entries(gapsMs).map(([name, gaps]) => [`${name}GapMs`, spreadOf(gaps, 0)]));
bench.say(JSON.stringify(measured, null, 2));
const stoppedBarMs = LIVENESS.suspectMs + LIVENESS.checkMs + WARM_BAR_MS;
bench.keep({
  bars: [
    {
      name: "gap in ms after SIGKILL, cold, p50",
      value: spreadOf(gapsMs.cold, 0).p50,
      wanted: "at-most",
      limit: COLD_BAR_MS,
    },
    {
      name: "gap in ms after SIGKILL, warm, p50",
      value: spreadOf(gapsMs.warm, 0).p50,
      wanted: "at-most",
      limit: WARM_BAR_MS,
    },
    {
      name: "gap in ms after SIGSTOP, warm, p50",
      value: spreadOf(gapsMs.stopped, 0).p50,
      wanted: "at-most",
      limit: stoppedBarMs,
    },
  ],
  measured: { rounds: ROUNDS, tokens: TOKENS, faultAt: FAULT_AT, ...measured },
});

async function series(how: { warm: number; signal: "SIGKILL" | "SIGSTOP" }): Promise<readonly number[]> {
  const grid = await startGrid({ args: ["--no-agent", "--warm", String(how.warm), "--threads", "1"] });
  const agents = new Map<string, AgentProcess>();
  const gaps: number[] = [];
  try {
    for (let round = 0; round < ROUNDS; round++) {
      while (agents.size < how.warm + (how.warm === 1 ? 1 : 0)) {
        const agent = await startAgent(grid.joinCode, { args: ["--threads", "1"], until: "online" });
        agents.set(agent.nodeId, agent);
      }
      await untilReady(grid, how.warm);
      gaps.push(await gapOf(grid, agents, how.signal));
    }
  } finally {
    await Promise.all([...agents.values()].map((agent) => agent.stop()));
    await grid.stop();
  }
  bench.say(`${how.signal}, ${how.warm} ready: ${gaps.map((gap) => Math.round(gap)).join(", ")} ms`);
  return gaps;
}

async function gapOf(grid: Grid, agents: Map<string, AgentProcess>, signal: "SIGKILL" | "SIGSTOP"): Promise<number> {
  let struck: AgentProcess | null = null;
  const request = { model: "tiny", prompt: "In the beginning", max_tokens: TOKENS, ignore_eos: true, seed: 7 };
  const stream = await timedCompletion(grid, request, (count, nodeId) => {
    if (count < FAULT_AT || struck !== null) return;
    struck = agents.get(nodeId) ?? null;
    agents.delete(nodeId);
    struck?.killGroup(signal);
  });
  const lost: AgentProcess | null = struck;
  if (lost === null || stream.error !== null || stream.completionTokens !== TOKENS) {
    throw new Error(`the stream did not survive: ${JSON.stringify(stream.error)}, ${stream.completionTokens} tokens`);
  }
  await end(lost);
  const { atMs } = stream;
  return Math.max(...atMs.slice(FAULT_AT - 1).map((at, index) => at - (atMs[FAULT_AT - 2 + index] ?? at)));
}

async function end(agent: AgentProcess): Promise<void> {
  agent.killGroup("SIGKILL");
  await agent.stop();
}

async function untilReady(grid: Grid, count: number): Promise<void> {
  for (let tries = 0; tries < READY_TRIES; tries++) {
    const headers = { authorization: `Bearer ${grid.apiKey}` };
    const answer = await fetch(`${grid.baseUrl}/admin/v1/replicas`, { headers });
    const { replicas } = replicasSchema.parse(await answer.json());
    if (replicas.filter(({ state }) => state === "ready").length >= count) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`${count} replicas were not ready in time`);
}
