/**
 * Whether a node has the room for a stage, and how near it is to the stages beside it: the same answers for a stage that was lost, one that moves and
 * a spare.
 */
import type { LoserReason } from "../placement/snapshot.ts";
import type { LostStage, StageCandidate } from "./chain-repair.ts";

/** A round trip that nobody measured, as for the matcher: neither near nor far. */
const UNKNOWN_RTT_MS = 50;
/** Round trips that differ by less are equally near: a measurement's noise must not outweigh how long a node stays. */
const RTT_STEP_MS = 5;

/** Why the node cannot take the stage; null when it can. */
export function roomObstacle(
  candidate: Pick<StageCandidate, "obstacle" | "freeBytes">,
  memoryBytes: number,
): LoserReason | null {
  return candidate.obstacle ?? (candidate.freeBytes >= memoryBytes ? null : "memory-too-small");
}

/** Bytes that have to come over the network before it can serve. */
export function bytesToFetch(storedBytes: number, weightsBytes: number): number {
  return Math.max(0, weightsBytes - storedBytes);
}

/** Nearer first, then the one that likelier stays, the faster line, the smaller id. */
export function byNearness(
  lost: Pick<LostStage, "previous" | "next">,
): (a: StageCandidate | Unmeasured, b: StageCandidate | Unmeasured) => number {
  const rttMs = (of: StageCandidate | Unmeasured) =>
    (lost.previous === null ? 0 : (of.previousRttMs ?? UNKNOWN_RTT_MS)) +
    (lost.next === null ? 0 : (of.nextRttMs ?? UNKNOWN_RTT_MS));
  const step = (of: StageCandidate | Unmeasured) => Math.floor(rttMs(of) / RTT_STEP_MS);
  return (a, b) =>
    step(a) - step(b) ||
    b.stayChance - a.stayChance ||
    (b.bytesPerSecond ?? 0) - (a.bytesPerSecond ?? 0) ||
    rttMs(a) - rttMs(b) ||
    (a.nodeId < b.nodeId ? -1 : a.nodeId > b.nodeId ? 1 : 0);
}

/** A node of which nothing is known but its name. */
export type Unmeasured = Pick<
  StageCandidate,
  "nodeId" | "stayChance" | "previousRttMs" | "nextRttMs" | "bytesPerSecond"
>;
