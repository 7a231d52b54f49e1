/**
 * Stages that move while their chain serves: because their node leaves, became slow, or another one would do it clearly better. The successor is loaded,
 * takes keys and values over while the old stage goes on, and then all are told the next epoch.
 *
 * | why                             | looked at                                        | to whom                                   |
 * | ------------------------------- | ------------------------------------------------ | ----------------------------------------- |
 * | its node leaves, says it is slow | at each event                                    | whoever can                               |
 * | it became slow (slow-stage.ts)  | at each report, `SLOW_REST_MS` after the last move | the node that makes the loop a fifth shorter |
 * | another would do it better      | every `BETTER_MS`, `BETTER_REST_MS` after the last | the same                                  |
 *
 * The last two go to that node or stay where they are.
 */
import type { ReplicaId } from "../../domain/ids.ts";
import type { Log } from "../../ports/log.ts";
import type { SpareStage } from "../../scheduler/chains/chain-repair.ts";
import { afterPaceReport, type StagePace, slowStage } from "../../scheduler/chains/slow-stage.ts";
import { backoffCeilingMs } from "../../scheduler/retries/backoff.ts";
import type { ReplicaBook } from "../dispatch/replica-book.ts";
import type { Roster } from "../roster.ts";
import { betterMove, setOut, stageSeconds } from "./better-move.ts";
import { type Chain, describePlace, fillPlace, noteTrouble, type Place, tailOf } from "./chain.ts";
import { type ChainSetPorts, moveSets } from "./chain-set.ts";
import type { StageGrid } from "./repair-question.ts";

export interface ChainMovesPorts extends ChainSetPorts {
  readonly log: Log;
  readonly roster: Roster;
  readonly book: ReplicaBook;
  /** Of this moment. */
  grid(): StageGrid;
  fileBytes(chain: Chain): number | null;
  sparesFor(chain: Chain): readonly SpareStage[];
  nextEpoch(): number;
  onBreak(tail: ReplicaId, detail: string): void;
  /** All its stages are told of the epoch. */
  link(chain: Chain, at: { readonly epoch: number; readonly nowMs: number }): void;
}

/** A successor fetches keys and values for at most 30 s (agent/stages/hand-over.ts). */
const MOVE_IN_MS_MAX = 35_000;
/** A better node for a stage is looked for this often, and after one was found not for so long: each move costs a change of epoch. */
const BETTER_MS = 30_000;
const BETTER_REST_MS = 600_000;
/** The same for a stage that became slow: its chain is slow until it moved. */
const SLOW_REST_MS = 15_000;
const SLOW_LOOK_MS = 2_000;
/** A place is looked at again after 0.25, 0.5, 1 … seconds when its successor failed or nobody could be one. */
const RETRY = { baseMs: 250, capMs: 10_000 };

interface HeardPace {
  readonly pace: StagePace | null;
  /** As it was told; a stage that decodes never tells the same twice. */
  readonly singleMs: number;
}

export class ChainMoves {
  readonly #ports: ChainMovesPorts;
  readonly #counts: { moves: number };
  readonly #paces = new WeakMap<Chain, ReadonlyMap<ReplicaId, HeardPace>>();
  readonly #slowLookedMs = new WeakMap<Chain, number>();

  constructor(ports: ChainMovesPorts, counts: { moves: number }) {
    this.#ports = ports;
    this.#counts = counts;
  }

  look(chain: Chain, nowMs: number): void {
    this.#check(chain, nowMs);
    for (const place of chain.places) if (place.movingTo !== null && place.tries > 0) this.stay(place);
    const slow = this.#slowPlace(chain, nowMs);
    const isAtRest =
      chain.move === null && chain.retiring === null && chain.places.every(({ moving }) => moving === null);
    if (chain.state !== "serving" || !isAtRest) return;
    const foundAgoMs = nowMs - chain.betterFoundMs;
    if (slow !== null && foundAgoMs >= SLOW_REST_MS) this.#moveSlow(chain, slow, nowMs);
    else if (nowMs - chain.betterLookedMs >= BETTER_MS && foundAgoMs >= BETTER_REST_MS)
      this.#moveToBetter(chain, nowMs);
  }

