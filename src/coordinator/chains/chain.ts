/**
 * One chain as the coordinator keeps it: its places in the order of the layers, who holds each, and who is being loaded to take it. Its states are those
 * of `domain/chain.ts`; what moves it on is looked at again after every event (chain-desk.ts), so that no event can be missed and none counts twice.
 *
 * | a place has                           | then                                                                                      |
 * | ------------------------------------- | ----------------------------------------------------------------------------------------- |
 * | a ready holder                        | nothing                                                                                   |
 * | a holder that loads                   | waits: a chain that served is broken, and takes a spare or, after a while, another node      |
 * | a holder that is gone, silent, blamed | it is empty; a stage that is still loaded becomes a spare                                   |
 * | no holder                             | a spare takes it, or a successor is loaded, or after `ANEW_WAIT_MS` the chain is dissolved    |
 * | a holder that leaves, or is slow      | the chain serves on; a successor is loaded, takes keys and values over, then all change      |
 * | a holder that another node would outdo | the same, to that node only: if it cannot, all stays as it is                                |
 */
import type { ChainState, WireFormat } from "../../domain/chain.ts";
import type { ModelId, NodeId, ReplicaId, Sha256Hex } from "../../domain/ids.ts";
import type { ChainStateReport, StageOrder } from "../../wire/chain-link.ts";
import type { StageLoad } from "../dispatch/replica-stage.ts";
import type { ChainTimes } from "./chain-times.ts";

export interface Place {
  readonly first: number;
  readonly count: number;
  /** Of weights, KV cache and computing. */
  readonly memoryBytes: number;
  holder: ReplicaId | null;
  successor: ReplicaId | null;
  isLinked: boolean;
  /** Newest word of the holder. */
  report: ChainStateReport | null;
  /** Why its holder is to be replaced while it serves. */
  moving: string | null;
  /** The node that would do it better; null: whichever can. */
  movingTo: NodeId | null;
  /** Successors that were ordered or looked for in vain, since it was lost. */
  tries: number;
  /** No successor is looked for before. */
  notBeforeMs: number;
  /** Since when a holder that was ready is not; null while it is, and while it loads for the first time. */
  unreadySinceMs: number | null;
  /** Since when it has no holder; null while it has. */
  lostAtMs: number | null;
  /** Why the last look found nobody for it; null while it has a holder, or nobody looked. */
  lacks: string | null;
}

export interface ChainShape {
  readonly modelId: ModelId;
  readonly weightsSha256: Sha256Hex;
  readonly layerCount: number;
  readonly wire: WireFormat;
  readonly contextTokens: number;
  readonly sequencesMax: number;
  readonly draft: StageOrder["draft"];
}

/** A planned move under way: the chain serves on in its epoch until the successor has taken over. */
export interface ChainMove {
  readonly place: Place;
  readonly to: ReplicaId;
  /** The chain's, once all are told. */
  readonly epoch: number;
  readonly sinceMs: number;
}

export interface Chain extends ChainShape {
  readonly chainId: string;
  readonly places: readonly Place[];
  state: ChainState;
  epoch: number;
  /** Of the state. */
  sinceMs: number;
  /** When it broke; null while it serves, and before it did for the first time. */
  brokenAtMs: number | null;
  /** Breaks since it last served for a while. */
  breaksInRow: number;
  /** Not linked before: breaks that follow each other wait longer and longer. */
  linkNotBeforeMs: number;
  /** Links in a row that did not come about. */
  linksInVain: number;
  hasServed: boolean;
  repairs: number;
  recoveryMs: number | null;
  /** What took it from service, or keeps it from it: the first thing since it last served, whatever came of that. */
  trouble: { readonly why: string; readonly atMs: number } | null;
  /** The newest of all. */
  lastTrouble: string | null;
  move: ChainMove | null;
  /** A stage that another took over from: it goes when the chain serves. */
  retiring: ReplicaId | null;
  /** What the first stage was told of the others' times. */
  told: { readonly epoch: number; readonly times: ChainTimes; readonly atMs: number } | null;
  /** When a better node was looked for, and when one was found. */
  betterLookedMs: number;
  betterFoundMs: number;
  /** Nodes that a stage left for a better one. */
  readonly leftAtMs: Map<NodeId, number>;
}

