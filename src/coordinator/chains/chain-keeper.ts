/**
 * Keeps one chain alive: compares each place with what its stage and node are at this moment, empties and fills places, links when all are ready
 * (chain.ts has the tables). Called after every event and every `LOOK_MS` while something is unsettled; a call that finds nothing to do does nothing.
 */
import type { ReplicaId } from "../../domain/ids.ts";
import type { Log } from "../../ports/log.ts";
import type { ChainRepair, SpareStage } from "../../scheduler/chains/chain-repair.ts";
import { repairChain } from "../../scheduler/chains/repair-chain.ts";
import { describeLosers } from "../../scheduler/placement/snapshot.ts";
import { backoffCeilingMs } from "../../scheduler/retries/backoff.ts";
import type { ReplicaBook } from "../dispatch/replica-book.ts";
import type { StageNow } from "../dispatch/replica-stage.ts";
import type { Roster } from "../roster.ts";
import {
  type Chain,
  describePlace,
  describeTrouble,
  emptyPlace,
  fillPlace,
  noteTrouble,
  type Place,
  restingState,
  stageLoad,
  tailOf,
} from "./chain.ts";
import type { ChainBlame } from "./chain-blame.ts";
import { ChainMoves, retryLater } from "./chain-moves.ts";
import { type ChainSetPorts, chainSets, timesSet } from "./chain-set.ts";
import { newTimes } from "./chain-times.ts";
import { isSpareOf, onlyOn, repairQuestion, type StageGrid } from "./repair-question.ts";

export interface ChainKeeperPorts extends ChainSetPorts {
  readonly log: Log;
  readonly roster: Roster;
  readonly book: ReplicaBook;
  readonly blame: ChainBlame;
  /** Of this moment. */
  grid(): StageGrid;
  fileBytes(chain: Chain): number | null;
  /** Loaded stages without a chain that fit this one. */
  sparesFor(chain: Chain): readonly SpareStage[];
  /** Such stages that are still loading: spares, and those whose engine starts again. */
  comingFor(chain: Chain): readonly SpareStage[];
  nextEpoch(): number;
  /** Attempts on the chain that `tail` stood for are over. */
  onBreak(tail: ReplicaId, detail: string): void;
  onServing(chain: Chain): void;
  dissolve(chain: Chain, why: string): void;
}

export interface KeptCounts {
  repairs: number;
  repairsBySpare: number;
  moves: number;
}

/** An engine that died starts again on its node in a second or two, and finds its weights there. */
const RESTART_WAIT_MS = 5_000;
/** Stages that are ready link up within some round trips; a dial that has to punch through NATs takes seconds. */
const LINK_MS_MAX = 10_000;
/** Nobody can take an empty place for so long: the chain's memory is given back, and another plan may find a way. Nodes restart in less. */
export const ANEW_WAIT_MS = 10_000;
const TRIES_MAX = 24;
/** It is looked again so often at least while nobody could take it; `ANEW_WAIT_MS` are fewer looks than `TRIES_MAX`. */
const NOBODY_MS_MAX = 500;
/** Chains that break again and again wait before they link: 0.5, 1, 2 … seconds after the third break. */
const RELINK = { baseMs: 500, capMs: 15_000 };
const BREAKS_FREE = 4;
const BREAKS_MAX = 16;
/** A chain that served for so long starts counting anew. */
const STEADY_MS = 3_000;

export class ChainKeeper {
  readonly #ports: ChainKeeperPorts;
  readonly counts: KeptCounts = { repairs: 0, repairsBySpare: 0, moves: 0 };

  readonly #moves: ChainMoves;

  constructor(ports: ChainKeeperPorts) {
    this.#ports = ports;
    this.#moves = new ChainMoves({ ...ports, link: (chain, at) => this.#link(chain, at) }, this.counts);
  }