  /** One place moves at a time, and only while the chain serves: what is taken over is then known to be whole. */
  begin(chain: Chain, place: Place, how: { readonly to: ReplicaId; readonly nowMs: number }): void {
    if (chain.state !== "serving" || chain.move !== null || chain.retiring !== null) return;
    place.successor = how.to;
    const move = { place, to: how.to, epoch: this.#ports.nextEpoch(), sinceMs: how.nowMs };
    chain.move = move;
    for (const { nodeId, message } of moveSets(chain, move, this.#ports)) this.#ports.roster.send(nodeId, message);
  }

  /** The successor has what could be had: all change. */
  finish(chain: Chain, nowMs: number): void {
    const { move } = chain;
    const tail = tailOf(chain);
    if (move === null || chain.state !== "serving") return;
    const why = `${describePlace(move.place)}: ${move.place.moving ?? "moved"}`;
    chain.move = null;
    chain.retiring = fillPlace(move.place, move.to);
    this.#counts.moves += 1;
    noteTrouble(chain, why, nowMs);
    chain.brokenAtMs = nowMs;
    this.#ports.link(chain, { epoch: move.epoch, nowMs });
    if (tail !== null) this.#ports.onBreak(tail, why);
  }

  /** It does not move after all. */
  stay(place: Place): void {
    place.moving = null;
    place.movingTo = null;
    place.tries = 0;
    if (place.successor !== null) this.#ports.book.seat(place.successor, null);
    place.successor = null;
  }

  // ---------------------------------------------------------------- within

  /** A move that comes to no end is let go, and begun anew later. */
  #check(chain: Chain, nowMs: number): void {
    const { move } = chain;
    if (move === null) return;
    const isLost = move.place.successor !== move.to || move.place.moving === null;
    const isLate = nowMs - move.sinceMs >= MOVE_IN_MS_MAX;
    if (!isLost && !isLate) return;
    chain.move = null;
    if (!isLate || isLost) return;
    this.#ports.book.seat(move.to, null);
    move.place.successor = null;
    retryLater(move.place, nowMs);
  }

  /** Takes the newest reports in. */
  #slowPlace(chain: Chain, nowMs: number): number | null {
    const before = this.#paces.get(chain);
    const grid = this.#ports.grid();
    const now = new Map<ReplicaId, HeardPace>();
    const paces = chain.places.map((place) => {
      const { holder, report } = place;
      const heard = holder === null ? undefined : before?.get(holder);
      if (holder === null || report === null || report.singleMs === null) return null;
      const seconds = report.singleMs === heard?.singleMs ? null : stageSeconds(place, grid);
      const pace = seconds === null ? (heard?.pace ?? null) : afterPaceReport(heard?.pace ?? null, { seconds, nowMs });
      now.set(holder, { pace, singleMs: report.singleMs });
      return pace;
    });
    this.#paces.set(chain, now);
    return slowStage(paces, nowMs);
  }

  #moveSlow(chain: Chain, at: number, nowMs: number): void {
    if (nowMs - (this.#slowLookedMs.get(chain) ?? Number.NEGATIVE_INFINITY) < SLOW_LOOK_MS) return;
    this.#slowLookedMs.set(chain, nowMs);
    this.#setOut(chain, { only: at, nowMs });
  }

  #moveToBetter(chain: Chain, nowMs: number): void {
    chain.betterLookedMs = nowMs;
    this.#setOut(chain, { only: null, nowMs });
  }

  #setOut(chain: Chain, { only, nowMs }: { readonly only: number | null; readonly nowMs: number }): void {
    const fileBytes = this.#ports.fileBytes(chain);
    if (fileBytes === null) return;
    const question = { grid: this.#ports.grid(), spares: this.#ports.sparesFor(chain), fileBytes, only };
    const better = betterMove(chain, question);
    const holder = better === null ? null : (chain.places[better.at]?.holder ?? null);
    const from = holder === null ? null : this.#ports.stageNode(holder);
    if (better === null || from === null) return;
    setOut(chain, better, { from, nowMs });
    const { chainId, modelId } = chain;
    this.#ports.log.info({ chainId, modelId, from, isSlow: only !== null, ...better }, "stage moves");
  }
}

export function retryLater(place: Place, nowMs: number): void {
  place.notBeforeMs = nowMs + backoffCeilingMs(place.tries, RETRY);
  place.tries += 1;
}
