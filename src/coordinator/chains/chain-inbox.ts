/** What stages say of their chains (the table is in chain-desk.ts), judged word by word: a node is believed of its own stages only. */

import type { NodeId } from "../../domain/ids.ts";
import { replicaId } from "../../domain/ids.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Log } from "../../ports/log.ts";
import type { StalledStage } from "../../scheduler/chains/chain-stall.ts";
import type { ChainStateReport, ChainTrouble } from "../../wire/chain-link.ts";
import type { ReplicaBook } from "../dispatch/replica-book.ts";
import type { StageNow } from "../dispatch/replica-stage.ts";
import type { ChainMessage, Roster } from "../roster.ts";
import type { Chain, Place } from "./chain.ts";
import { BLAME_WINDOW_MS, type ChainBlame } from "./chain-blame.ts";
import type { ChainKeeper } from "./chain-keeper.ts";

export interface ChainInboxPorts {
  readonly clock: Clock;
  readonly log: Log;
  readonly roster: Roster;
  readonly book: ReplicaBook;
  readonly blame: ChainBlame;
  readonly keeper: ChainKeeper;
  chain(chainId: string): Chain | null;
  /** Something changed. */
  look(): void;
}

/** A node whose stage gives, or tells, what its model does not give. */
export interface StageFinding {
  readonly nodeId: NodeId;
  readonly why: string;
  /** Else it is one word against another. */
  readonly isSure: boolean;
}

/** What a stage says of itself when it cannot go on from what it holds: all is sent to it again, and nobody is to blame (agent/stages/stage-failures.ts). */
const BEGINS_ANEW = "position-wrong";

export class ChainInbox {
  readonly #ports: ChainInboxPorts;
  /** Of a newest epoch, since the start. */
  troubles = 0;
  /** Stages that gave what no model, or not this one, gives. */
  garbage = 0;