  look(chain: Chain, nowMs: number): void {
    for (const place of chain.places) this.#checkHolder(chain, place, nowMs);
    for (const place of chain.places) this.#checkSuccessor(chain, place, nowMs);
    this.#moves.look(chain, nowMs);
    for (const place of chain.places) this.#fill(chain, place, nowMs);
    this.#advance(chain, nowMs);
    this.seat(chain);
    // In a move the next epoch was told of already: nothing more is said in this one.
    const told = chain.move === null ? timesSet(chain, newTimes(chain, nowMs), this.#ports) : null;
    if (told !== null) this.#ports.roster.send(told.nodeId, told.message);
  }

  /** The place's stage is not to be used any more; where it is still loaded it is a spare. */
  lose(chain: Chain, place: Place, lost: { readonly why: string; readonly nowMs: number }): void {
    this.#break(chain, `${describePlace(place)}: ${lost.why}`, lost.nowMs);
    const held = emptyPlace(place, lost.nowMs);
    if (held !== null) this.#ports.book.seat(held, null);
  }

  /** The stages stay, and begin a new epoch. */
  again(chain: Chain, { why, nowMs }: { readonly why: string; readonly nowMs: number }): void {
    this.#break(chain, why, nowMs);
  }

  /** All seats as they are now: what dispatch and the planner see of the chain. */
  seat(chain: Chain): void {
    const { book } = this.#ports;
    const { chainId, places } = chain;
    const loaded = places.flatMap(({ holder }) => (holder === null ? [] : (book.stage(holder)?.report ?? [])));
    const ready = loaded.filter(({ state }) => state === "ready");
    const slots = Math.min(chain.sequencesMax, ...ready.map((report) => report.slots));
    const contextTokens = Math.min(chain.contextTokens, ...ready.map((report) => report.contextTokens));
    const isServing = chain.state === "serving";
    const loopMs = places[0]?.report?.loopMs ?? null;
    const seat = { chainId, slots, contextTokens, loopMs, isServing };
    if (chain.retiring !== null) book.seat(chain.retiring, { ...seat, isServing: false, isLast: false });
    for (const [at, { holder, successor }] of places.entries()) {
      const isEnd = at === places.length - 1;
      if (holder !== null) book.seat(holder, { ...seat, isLast: isEnd });
      if (successor !== null) book.seat(successor, { ...seat, isServing: false, isLast: isEnd && holder === null });
    }
  }

  // -------------------------------------------------------------- places

  #checkHolder(chain: Chain, place: Place, nowMs: number): void {
    const { book, roster } = this.#ports;
    if (place.holder === null) return;
    const stage = book.stage(place.holder);
    const why = this.#lossOf(stage, place.holder);
    if (why !== null || stage === null) {
      this.lose(chain, place, { why: why ?? "the stage is gone", nowMs });
      return;
    }
    const isLeaving = roster.node(stage.nodeId)?.state === "draining";
    if (isLeaving) place.moving ??= LEAVING;
    else if (place.moving === LEAVING) this.#moves.stay(place);
    if (stage.isReady) {
      place.unreadySinceMs = null;
    } else if (chain.state === "serving" || chain.state === "linking") {
      place.unreadySinceMs = nowMs;
      this.#break(chain, `${describePlace(place)}: the stage on ${stage.nodeId} starts again`, nowMs);
    } else if (place.unreadySinceMs !== null && nowMs - place.unreadySinceMs > RESTART_WAIT_MS) {
      this.lose(chain, place, { why: `the stage on ${stage.nodeId} did not come back`, nowMs });
    }
  }

