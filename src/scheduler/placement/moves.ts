/**
 * Moves: a replica that would be worth more elsewhere. The new one is loaded first, the old one becomes surplus and goes when it
 * has been idle, so a move costs bytes and some double memory, and nobody waits for it.
 *
 * Hysteresis: a move is made only when what it gains in an hour beats the bytes that it moves and 5 % of what the replica is worth
 * where it is, or half of it when it would leave a node that was seen at work for one that was not: models of speed are off, and a
 * grid whose model promises too much would carry every replica once around all its nodes. One move of a model at a time, and none while the model has a replica to spare or one that is loading: so a plan
 * that was just carried out is never undone by the next one for the same facts.
 */
import { UNKNOWN } from "./grid-columns.ts";
import { READER_TOK_PER_SECOND } from "./objective.ts";
import type { ModelState, PlacementState, ReplicaState } from "./placement-state.ts";
import { tokenTime } from "./speed-model.ts";
import { bestSpot, type Spot, standingCost, type Want } from "./spots.ts";

/** Share of a replica's worth that a move has to gain (scheduling.md section 7.1). */
export const HYSTERESIS = 0.05;
/** The same, when what is left was observed and what it is left for is a model's figure. */
export const HYSTERESIS_UNSEEN = 0.5;
/** Weights fill links: few at a time. */
export const MOVES_PER_PLAN_MAX = 4;

export interface Move {
  readonly state: ModelState;
  readonly spot: Spot;
  /** Beyond what the move costs. */
  readonly gainMicroUsdPerHour: number;
}

export interface Moves {
  readonly worthIt: readonly Move[];
  /** Gains that hysteresis held back, in sum. */
  readonly gainLeftMicroUsdPerHour: number;
}

export function findMoves(grid: PlacementState, loadsMax: number): Moves {
  const found = grid.models.flatMap((state) => moveOf(grid, state) ?? []);
  found.sort((a, b) => b.move.gainMicroUsdPerHour - a.move.gainMicroUsdPerHour);
  const beating = found.filter(({ isBeating }) => isBeating);
  const worthIt: Move[] = [];
  const usedNodes = new Set<number>();
  for (const { move } of beating) {
    // Two moves to one node would each count on the same free memory.
    if (usedNodes.has(move.spot.node) || worthIt.length >= Math.min(loadsMax, MOVES_PER_PLAN_MAX)) continue;
    usedNodes.add(move.spot.node);
    worthIt.push(move);
  }
  const left = found.filter(({ isBeating, move }) => !isBeating && move.gainMicroUsdPerHour > 0);
  return { worthIt, gainLeftMicroUsdPerHour: left.reduce((sum, { move }) => sum + move.gainMicroUsdPerHour, 0) };
}

const ELSEWHERE: Want = { isForced: true, isForAnybody: false, contextTokensNeeded: 0, isThrifty: false };

function moveOf(grid: PlacementState, state: ModelState): { move: Move; isBeating: boolean } | null {
  const { replicas, model } = state;
  const isSettled = replicas.length > 0 && replicas.every(({ isReady, row }) => isReady && row !== UNKNOWN);
  const hasSpare = replicas.length > model.warmReplicas && replicas.some(({ served }) => served === 0);
  if (!isSettled || hasSpare || grid.question.waiting.has(model.modelId)) return null;
  const worst = replicas.map((replica) => ({ replica, worth: standing(grid, state, replica, 0) })).sort(byWorth)[0];
  const contextTokensNeeded = worst?.replica.size.contextTokens ?? 0;
  const spot = worst === undefined ? null : bestSpot(grid, state, { ...ELSEWHERE, contextTokensNeeded });
  if (worst === undefined || spot === null) return null;
  const there = standing(grid, state, { ...spot, served: worst.replica.served }, spot.movedBytes);
  const gainMicroUsdPerHour = there - worst.worth;
  const isLeap = isObserved(grid, worst.replica) && !isObserved(grid, spot);
  const isBeating = gainMicroUsdPerHour > (isLeap ? HYSTERESIS_UNSEEN : HYSTERESIS) * Math.abs(worst.worth);
  return { move: { state, spot, gainMicroUsdPerHour }, isBeating };
}

/** What a replica that serves so much is worth on its node in an hour, less what it costs. */
function standing(
  grid: PlacementState,
  state: ModelState,
  replica: Pick<ReplicaState, "node" | "variant" | "tokPerSecond" | "worth" | "served" | "chain">,
  movedBytes: number,
): number {
  const { question } = grid;
  const asked = state.classes.reduce((sum, { demand }) => sum + demand.tokPerSecond, 0);
  const classValue = asked > 0 ? state.demandValue / asked : state.value;
  const served = Math.min(replica.tokPerSecond, Math.max(replica.served, READER_TOK_PER_SECOND));
  const stayChance = grid.stayChance(replica);
  const lost = question.weights.lossFactor * (1 - stayChance);
  const { node, variant, chain } = replica;
  return served * classValue * (replica.worth - lost) - standingCost(grid, state, { node, variant, movedBytes, chain });
}

function isObserved(grid: PlacementState, on: Pick<ReplicaState, "node" | "device" | "variant" | "chain">): boolean {
  if (on.chain !== undefined) return on.chain.isMeasured;
  return tokenTime(grid.speedOn(on)).source === "observed";
}

function byWorth(a: { replica: ReplicaState; worth: number }, b: { replica: ReplicaState; worth: number }): number {
  return a.worth - b.worth || a.replica.row - b.replica.row;
}