  /** The last word of one node against another. */
  #judged: {
    readonly chain: Chain;
    readonly trouble: ChainTrouble;
    readonly reporterNode: NodeId;
    readonly isReporter: boolean;
  } | null = null;

  constructor(ports: ChainInboxPorts) {
    this.#ports = ports;
  }

  take(nodeId: NodeId, message: ChainMessage): void {
    const stage = this.#stage(message.replicaId);
    if (stage !== null && stage.nodeId !== nodeId) {
      const detail = `${message.type} of ${message.replicaId}, which runs on ${stage.nodeId}`;
      this.#ports.roster.reportBreach(nodeId, { code: "foreign-stage", detail });
      return;
    }
    if (message.type === "chain.fingerprint" || message.type === "chain.progress") return; // for chain-probes.ts, chain-stalls.ts
    // A stage that was just unloaded, or a chain that is no more, still speaks for a moment.
    const chain = this.#ports.chain(message.chainId);
    if (chain !== null && message.type === "chain.state" && chain.move?.to === message.replicaId) {
      this.#takeMove(chain, message);
      return;
    }
    const place = chain?.places.find(({ holder }) => holder === message.replicaId);
    if (chain === null || place === undefined) return;
    if (message.type === "chain.state") this.#takeState(chain, place, message);
    else this.#takeTrouble(chain, place, message);
  }

  /** Of the stage that takes another's place. */
  #takeMove(chain: Chain, report: ChainStateReport): void {
    if (report.chainEpoch !== chain.move?.epoch || report.hasTakenOver !== true) return;
    this.#ports.keeper.finishMove(chain, this.#ports.clock.monoMs());
    const place = chain.places.find(({ holder }) => holder === report.replicaId);
    if (place !== undefined) this.#takeState(chain, place, report);
  }

  #takeState(chain: Chain, place: Place, report: ChainStateReport): void {
    place.report = report;
    if (report.chainEpoch !== chain.epoch) return;
    place.isLinked = report.isLinked;
    this.#ports.look();
  }

  #takeTrouble(chain: Chain, place: Place, trouble: ChainTrouble): void {
    const { log, roster, clock } = this.#ports;
    if (trouble.chainEpoch !== chain.epoch || (chain.state !== "serving" && chain.state !== "linking")) {
      this.#takeLate(chain, place, trouble);
      return;
    }
    const { chainId, modelId } = chain;
    const { kind, code, message } = trouble;
    const accused = chain.places.find(({ holder }) => holder === trouble.accused);
    const [reporterNode, accusedNode] = [this.#stage(place.holder)?.nodeId, this.#stage(trouble.accused)?.nodeId];
    if (accused === undefined || reporterNode === undefined || accusedNode === undefined) {
      const detail = `${kind} of ${trouble.accused}, which is no stage of ${chainId}`;
      if (reporterNode !== undefined) roster.reportBreach(reporterNode, { code: "foreign-stage", detail });
      return;
    }
    if (!mayAccuse(chain, { place, accused, kind })) {
      const detail = `${kind} of ${accusedNode}, of which its stage cannot know`;
      roster.reportBreach(reporterNode, { code: "foreign-stage", detail });
      return;
    }
    this.troubles += 1;
    if (kind === "stage-garbage") this.garbage += 1;
    const nowMs = clock.monoMs();
    log.warn(
      { chainId, modelId, reporter: reporterNode, accused: accusedNode, kind, code, message },
      "stage in trouble",
    );
    if (kind === "stage-slow" && accused === place) {
      accused.moving ??= `${accusedNode} is slow (${code})`;
    } else if (accused === place && code === BEGINS_ANEW) {
      this.#ports.keeper.again(chain, { why: `the stage on ${accusedNode} begins anew (${message})`, nowMs });
    } else if (accused === place) {
      this.#ports.blame.accusesItself(accusedNode, { nowMs, isEngineLost: kind === "engine-lost" });
      this.#ports.keeper.lose(chain, accused, { why: `${kind} on ${accusedNode}: ${code}`, nowMs });
    } else {
      const isGone = roster.node(accusedNode)?.state !== "online";
      const isReporter =
        this.#ports.blame.judge({ reporter: reporterNode, accused: accusedNode, atMs: nowMs, isGone }) === "reporter";
      this.#judged = { chain, trouble, reporterNode, isReporter };
      const why = isReporter
        ? `${reporterNode} accused several others, the last time ${accusedNode} of ${kind}`
        : `${kind} (${code}), says ${reporterNode} of ${accusedNode}`;
      const blamed = isReporter ? place : accused;
      if (kind === "stage-slow") blamed.moving ??= why;
      else this.#ports.keeper.lose(chain, blamed, { why, nowMs });
    }
    this.#ports.look();
  }

  /** Of an epoch that is over. The other neighbour of a stage that is silent notices a moment later than the first. */
  #takeLate(chain: Chain, place: Place, trouble: ChainTrouble): void {
    const judged = this.#judged;
    const [reporter, accused] = [this.#stage(place.holder)?.nodeId, this.#stage(trouble.accused)?.nodeId];
    if (judged === null || reporter === undefined || accused === undefined || reporter === judged.reporterNode) return;
    const isSame = judged.trouble.chainEpoch === trouble.chainEpoch && judged.trouble.accused === trouble.accused;
    if (judged.chain !== chain || !isSame || reporter === accused || trouble.kind === "stage-slow") return;
    const nowMs = this.#ports.clock.monoMs();
    this.#judged = null;
    this.#ports.blame.second({ reporter, accused, atMs: nowMs });
    const lost = chain.places.find(({ holder }) => holder === trouble.accused);
    if (!judged.isReporter || lost === undefined) return;
    this.#ports.blame.avoid(accused, nowMs);
    const why = `${trouble.kind} (${trouble.code}), say ${judged.reporterNode} and ${reporter} of ${accused}`;
    this.#ports.keeper.lose(chain, lost, { why, nowMs });
    this.#ports.look();
  }

  /** What was found by asking (chain-probes.ts). The node is avoided for a while also where it has no place. */
  suspect(chainId: string, { nodeId, why, isSure }: StageFinding): void {
    const { blame, clock, keeper } = this.#ports;
    const nowMs = clock.monoMs();
    if (isSure) blame.avoidFor(nodeId, { nowMs, forMs: BLAME_WINDOW_MS });
    else blame.avoid(nodeId, nowMs);
    this.garbage += 1;
    const chain = this.#ports.chain(chainId);
    const place = chain?.places.find(({ holder }) => this.#stage(holder)?.nodeId === nodeId);
    if (chain !== null && place !== undefined) {
      keeper.lose(chain, place, { why: `stage-garbage on ${nodeId}: ${why}`, nowMs });
    }
    this.#ports.look();
  }

  /** Positions stop at one of its stages; where that is one stage's word against another's, it is judged like any. */
  stalled(chainId: string, { at, reporter, what }: StalledStage): void {
    const { blame, clock, keeper, log } = this.#ports;
    const chain = this.#ports.chain(chainId);
    const [accused, by] = [chain?.places[at], reporter === null ? undefined : chain?.places[reporter]];
    const [accusedNode, reporterNode] = [this.#stage(accused?.holder ?? null), this.#stage(by?.holder ?? null)];
    if (chain?.state !== "serving" || accused === undefined || accusedNode === null) return;
    const nowMs = clock.monoMs();
    const { modelId } = chain;
    this.troubles += 1;
    const told = { chainId, modelId, accused: accusedNode.nodeId, reporter: reporterNode?.nodeId ?? null };
    log.warn({ ...told, kind: "stage-stalled", code: what }, "stage in trouble");
    if (by === undefined || reporterNode === null) {
      blame.avoid(accusedNode.nodeId, nowMs);
      keeper.lose(chain, accused, { why: `stage-stalled (${what}) on ${accusedNode.nodeId}`, nowMs });
    } else {
      const words = { reporter: reporterNode.nodeId, accused: accusedNode.nodeId, atMs: nowMs, isGone: false };
      const isReporter = blame.judge(words) === "reporter";
      const why = isReporter
        ? `answers stop after ${reporterNode.nodeId}, whoever is behind it`
        : `stage-stalled (${what}) on ${accusedNode.nodeId}, by the numbers of ${reporterNode.nodeId}`;
      keeper.lose(chain, isReporter ? by : accused, { why, nowMs });
    }
    this.#ports.look();
  }

  #stage(id: string | null): StageNow | null {
    return id === null ? null : this.#ports.book.stage(replicaId(id));
  }
}

/** A stage sees its neighbours, and itself; whether an engine is gone only its own node knows. */
function mayAccuse(
  { places }: Chain,
  { place, accused, kind }: { readonly place: Place; readonly accused: Place; readonly kind: ChainTrouble["kind"] },
): boolean {
  if (accused === place) return true;
  const apart = Math.abs(places.indexOf(place) - places.indexOf(accused));
  return kind !== "engine-lost" && (apart === 1 || apart === places.length - 1);
}