  /** Null while it may serve. */
  #lossOf(stage: StageNow | null, replicaId: ReplicaId): string | null {
    if (stage === null) return this.#ports.book.failureOf(replicaId) ?? "the stage is gone";
    const { nodeId } = stage;
    if (stage.isUnloading) return `${nodeId} unloads the stage`;
    const view = this.#ports.roster.node(nodeId);
    if (view === null || view.state === "offline") return `${nodeId} is gone`;
    if (view.state === "suspect") return `${nodeId} is silent`;
    return view.isYielding ? `the owner of ${nodeId} is back` : null;
  }

  #checkSuccessor(chain: Chain, place: Place, nowMs: number): void {
    const { successor, holder } = place;
    if (successor === null) return;
    const stage = this.#ports.book.stage(successor);
    const why = this.#lossOf(stage, successor);
    if (why !== null || stage === null) {
      place.successor = null;
      this.#ports.book.seat(successor, null);
      retryLater(place, nowMs);
      noteTrouble(chain, `${describePlace(place)}: ${why ?? "its successor is gone"}`, nowMs);
    } else if (stage.isReady) {
      if (holder === null) this.#repaired(chain, place, successor);
      else this.#moves.begin(chain, place, { to: successor, nowMs });
    }
  }

  #fill(chain: Chain, place: Place, nowMs: number): void {
    const isRestarting = place.holder !== null && place.unreadySinceMs !== null;
    if (place.holder !== null && place.moving === null && !isRestarting) return;
    const spares = this.#ports.sparesFor(chain);
    const isOfPlace = ({ first, count }: SpareStage) => first === place.first && count === place.count;
    // What loads already, or starts again where the weights are, is mostly there first.
    const isAwaited = place.lostAtMs !== null && nowMs - place.lostAtMs < RESTART_WAIT_MS;
    const isComing = isAwaited && this.#ports.comingFor(chain).some(isOfPlace);
    const mayLoad = place.successor === null && !isRestarting && !isComing && nowMs >= place.notBeforeMs;
    if (!mayLoad && !spares.some(isOfPlace)) return;
    const fileBytes = this.#ports.fileBytes(chain);
    if (fileBytes === null) return;
    const question = repairQuestion(chain, place, { grid: this.#ports.grid(), spares, fileBytes });
    const repair = repairChain(place.movingTo === null || isRestarting ? question : onlyOn(question, place.movingTo));
    if (repair.kind === "spare") this.#takeSpare(chain, place, { spare: repair.spare, nowMs });
    else if (mayLoad) this.#load(chain, place, { repair, nowMs });
  }

  #takeSpare(chain: Chain, place: Place, taken: { readonly spare: SpareStage; readonly nowMs: number }): void {
    const { book } = this.#ports;
    const { replicaId } = taken.spare;
    if (place.holder !== null && place.unreadySinceMs === null) {
      if (place.successor === null) this.#moves.begin(chain, place, { to: replicaId, nowMs: taken.nowMs });
      return;
    }
    // What was being loaded may end as a spare of the next stage that is lost.
    if (place.successor !== null) book.seat(place.successor, null);
    if (place.holder !== null) book.seat(place.holder, null);
    this.counts.repairsBySpare += 1;
    this.#repaired(chain, place, replicaId);
  }

  #repaired(chain: Chain, place: Place, replicaId: ReplicaId): void {
    fillPlace(place, replicaId);
    chain.repairs += 1;
    this.counts.repairs += 1;
    const { chainId, modelId } = chain;
    const nodeId = this.#ports.stageNode(replicaId);
    this.#ports.log.info({ chainId, modelId, nodeId, replicaId, place: describePlace(place) }, "stage replaced");
  }

  #load(chain: Chain, place: Place, with_: { readonly repair: ChainRepair; readonly nowMs: number }): void {
    const { repair, nowMs } = with_;
    if (repair.kind === "plan-anew") {
      const why = describeLosers(new Map(repair.losers));
      place.lacks = why;
      noteTrouble(chain, `${describePlace(place)}: no node can take the place (${why})`, nowMs);
    } else if (repair.kind === "load") {
      const { nodeId, deviceId, why } = repair;
      for (const spare of this.#ports.book.onNode(nodeId).filter((replica) => isSpareOf(replica, chain.modelId))) {
        this.#ports.book.unload(nodeId, spare.replicaId, "its node is needed for a stage that was lost");
      }
      place.successor = this.#ports.book.loadStage(stageLoad(chain, place, { nodeId, deviceId, why }));
    }
    if (place.successor !== null) return;
    retryLater(place, nowMs);
    // Somebody may come back at any moment, and to look again costs nobody anything.
    if (repair.kind === "plan-anew") place.notBeforeMs = Math.min(place.notBeforeMs, nowMs + NOBODY_MS_MAX);
  }

  /** The successor has what could be had: all change. */
  finishMove(chain: Chain, nowMs: number): void {
    this.#moves.finish(chain, nowMs);
  }

  // -------------------------------------------------------------- states

  #break(chain: Chain, why: string, nowMs: number): void {
    const { state } = chain;
    noteTrouble(chain, why, nowMs);
    const tail = tailOf(chain);
    if (state !== "serving" && state !== "linking") return;
    const isSteady = state === "serving" && nowMs - chain.sinceMs >= STEADY_MS;
    chain.breaksInRow = isSteady ? 1 : chain.breaksInRow + 1;
    const waits = chain.breaksInRow - BREAKS_FREE - 1;
    chain.linkNotBeforeMs = waits < 0 ? nowMs : nowMs + backoffCeilingMs(waits, RELINK);
    chain.brokenAtMs ??= nowMs;
    chain.move = null;
    const { chainId, modelId } = chain;
    this.#ports.log.warn({ chainId, modelId, why }, "chain broken");
    this.#setState(chain, "broken", nowMs);
    this.seat(chain);
    if (tail !== null && state === "serving") this.#ports.onBreak(tail, why);
  }

  #advance(chain: Chain, nowMs: number): void {
    const { places, state } = chain;
    if (places.some(({ holder }) => holder === null)) {
      const resting = restingState(chain);
      if (resting !== state) this.#setState(chain, resting, nowMs);
      this.#giveUpPlaces(chain, nowMs);
      return;
    }
    if (state === "linking") this.#checkLinks(chain, nowMs);
    if (state === "linking" || state === "serving") return;
    if (chain.breaksInRow > BREAKS_MAX) {
      this.#ports.dissolve(
        chain,
        `it broke ${chain.breaksInRow} times in a row, the last time because of ${chain.lastTrouble}`,
      );
      return;
    }
    const isReady = places.every(({ holder }) => holder !== null && this.#ports.book.stage(holder)?.isReady === true);
    if (isReady && nowMs >= chain.linkNotBeforeMs) this.#link(chain, { epoch: this.#ports.nextEpoch(), nowMs });
  }

  #giveUpPlaces(chain: Chain, nowMs: number): void {
    const given = chain.places.find(({ holder, successor, lostAtMs, tries }) => {
      if (holder !== null || successor !== null || lostAtMs === null) return false;
      return nowMs - lostAtMs >= ANEW_WAIT_MS || tries > TRIES_MAX;
    });
    if (given !== undefined)
      this.#ports.dissolve(chain, describeTrouble(chain) ?? `${describePlace(given)} has no node`);
  }

  #link(chain: Chain, at: { readonly epoch: number; readonly nowMs: number }): void {
    chain.epoch = at.epoch;
    for (const place of chain.places) place.isLinked = false;
    this.#setState(chain, "linking", at.nowMs);
    this.seat(chain);
    for (const { nodeId, message } of chainSets(chain, this.#ports)) this.#ports.roster.send(nodeId, message);
  }

  #checkLinks(chain: Chain, nowMs: number): void {
    if (chain.places.every(({ isLinked }) => isLinked)) {
      this.#serve(chain, nowMs);
      return;
    }
    if (nowMs - chain.sinceMs < LINK_MS_MAX) return;
    chain.linksInVain += 1;
    const unlinked = chain.places.find(({ isLinked }) => !isLinked);
    if (unlinked === undefined || chain.linksInVain === 1) {
      this.#link(chain, { epoch: this.#ports.nextEpoch(), nowMs });
      return;
    }
    const nodeId = unlinked.holder === null ? null : this.#ports.stageNode(unlinked.holder);
    if (nodeId !== null) this.#ports.blame.avoid(nodeId, nowMs);
    this.lose(chain, unlinked, { why: `the stage on ${nodeId} did not link within ${LINK_MS_MAX} ms`, nowMs });
  }

  #serve(chain: Chain, nowMs: number): void {
    const { book } = this.#ports;
    if (chain.brokenAtMs !== null) chain.recoveryMs = nowMs - chain.brokenAtMs;
    chain.brokenAtMs = null;
    chain.linksInVain = 0;
    chain.hasServed = true;
    this.#setState(chain, "serving", nowMs);
    const retired = chain.retiring === null ? null : book.stage(chain.retiring);
    if (retired !== null) {
      book.seat(retired.replicaId, null);
      book.unload(retired.nodeId, retired.replicaId, "another stage took over");
    }
    chain.retiring = null;
    this.seat(chain);
    const { chainId, modelId, epoch, recoveryMs } = chain;
    this.#ports.log.info({ chainId, modelId, epoch, recoveryMs, stages: chain.places.length }, "chain serves");
    this.#ports.onServing(chain);
  }

  #setState(chain: Chain, state: Chain["state"], nowMs: number): void {
    chain.state = state;
    chain.sinceMs = nowMs;
  }
}

const LEAVING = "its node leaves";
