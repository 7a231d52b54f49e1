/**
 * One fault under streams in the lab: a stage's node is killed, stopped or cut off while eight answers are given, and what the coordinator and the
 * clients see is timed. Afterwards the node is brought back.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import type { ChainRow } from "../../src/coordinator/admin/chain-schema.ts";
import { weightsListSchema } from "../../src/coordinator/admin/weights-schema.ts";
import { machineMs, type ReadStream, type StreamBody } from "../../test/support/chain-streams.ts";
import type { ChainPlace, ServingChain } from "../../test/support/chain-view.ts";
import { LAB_MODEL_ID, type LabChain } from "./lab-chain.ts";
import type { LabAgent } from "./lab-grid.ts";

export type ChainFault = "SIGKILL" | "SIGSTOP" | "cut";
export const CHAIN_FAULTS: readonly ChainFault[] = ["SIGKILL", "SIGSTOP", "cut"];

/** Milliseconds from the fault on. */
export interface RecoveryTimes {
  readonly fault: ChainFault;
  readonly place: ChainPlace;
  /** The coordinator no longer calls the chain serving. */
  readonly detectMs: number;
  /** All stages are ready, one of them on another node. */
  readonly replaceMs: number;
  /** They are linked: the chain serves. */
  readonly linkedMs: number;
  /** The first of the streams goes on, and the last one: what it lacked was computed again. */
  readonly firstTokenMs: number;
  readonly lastTokenMs: number;
  /** As the coordinator tells it. */
  readonly toldRecoveryMs: number | null;
  readonly streams: readonly ReadStream[];
  /** Of weights, by the stages that stayed. */
  readonly survivorsFetchedBytes: number;
}

/** Often enough for bars of a second, and little beside eight streams. */
const LOOK_MS = 20;
const RECOVERY_MS_MAX = 120_000;

interface Seen {
  readonly detectAt: number;
  readonly replaceAt: number;
  readonly linkedAt: number;
  readonly row: ChainRow;
}

export interface Drill {
  readonly fault: ChainFault;
  readonly place: ChainPlace;
  readonly bodies: readonly StreamBody[];
  /** Tokens that each stream has when the node is struck. */
  readonly struckAt: number;
}

export async function drillRecovery(chain: LabChain, drill: Drill): Promise<RecoveryTimes> {
  const { fault, place, bodies, struckAt } = drill;
  const counts = bodies.map(() => 0);
  const { promise, resolve, reject } = Promise.withResolvers<Struck>();
  let isStruck = false;
  const reading = chain.streams(bodies, {
    tellEvery: 4,
    onTokens: (stream, count) => {
      counts[stream] = count;
      if (isStruck || Math.min(...counts) < struckAt) return;
      isStruck = true;
      strike(chain, fault, place).then(resolve, reject);
    },
  });
  const streams = await reading;
  if (!isStruck) throw new Error(`the streams ended before the ${place} stage was struck: ${firstError(streams)}`);
  const { agent, survivors, heldBefore, atMs, seen } = await promise;
  const { detectAt, replaceAt, linkedAt, row } = await seen;
  const wentOn = streams.map((stream) => wentOnAt(stream, atMs)).filter((at) => !Number.isNaN(at));
  const survivorsFetchedBytes = (await heldBytes(chain, survivors)) - heldBefore;
  await mend(chain, agent, fault);
  return {
    fault,
    place,
    detectMs: Math.round(detectAt - atMs),
    replaceMs: Math.round(replaceAt - atMs),
    linkedMs: Math.round(linkedAt - atMs),
    firstTokenMs: Math.round(Math.min(...wentOn) - atMs),
    lastTokenMs: Math.round(Math.max(...wentOn) - atMs),
    toldRecoveryMs: row.recoveryMs === null ? null : Math.round(row.recoveryMs),
    streams,
    survivorsFetchedBytes: Math.round(survivorsFetchedBytes),
  };
}

/** What these nodes have of the model, by their own word. */
async function heldBytes(chain: LabChain, nodeIds: readonly string[]): Promise<number> {
  const { weights } = await chain.grid.json("/grid/v1/weights", weightsListSchema);
  return weights.reduce(
    (sum, { modelId, totalBytes, nodes }) =>
      modelId === LAB_MODEL_ID
        ? nodes.reduce((own, node) => own + (nodeIds.includes(node.nodeId) ? node.share * totalBytes : 0), sum)
        : sum,
    0,
  );
}