export interface StageSpot {
  readonly first: number;
  readonly count: number;
  readonly memoryBytes: number;
  /** Null: nobody yet. */
  readonly holder: ReplicaId | null;
}

export function newChain(
  chainId: string,
  shape: ChainShape,
  from: { readonly spots: readonly StageSpot[]; readonly nowMs: number },
): Chain {
  return {
    ...shape,
    chainId,
    places: from.spots.map((spot) => ({
      ...spot,
      successor: null,
      isLinked: false,
      report: null,
      moving: null,
      movingTo: null,
      tries: 0,
      notBeforeMs: 0,
      unreadySinceMs: null,
      lostAtMs: spot.holder === null ? from.nowMs : null,
      lacks: null,
    })),
    state: "loading",
    epoch: 0,
    sinceMs: from.nowMs,
    brokenAtMs: null,
    breaksInRow: 0,
    linkNotBeforeMs: 0,
    linksInVain: 0,
    hasServed: false,
    repairs: 0,
    recoveryMs: null,
    trouble: null,
    lastTrouble: null,
    move: null,
    retiring: null,
    told: null,
    betterLookedMs: from.nowMs,
    betterFoundMs: Number.NEGATIVE_INFINITY,
    leftAtMs: new Map(),
  };
}

/** Of the last place: what stands for the chain. Null while it is lost. */
export function tailOf({ places }: Chain): ReplicaId | null {
  return places.at(-1)?.holder ?? null;
}

export function hasMember({ places, retiring }: Chain, replicaId: ReplicaId): boolean {
  return (
    places.some(({ holder, successor }) => holder === replicaId || successor === replicaId) || retiring === replicaId
  );
}

/** `loading`: nothing it lacks is without somebody who will take it; `broken`: it served, and lacks a stage. */
export function restingState(chain: Chain): "loading" | "broken" {
  const isFilling = chain.places.every(({ holder, successor }) => holder !== null || successor !== null);
  return isFilling || !chain.hasServed ? "loading" : "broken";
}

/** Answers with who held it. */
export function emptyPlace(place: Place, nowMs: number): ReplicaId | null {
  const { holder } = place;
  place.holder = null;
  place.isLinked = false;
  place.report = null;
  place.moving = null;
  place.movingTo = null;
  place.unreadySinceMs = null;
  place.tries = 0;
  place.notBeforeMs = 0;
  place.lostAtMs = nowMs;
  return holder;
}

/** Answers with who held it before. */
export function fillPlace(place: Place, holder: ReplicaId): ReplicaId | null {
  const before = emptyPlace(place, 0);
  place.holder = holder;
  place.successor = null;
  place.lostAtMs = null;
  place.lacks = null;
  return before;
}

/** The first cause, and what came of it last where that is something else. */
export function describeTrouble({ trouble, lastTrouble }: Chain): string | null {
  if (trouble === null) return null;
  return lastTrouble === null || lastTrouble === trouble.why ? trouble.why : `${trouble.why}; then ${lastTrouble}`;
}

/** What follows a break is not its cause. */
export function noteTrouble(chain: Chain, why: string, nowMs: number): void {
  if (chain.trouble === null || chain.state === "serving") chain.trouble = { why, atMs: nowMs };
  chain.lastTrouble = why;
}

/** For people. */
export function describePlace({ first, count }: Pick<Place, "first" | "count">): string {
  return count === 1 ? `layer ${first}` : `layers ${first} to ${first + count - 1}`;
}

/** The order to load one of its stages. */
export function stageLoad(
  shape: ChainShape,
  spot: Pick<Place, "first" | "count" | "memoryBytes">,
  on: Pick<StageLoad, "nodeId" | "deviceId" | "why">,
): StageLoad {
  const { modelId, weightsSha256, layerCount, wire, contextTokens, sequencesMax, draft } = shape;
  const { first, count, memoryBytes } = spot;
  const drafts = first === 0 && draft !== undefined ? { draft } : {};
  const stage = { first, count, layerCount, wire, ...drafts };
  return { ...on, modelId, weightsSha256, stage, memoryBytes, contextTokens, sequencesMax };
}

/** One of those that work on an attempt. */
export interface CrewStage {
  readonly replicaId: ReplicaId;
  readonly nodeId: NodeId;
  readonly layers: number;
}
