/**
 * How requests get on. Prompts go through a machine one after the other; decoding sequences share its steps, and each prompt that is
 * given to a machine holds its decoding up by a part of its time (prompts are cut into pieces between which steps go on). A step's time
 * is that of the next power of two of sequences, so that not every arrival changes the speed of all others.
 */

import { LAN_RTT_MS, rttBetween, rttToCoordinator, type Scenario } from "../scenario/scenario.ts";
import { type GridNode, type Hop, hopLayers, type Running, type Stage } from "./grid-parts.ts";
import { prefillMs, SEQUENCES_MAX, stepMs } from "./stage-speed.ts";

/** Of a prompt's time on a machine, by so much the machine's decoding is held up, and the prompt by decoding. */
const INTERLEAVE_SHARE = 0.5;
/** In a chain a token meets a step that has begun: half a step's wait on top of its own. */
const CHAIN_WAIT = 1.5;

export function bucketOf(sequences: number): number {
  if (sequences === 0) return 0;
  return Math.min(SEQUENCES_MAX, 2 ** Math.ceil(Math.log2(sequences)));
}

/** One token over the path, at the load that is there. */
export function pathTokenMs(scenario: Scenario, path: readonly Hop[]): number {
  const isChain = path.length > 1;
  let ms = 0;
  for (const [at, hop] of path.entries()) {
    const { node, spec, bucket } = hop.stage;
    const step = stepMs(node.draw.gpu, spec, { layers: hopLayers(hop), sequences: Math.max(1, bucket) });
    ms += step * Math.max(1, node.busyStages) * (isChain ? CHAIN_WAIT : 1);
    if (!isChain) continue;
    // The last one's token goes back to the first.
    const next = path[(at + 1) % path.length];
    if (next !== undefined)
      ms += hopTransferMs(scenario, { from: node, to: next.stage.node, bytes: spec.activationBytes });
  }
  return ms;
}

export function hopTransferMs(scenario: Scenario, hop: { from: GridNode; to: GridNode; bytes: number }): number {
  const { from, to, bytes } = hop;
  if (from === to) return 0;
  const rttMs = rttBetween(scenario, from.draw, to.draw);
  const isLan = rttMs <= LAN_RTT_MS;
  const bytesPerMs = isLan ? LAN_BYTES_PER_MS : Math.min(from.draw.upBytesPerMs, to.draw.downBytesPerMs);
  return rttMs / 2 + bytes / bytesPerMs;
}

/** 1 Gbit/s between the machines of one owner. */
export const LAN_BYTES_PER_MS = 125_000;

/** Tokens of state that a hop has to compute: none where it kept them. */
export interface PrefillWork {
  readonly tokens: number;
  readonly keptStages: ReadonlySet<Stage>;
}

/** Books the prompt on every machine of the path; answers when the first token is with the coordinator. */
export function bookPrefill(
  scenario: Scenario,
  running: Running,
  work: PrefillWork & { readonly nowMs: number; readonly holdUp: (node: GridNode, ms: number) => void },
): number {
  const { path } = running;
  const [first] = path;
  let atMs = work.nowMs + (first === undefined ? 0 : rttToCoordinator(scenario, first.stage.node.draw) / 2);
  for (const [at, hop] of path.entries()) {
    const { node, spec, sequences } = hop.stage;
    const isKept = work.keptStages.has(hop.stage);
    const tokens = isKept ? 1 : work.tokens;
    const aloneMs = prefillMs(node.draw.gpu, spec, { layers: hopLayers(hop), tokens });
    const ms = aloneMs * (sequences.size > 1 ? 1 + INTERLEAVE_SHARE : 1);
    const startMs = Math.max(atMs, node.prefillFreeAtMs);
    node.prefillFreeAtMs = startMs + ms;
    atMs = startMs + ms;
    work.holdUp(node, aloneMs * INTERLEAVE_SHARE);
    const next = path[at + 1];
    if (next === undefined) atMs += rttToCoordinator(scenario, node.draw) / 2;
    else atMs += hopTransferMs(scenario, { from: node, to: next.stage.node, bytes: tokens * spec.activationBytes });
  }
  return atMs;
}

/** Output tokens that are there by now. */
export function generatedBy(running: Running, nowMs: number): number {
  if (running.state !== "decoding") return running.generated;
  const made = Math.floor(Math.max(0, nowMs - running.progressAtMs) / running.tokenMs);
  return Math.min(running.draw.outputTokens, running.generated + made);
}
