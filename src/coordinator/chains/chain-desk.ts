/**
 * The coordinator's desk for chains: takes the planner's orders, hears the stages, and keeps every chain serving (chain-keeper.ts says how one is
 * kept). Dispatch asks it who works on an attempt besides the last stage.
 *
 * | comes in                                  | then                                                                                  |
 * | ----------------------------------------- | ------------------------------------------------------------------------------------- |
 * | order of the plan                         | all stages are loaded; one that cannot be sent takes the others back                    |
 * | any report or change of a node            | every chain is looked at                                                              |
 * | `chain.state` of the newest epoch         | linked or not; of an older one: its times only                                         |
 * | `chain.trouble` of the newest epoch       | the blamed stage is replaced (chain-blame.ts); `stage-slow`: it moves while it serves    |
 * | `chain.trouble` of an older epoch         | ignored: it was dealt with                                                            |
 * | either, of a stage that the node has not  | breach of the protocol                                                                |
 * | stages that nobody remembers (restart)    | become a chain again when they cover the model, spares of one, or are unloaded          |
 *
 * A stage without a chain is a spare. Nothing is loaded twice for one place, and a model whose chain was given up is planned anew only after a back-off.
 */
import { assert } from "../../domain/assert.ts";
import { toHex } from "../../domain/hex.ts";
import type { ModelId, NodeId, ReplicaId } from "../../domain/ids.ts";
import type { Timer } from "../../ports/clock.ts";
import type { StalledStage } from "../../scheduler/chains/chain-stall.ts";
import type { ChainOrder } from "../../scheduler/placement/plan-question.ts";
import { backoffCeilingMs } from "../../scheduler/retries/backoff.ts";
import type { StageOrder } from "../../wire/chain-link.ts";
import type { StageNow } from "../dispatch/replica-stage.ts";
import { draftOf } from "../models/draft-model.ts";
import { EndpointBook } from "../peering/endpoint-book.ts";
import { AnswersOver } from "./answers-over.ts";
import {
  type Chain,
  type ChainShape,
  type CrewStage,
  hasMember,
  newChain,
  type StageSpot,
  stageLoad,
  tailOf,
} from "./chain.ts";
import { ChainBlame } from "./chain-blame.ts";
import type { ChainDeskOptions, ChainDeskPorts } from "./chain-desk-ports.ts";
import { ChainInbox, type StageFinding } from "./chain-inbox.ts";
import { ChainKeeper } from "./chain-keeper.ts";
import type { ChainStats, ChainsView, ChainView, SpareView } from "./chain-view.ts";
import { chainView, describeChain, spareView } from "./chain-views.ts";
import { isFit, isStray, looseStages, sparesByChain } from "./loose-stages.ts";
import type { StageGrid } from "./repair-question.ts";
import { orderSpares } from "./spare-desk.ts";
import { StageAdoption } from "./stage-adoption.ts";

/** Chains are looked at this often while one of them is not settled, without an event. */
const LOOK_MS = 200;
/** Hot spares are chosen anew this often; each choice looks at all nodes. */
const SPARES_MS = 2_000;
/** A model whose chain was given up gets another one after 1, 2, 4 … seconds. */
const ANEW = { baseMs: 1_000, capMs: 300_000 };
const ANEW_MEMORY_MS = 3_600_000;
/** Epochs of one start of the coordinator; 2^14 starts fit into what a frame tells. */
const EPOCHS_PER_BOOT = 2 ** 18;
const EPOCHS = 2 ** 32;
/** Looks that one event may cause in a row: a stage that cannot be sent an order changes the roster again. */
const LOOKS_MAX = 8;
/** A reason travels as text of at most 2,000 characters (wire/link-atoms.ts). */
const REASON_MAX = 500;

export class ChainDesk implements ChainsView {
  /** Tells stages what they need not keep. */
  readonly answersOver: AnswersOver;
  readonly #ports: ChainDeskPorts;
  readonly #options: ChainDeskOptions;
  readonly #chains = new Map<string, Chain>();
  readonly #endpoints = new EndpointBook();
  readonly #blame = new ChainBlame();
  readonly #keeper: ChainKeeper;
  readonly #inbox: ChainInbox;
  readonly #adoption: StageAdoption;
  readonly #anew = new Map<ModelId, { readonly count: number; readonly notBeforeMs: number }>();
  #dissolved = 0;
  #epochs = 0;
  #sparesAtMs = Number.NEGATIVE_INFINITY;
  #isLooking = false;
  #isStale = false;
  #isStopped = false;
  #timer: Timer | null = null;