interface Struck {
  readonly agent: LabAgent;
  readonly survivors: readonly string[];
  readonly heldBefore: number;
  readonly atMs: number;
  readonly seen: Promise<Seen>;
}

/** The chain may have changed since the streams began: on a busy machine a node falls silent by itself. */
async function strike(chain: LabChain, fault: ChainFault, place: ChainPlace): Promise<Struck> {
  const { agent, chain: before } = await chain.stageNode(place);
  const survivors = before.stages.flatMap(({ nodeId }) => (nodeId === agent.nodeId ? [] : [nodeId]));
  const heldBefore = await heldBytes(chain, survivors);
  const atMs = machineMs();
  if (fault === "cut") await chain.cut(agent);
  else chain.signal(agent, fault);
  return { agent, survivors, heldBefore, atMs, seen: watch(chain, before, atMs) };
}

/** The node comes back: from its home, from its sleep, or to the network. */
async function mend(chain: LabChain, agent: LabAgent, fault: ChainFault): Promise<void> {
  switch (fault) {
    case "SIGKILL":
      await chain.revive(agent);
      return;
    case "SIGSTOP":
      return chain.signal(agent, "SIGCONT");
    case "cut":
      return chain.restore(agent);
  }
}

async function watch(chain: LabChain, before: ServingChain, fromMs: number): Promise<Seen> {
  let detectAt = Number.NaN;
  let replaceAt = Number.NaN;
  while (machineMs() - fromMs < RECOVERY_MS_MAX) {
    const rows = await chain.chains();
    const nowMs = machineMs();
    const row = rows.find(({ chainId }) => chainId === before.chainId) ?? rows[0];
    const isNew = row !== undefined && (row.chainId !== before.chainId || row.chainEpoch > before.chainEpoch);
    if (Number.isNaN(detectAt) && (row?.state !== "serving" || isNew)) detectAt = nowMs;
    if (Number.isNaN(replaceAt) && isNew && (row.state === "linking" || row.state === "serving")) replaceAt = nowMs;
    if (isNew && row.state === "serving") return { detectAt, replaceAt, linkedAt: nowMs, row };
    await sleep(LOOK_MS);
  }
  throw new Error(`the chain did not serve again: ${JSON.stringify(await chain.chains()).slice(0, 2_000)}`);
}

/** When the token came after the longest wait since the fault; NaN when it ended before. */
function wentOnAt({ atMs }: ReadStream, faultMs: number): number {
  let [longest, at] = [0, Number.NaN];
  for (let index = 1; index < atMs.length; index++) {
    const [before = 0, now = 0] = [atMs[index - 1], atMs[index]];
    if (now <= faultMs || now - before <= longest) continue;
    [longest, at] = [now - before, now];
  }
  return at;
}

function firstError(streams: readonly ReadStream[]): string {
  return streams.find(({ error }) => error !== null)?.error ?? "no error";
}

const SETTLE_MS_MAX = 120_000;
const SETTLE_LOOK_MS = 200;
const nodesSchema = z.object({ nodes: z.array(z.object({ nodeId: z.string(), state: z.string() })) });
const replicasSchema = z.object({ replicas: z.array(z.object({ modelId: z.string().nullable(), state: z.string() })) });

/** Until every node is online, and the chain serves with its spares, and nothing else of the model is on any node. */
export async function settle(
  chain: LabChain,
  want: { readonly nodes: number; readonly spares: number },
): Promise<void> {
  const { stages } = await chain.chain();
  let told = "";
  for (const startMs = machineMs(); machineMs() - startMs < SETTLE_MS_MAX; await sleep(SETTLE_LOOK_MS)) {
    const { nodes } = await chain.grid.json("/admin/v1/nodes", nodesSchema);
    const { replicas } = await chain.grid.json("/admin/v1/replicas", replicasSchema);
    const { chains, spares } = await chain.list();
    const [row] = chains;
    const own = replicas.filter(({ modelId, state }) => modelId === LAB_MODEL_ID && state !== "gone");
    const isSpared = spares.filter(({ state }) => state === "ready").length === want.spares;
    const isQuiet =
      isSpared && own.length === stages.length + want.spares && own.every(({ state }) => state === "ready");
    const online = nodes.filter(({ state }) => state === "online").length;
    if (isQuiet && online >= want.nodes && row?.state === "serving") return;
    told = JSON.stringify({ online, states: own.map(({ state }) => state), chain: row?.state });
  }
  throw new Error(`${want.nodes} nodes and ${want.spares} spares did not come to rest: ${told}`);
}