  constructor(ports: ChainDeskPorts, options: ChainDeskOptions) {
    this.#ports = ports;
    this.#options = options;
    this.#keeper = new ChainKeeper({
      ...ports,
      blame: this.#blame,
      endpoints: this.#endpoints,
      grid: () => this.#grid(),
      stageNode: (replicaId) => ports.book.stage(replicaId)?.nodeId ?? null,
      fileBytes: (chain) => this.#fileBytes(chain),
      sparesFor: (chain) => this.#spares(chain).filter(({ isReady }) => isReady),
      comingFor: (chain) => this.#spares(chain).filter(({ isReady }) => !isReady),
      nextEpoch: () => this.#nextEpoch(),
      onServing: () => this.#served(),
      dissolve: (chain, why) => this.#dissolve(chain, why),
    });
    this.answersOver = new AnswersOver(ports);
    this.#adoption = new StageAdoption({
      ...ports,
      here: (stages) => this.#here(stages),
      isAvoided: (nodeId, nowMs) => this.#blame.isAvoided(nodeId, nowMs),
      onAdopted: (shape, spots) => {
        this.#isStale = true;
        return this.#add({ ...shape, draft: this.#draftOf(shape.modelId) }, spots).chainId;
      },
    });
    this.#inbox = new ChainInbox({
      ...ports,
      blame: this.#blame,
      keeper: this.#keeper,
      chain: (chainId) => this.#chains.get(chainId) ?? null,
      look: () => this.look(),
    });
    ports.roster.subscribe({
      onOnline: () => undefined,
      onSuspect: (nodeId) => this.#blame.confirm(nodeId),
      onWithdrawn: () => undefined,
      onGone: (nodeId) => this.#gone(nodeId),
      onWork: () => undefined,
      onReplicas: () => undefined,
      onPeer: (nodeId, message) => this.#endpoints.heard(nodeId, message),
      onChain: (nodeId, message) => this.#inbox.take(nodeId, message),
    });
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
    this.answersOver.stop();
  }

  chains(): readonly ChainView[] {
    const chains = this.#all().sort((a, b) => (orderKey(a) < orderKey(b) ? -1 : 1));
    return chains.map((chain) => chainView(chain, this.#ports.book, this.#ports.clock.monoMs()));
  }

  spares(): readonly SpareView[] {
    return this.#here(looseStages(this.#ports.book)).map(spareView);
  }

  stats(): ChainStats {
    return {
      ...this.#keeper.counts,
      dissolved: this.#dissolved,
      troubles: this.#inbox.troubles,
      garbage: this.#inbox.garbage,
    };
  }

  /** The stages of the chain that this one stands for, in order; null when it stands for none. */
  crewOf(tail: ReplicaId): readonly CrewStage[] | null {
    const chain = this.#standingFor(tail);
    const crew = chain?.places.flatMap(({ holder, count: layers }) => {
      const stage = holder === null ? null : this.#ports.book.stage(holder);
      return stage === null ? [] : [{ replicaId: stage.replicaId, nodeId: stage.nodeId, layers }];
    });
    return crew === undefined || crew.length !== chain?.places.length ? null : crew;
  }

  /** Why no chain of the model serves, for who waits for it; null when one does, or there is none. */
  describe(modelId: ModelId): string | null {
    const chains = this.#all().filter((chain) => chain.modelId === modelId);
    const [first] = chains;
    if (first === undefined || chains.some(({ state }) => state === "serving")) return null;
    return describeChain(first, this.#ports.book);
  }

  /** Carries out an order of the plan. False when it cannot be sent whole, or another chain of the model is being made or mended. */
  load(order: ChainOrder): boolean {
    const { modelId, weightsSha256, sequencesMax, contextTokens, stages, why } = order;
    const manifest = this.#ports.models.get(modelId)?.manifest;
    if (manifest === undefined || this.#isBusyWith(modelId)) return false;
    const { layerCount } = manifest;
    const { stageWire: wire } = this.#options;
    const draft = this.#draftOf(modelId);
    const shape = { modelId, weightsSha256, layerCount, wire, contextTokens, sequencesMax, draft };
    const spots: (StageSpot & { readonly nodeId: NodeId; readonly holder: ReplicaId })[] = [];
    for (const stage of stages) {
      const { nodeId, deviceId, first, count, memoryBytes } = stage;
      const holder = this.#ports.book.loadStage(stageLoad(shape, stage, { nodeId, deviceId, why }));
      if (holder === null) {
        for (const one of spots) this.#ports.book.unload(one.nodeId, one.holder, "another stage cannot be ordered");
        return false;
      }
      spots.push({ first, count, memoryBytes, holder, nodeId });
    }
    const { chainId } = this.#add(shape, spots);
    const told = { chainId, modelId, stages: stages.length, contextTokens, slots: sequencesMax, why };
    this.#ports.log.info(told, "chain ordered");
    this.look();
    return true;
  }

  /** Unloads the chain of this stage, with all its stages. False when it is of no chain. */
  unload(replicaId: ReplicaId, why: string): boolean {
    const chain = this.#all().find((one) => hasMember(one, replicaId));
    if (chain !== undefined) this.#end(chain, why);
    return chain !== undefined;
  }

  /** The last stage gave what cannot be, as the coordinator saw itself. */
  accuse(tail: ReplicaId, why: string): void {
    const chain = this.#standingFor(tail);
    const place = chain?.places.at(-1);
    const nodeId = this.#ports.book.stage(tail)?.nodeId;
    if (chain === undefined || place === undefined || nodeId === undefined) return;
    const nowMs = this.#ports.clock.monoMs();
    this.#blame.avoid(nodeId, nowMs);
    this.#keeper.lose(chain, place, { why: `${nodeId}: ${why}`, nowMs });
    this.look();
  }

  /** A stage of the chain gives, or tells, what this model does not give (chain-probes.ts). Its node is avoided for a while also where it has no place. */
  suspect(chainId: string, found: StageFinding): void {
    this.#inbox.suspect(chainId, found);
  }

  /** A stage holds up its chain's answers (chain-stalls.ts). */
  stalled(chainId: string, found: StalledStage): void {
    this.#inbox.stalled(chainId, found);
  }

  /** Something changed: compares every chain with what is there. */
  look(): void {
    if (this.#isStopped) return;
    this.#isStale = true;
    if (this.#isLooking) return;
    this.#isLooking = true;
    for (let looks = 0; this.#isStale && looks < LOOKS_MAX; looks++) {
      this.#isStale = false;
      this.#lookOnce();
    }
    this.#isLooking = false;
    this.#watch();
  }

  #lookOnce(): void {
    const nowMs = this.#ports.clock.monoMs();
    for (const chain of this.#all()) if (this.#chains.has(chain.chainId)) this.#keeper.look(chain, nowMs);
    const chained = new Set(this.#all().map(({ modelId }) => modelId));
    this.#adoption.look(chained, nowMs);
    if (nowMs - this.#sparesAtMs >= SPARES_MS) this.#chooseSpares(nowMs);
  }

  #watch(): void {
    const isSettled = this.#all().every(({ state, places }) => {
      return state === "serving" && places.every(({ moving, successor }) => moving === null && successor === null);
    });
    if (isSettled || this.#timer !== null) return;
    this.#timer = this.#ports.clock.setTimer(LOOK_MS, () => {
      this.#timer = null;
      this.look();
    });
  }

  #gone(nodeId: NodeId): void {
    this.#endpoints.gone(nodeId);
    if (this.#ports.roster.node(nodeId) === null) this.#blame.forget(nodeId);
    else this.#blame.confirm(nodeId);
  }

  // -------------------------------------------------------------- stages without a chain

  /** Doubted nodes included. Also those that another chain of the model keeps: whoever needs one first takes it. */
  #spares(chain: Chain): readonly StageNow[] {
    const nowMs = this.#ports.clock.monoMs();
    return this.#here(looseStages(this.#ports.book)).filter((stage) => {
      const isBarred = this.#blame.standing(stage.nodeId, nowMs) === "barred";
      return !isBarred && isFit(chain, stage) && (stage.report?.contextTokens ?? 0) >= chain.contextTokens;
    });
  }

  /** On nodes that take work; those of others may come back with them. */
  #here(stages: readonly StageNow[]): readonly StageNow[] {
    const { roster } = this.#ports;
    return stages.filter(({ nodeId }) => {
      const view = roster.node(nodeId);
      return view?.state === "online" && !view.isYielding;
    });
  }

  #chooseSpares(nowMs: number): void {
    const chains = this.#all();
    if (chains.length === 0 || chains.some(({ state }) => state !== "serving")) return;
    this.#sparesAtMs = nowMs;
    const { book } = this.#ports;
    const question = {
      chains,
      spares: sparesByChain(chains, this.#here(looseStages(book))),
      sparesPerChain: this.#options.chainSpares,
      isShort: this.#ports.isShort(),
      grid: this.#grid(),
      fileBytes: (chain: Chain) => this.#fileBytes(chain),
    };
    orderSpares(question, book);
  }

  // -------------------------------------------------------------- chains

  #all(): Chain[] {
    return [...this.#chains.values()];
  }

  #standingFor(tail: ReplicaId): Chain | undefined {
    return this.#all().find((chain) => tailOf(chain) === tail);
  }

  /** A chain of it is made or mended, is awaited after a restart, or was given up a moment ago. */
  #isBusyWith(modelId: ModelId): boolean {
    const nowMs = this.#ports.clock.monoMs();
    const isMade = this.#all().some((chain) => chain.modelId === modelId && chain.state !== "serving");
    const isAwaited = looseStages(this.#ports.book).some(
      (stage) => stage.modelId === modelId && !isStray(stage, nowMs),
    );
    return isMade || isAwaited || (this.#anew.get(modelId)?.notBeforeMs ?? 0) > nowMs;
  }

  #add(shape: ChainShape, spots: readonly StageSpot[]): Chain {
    const { crypto, ids, clock } = this.#ports;
    // 16 bytes of the digest of an id that nobody else makes.
    const chainId = toHex(crypto.sha256(new TextEncoder().encode(`chain ${ids.make("rep")}`))).slice(0, 32);
    assert(!this.#chains.has(chainId), `${chainId} names no other chain`);
    const chain = newChain(chainId, shape, { spots, nowMs: clock.monoMs() });
    this.#chains.set(chainId, chain);
    this.#keeper.seat(chain);
    return chain;
  }

  #dissolve(chain: Chain, why: string): void {
    const { clock, log } = this.#ports;
    const { chainId, modelId } = chain;
    const nowMs = clock.monoMs();
    const before = this.#anew.get(modelId);
    const isRecent = before !== undefined && nowMs - before.notBeforeMs < ANEW_MEMORY_MS;
    const count = isRecent ? before.count + 1 : 1;
    this.#anew.set(modelId, { count, notBeforeMs: nowMs + backoffCeilingMs(count - 1, ANEW) });
    this.#dissolved += 1;
    log.warn({ chainId, modelId, why, count }, "chain given up");
    this.#end(chain, `the chain was given up: ${why}`);
  }

  #end(chain: Chain, why: string): void {
    const { book } = this.#ports;
    const tail = tailOf(chain);
    const wasServing = chain.state === "serving";
    this.#chains.delete(chain.chainId);
    for (const { nodeId, replicaId } of book.stages()) {
      if (!hasMember(chain, replicaId)) continue;
      book.seat(replicaId, null);
      book.unload(nodeId, replicaId, why.slice(0, REASON_MAX));
    }
    if (tail !== null && wasServing) this.#ports.onBreak(tail, why);
  }

  #served(): void {
    // A chain that serves is worth a spare at once.
    this.#sparesAtMs = Number.NEGATIVE_INFINITY;
    this.#isStale = true;
    this.#ports.onServing();
  }

  #grid(): StageGrid {
    const { book, clock, nodes, shareOn } = this.#ports;
    const nowMs = clock.monoMs();
    return {
      nodes,
      shareOn,
      nowMs,
      replicasOn: (nodeId) => book.onNode(nodeId),
      stage: (replicaId) => book.stage(replicaId),
      notBeforeMs: () => book.notBeforeMs(),
      standing: (nodeId) => this.#blame.standing(nodeId, nowMs),
    };
  }

  #fileBytes({ modelId }: Chain): number | null {
    return this.#ports.models.get(modelId)?.manifest.fileBytes ?? null;
  }

  /** A small model with the same tokens that drafts on the first stage. */
  #draftOf(modelId: ModelId): StageOrder["draft"] {
    return draftOf(modelId, this.#ports.models) ?? undefined;
  }

  #nextEpoch(): number {
    this.#epochs += 1;
    return (this.#ports.boot * EPOCHS_PER_BOOT + this.#epochs) % EPOCHS;
  }
}

function orderKey({ modelId, chainId }: Chain): string {
  return `${modelId} ${chainId}`;
}
