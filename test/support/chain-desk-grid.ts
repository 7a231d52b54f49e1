/**
 * The real registry, dispatcher, planner and chain desk with scripted nodes that hold stages, in virtual time: each loads and links as it is told, and
 * the last stage of a chain counts upwards as its answer. What a node is told to do wrong it does.
 */
import { AgentMembership } from "../../src/agent/membership/agent-membership.ts";
import type { Line, WorkHandler, WorkOrder } from "../../src/agent/session.ts";
import type { DispatchOptions } from "../../src/coordinator/dispatch/dispatch-options.ts";
import { Dispatcher } from "../../src/coordinator/dispatch/dispatcher.ts";
import { assert } from "../../src/domain/assert.ts";
import type { Generation, GenerationEvent, RequestTerms } from "../../src/domain/generation.ts";
import { type NodeId, requestId, sha256Hex } from "../../src/domain/ids.ts";
import { DEFAULT_SAMPLING } from "../../src/domain/sampling.ts";
import type { Clock } from "../../src/ports/clock.ts";
import { manifestOf } from "../../src/sim/draw-grid.ts";
import { SCRIPTED_VOCAB_SIZE } from "../../src/sim/engine/scripted-model.ts";
import { SimIds } from "../../src/sim/sim-ids.ts";
import { SimClock } from "../../src/sim/time/clock.ts";
import type { Host } from "../../src/sim/time/host.ts";
import type { AttemptStart, ReplicaReport } from "../../src/wire/agent-link.ts";
import type { ChainSet } from "../../src/wire/chain-link.ts";
import { CAPABILITIES, GRID_ID, MembershipGrid, TARGET } from "./membership-grid.ts";

export const LAYERS = 12;
export const LOAD_MS = 400;
const LINK_MS = 5;
export const TOKEN_MS = 20;
export const TAKE_OVER_MS = 100;
/** A model of 12 layers on nodes that have room for four or five of them. */
const MODEL_BYTES = 12e9;
const NODE_BYTES = 5.6e9;

export class ScriptedStages implements WorkHandler {
  readonly orders: WorkOrder[] = [];
  readonly #clock: Clock;
  readonly #reports = new Map<string, ReplicaReport>();
  readonly #chains = new Map<string, ChainSet>();
  #running: { readonly start: AttemptStart; seq: number }[] = [];
  line: Line | null = null;
  isOwnerBack = false;
  /** It says nothing of its links. */
  isDeaf = false;
  /** Every load ends badly. */
  canLoad = true;
  singleMs = 3;
  readonly port: number;

  constructor(clock: Clock, port: number) {
    this.#clock = clock;
    this.port = port;
  }

  onLineUp(line: Line): void {
    this.line = line;
    line.send({ type: "peer.endpoints", endpoints: { tcp: [{ host: "10.0.0.7", port: this.port }], hasUdp: true } });
  }

  onLineDown(): void {
    this.line = null;
    this.#running = [];
  }

  onOrder(order: WorkOrder): void {
    this.orders.push(order);
    switch (order.type) {
      case "replica.load":
        this.#load(order);
        break;
      case "replica.unload":
        this.report(order.replicaId, { state: "gone" });
        this.#reports.delete(order.replicaId);
        break;
      case "chain.set":
        if (order.chainEpoch <= (this.chain(order.replicaId)?.chainEpoch ?? -1)) break;
        this.#chains.set(order.replicaId, order);
        this.#running = this.#running.filter(({ start }) => start.replicaId !== order.replicaId);
        this.#clock.setTimer(LINK_MS, () => this.say(order.replicaId, !this.isDeaf));
        if (order.takeOver !== undefined) this.#takeOver(order);
        break;
      case "attempt.start":
        if (this.chain(order.replicaId)?.stages.at(-1)?.replicaId === order.replicaId) this.#answer(order);
        break;
      case "attempt.cancel":
        this.#running = this.#running.filter(({ start }) => start.leaseId !== order.leaseId);
        break;
      default:
        break;
    }
  }

  replicas(): readonly ReplicaReport[] {
    return [...this.#reports.values()];
  }
  isYielding(): boolean {
    return this.isOwnerBack;
  }
  memoryFreeBytes(): number {
    return 1e9;
  }
  stop(): Promise<void> {
    return Promise.resolve();
  }

  chain(replicaId: string): ChainSet | null {
    return this.#chains.get(replicaId) ?? null;
  }

  /** Orders of one kind, in the order in which they came. */
  of<Kind extends WorkOrder["type"]>(type: Kind): readonly Extract<WorkOrder, { type: Kind }>[] {
    return this.orders.filter((order): order is Extract<WorkOrder, { type: Kind }> => order.type === type);
  }

  report(replicaId: string, change: Partial<ReplicaReport>): void {
    const before = this.#reports.get(replicaId);
    if (before === undefined) return;
    const report = { ...before, ...change };
    this.#reports.set(replicaId, report);
    this.line?.send({ type: "replica.state", replica: report });
  }

  /** `chain.state` of the newest chain that the stage was told of. */
  say(replicaId: string, isLinked: boolean, more: { readonly hasTakenOver?: boolean } = {}): void {
    const set = this.chain(replicaId);
    if (set === null || !this.#reports.has(replicaId)) return;
    const { chainId, chainEpoch } = set;
    const times = { nextRttMs: 40, singleMs: this.singleMs, singlesMean: 1, promptMsPerPosition: 0.5, loopMs: 120 };
    const counts = { drafted: 10, accepted: 4, bytesSent: 1_000, positionsSent: 10 };
    this.line?.send({ type: "chain.state", replicaId, chainId, chainEpoch, isLinked, ...times, ...counts, ...more });
  }

  #takeOver({ replicaId, chainEpoch }: ChainSet): void {
    this.#clock.setTimer(TAKE_OVER_MS, () => {
      if (this.chain(replicaId)?.chainEpoch === chainEpoch) this.say(replicaId, true, { hasTakenOver: true });
    });
  }

  accuse(
    replicaId: string,
    by: { readonly accused: string; readonly kind: "stage-silent" | "stage-breach" | "stage-slow" | "engine-lost" },
  ) {
    const set = this.chain(replicaId);
    assert(set !== null, `${replicaId} is in a chain`);
    const { chainId, chainEpoch } = set;
    const what = { ...by, code: "seen-by-test", message: "as the test says" };
    this.line?.send({ type: "chain.trouble", replicaId, chainId, chainEpoch, ...what });
  }

  fail(start: AttemptStart, code: string): void {
    const { leaseId, epoch } = start;
    this.#running = this.#running.filter((one) => one.start.leaseId !== leaseId);
    this.line?.send({ type: "attempt.failed", leaseId, epoch, code, message: "as the test says" });
  }

  #load({
    replicaId,
    weightsSha256,
    deviceId,
    sequencesMax,
    contextTokens,
    stage,
  }: Extract<WorkOrder, { type: "replica.load" }>) {
    this.#reports.set(replicaId, {
      replicaId,
      state: "loading",
      progress: 0,
      slots: sequencesMax,
      slotsBusy: 0,
      queued: 0,
      contextTokens,
      numericClass: "sim/cpu/Q8_0/f16-wire",
      memoryBytes: 1e9,
      weightsSha256,
      deviceId,
      ...(stage === undefined ? {} : { stage: { first: stage.first, count: stage.count } }),
      failure: null,
    });
    this.report(replicaId, {});
    this.#clock.setTimer(LOAD_MS, () => {
      if (this.canLoad) this.report(replicaId, { state: "ready", progress: 1 });
      else this.report(replicaId, { state: "failed", failure: { code: "out-of-memory", message: "as the test says" } });
    });
  }

  #answer(start: AttemptStart): void {
    const run = { start, seq: 0 };
    this.#running.push(run);
    this.#clock.setTimer(TOKEN_MS, () => this.#step(run));
  }

  #step(run: { readonly start: AttemptStart; seq: number }): void {
    const { work, leaseId, epoch } = run.start;
    if (!this.#running.includes(run) || work.kind !== "generate" || run.seq >= work.tokensMax) return;
    const tokenIds = [(work.generatedCount + run.seq) % SCRIPTED_VOCAB_SIZE];
    this.line?.send({ type: "attempt.chunks", chunks: [{ leaseId, epoch, seq: run.seq, tokenIds, details: null }] });
    run.seq += 1;
    this.#clock.setTimer(TOKEN_MS, () => this.#step(run));
  }
}

export interface StageNode {
  readonly host: Host;
  readonly nodeId: NodeId;
  readonly work: ScriptedStages;
  readonly membership: AgentMembership;
}

export interface StageAsked {
  readonly generation: Generation;
  readonly events: GenerationEvent[];
  tokenIds(): readonly number[];
  outcome(): Extract<GenerationEvent, { kind: "end" | "failed" }> | null;
}

export class StageGrid extends MembershipGrid {
  readonly nodes: StageNode[] = [];
  readonly model;
  dispatcher: Dispatcher;
  readonly #options: Partial<DispatchOptions>;
  #boots = 1;
  #asked = 0;

  constructor(options: Partial<DispatchOptions> = {}) {
    super();
    const draw = {
      name: "large",
      fileBytes: MODEL_BYTES,
      layerCount: LAYERS,
      kvBytesPerToken: 1_200,
      inputMicroUsdPerMtok: 50_000,
      outputMicroUsdPerMtok: 200_000,
      warmReplicas: 1,
    };
    const manifest = { ...manifestOf(draw, this.crypto, 0), contextTokensMax: 4_096 };
    this.model = { manifest, tokenizer: { vocabSize: SCRIPTED_VOCAB_SIZE, stopTokenIds: [] } };
    this.#options = options;
    this.dispatcher = this.#makeDispatcher();
  }

  get chains() {
    return this.dispatcher.pool.chains;
  }

  override async start(): Promise<void> {
    await super.start();
    this.dispatcher.start();
  }

  /** The coordinator's process is killed; what it knew of chains is gone. */
  override async restart(options: { downMs: number }): Promise<void> {
    this.dispatcher.stop();
    await super.restart(options);
  }

  /** Over the registry of a coordinator that restarted. */
  openDispatcher(): void {
    this.dispatcher = this.#makeDispatcher();
    this.dispatcher.start();
  }

  #makeDispatcher(): Dispatcher {
    const { clock, crypto, log, model } = this;
    const boot = this.#boots++;
    const models = {
      get: (modelId: string) => (modelId === model.manifest.modelId ? model : null),
      byWeights: (digest: string) => (digest === model.manifest.weightsSha256 ? model : null),
      list: () => [model],
    };
    const ids = new SimIds(clock, this.random.fork(`ids-${boot}`));
    return new Dispatcher(
      { gridId: GRID_ID, boot, clock, crypto, log, ids, roster: this.registry, models },
      this.#options,
    );
  }

  async addNode(options: { region?: string; memoryBytes?: number } = {}): Promise<StageNode> {
    const host = this.host();
    const clock = new SimClock(host);
    const work = new ScriptedStages(clock, 7_000 + this.nodes.length);
    const [device] = CAPABILITIES.devices;
    assert(device !== undefined, "the sample has a device");
    const memoryBytes = options.memoryBytes ?? NODE_BYTES;
    const devices = [{ ...device, memoryBytes, memoryFreeBytes: memoryBytes, reserveBytes: 0 }];
    const capabilities = { ...CAPABILITIES, devices, memoryBytes, servesStages: true };
    const membership = new AgentMembership(
      {
        name: host.name,
        target: TARGET,
        gridId: GRID_ID,
        gridPublicKeyHex: null,
        joinToken: await this.token(),
        version: "0.0.0-test",
        onStatus: () => undefined,
        ...(options.region === undefined ? {} : { region: options.region }),
      },
      {
        dialer: this.internet.dialerFrom(host),
        clock,
        crypto: this.crypto,
        random: this.random.fork(host.name),
        log: this.log,
        keyPair: this.crypto.generateKeyPair(),
        capabilities: () => capabilities,
        work,
        peers: { onLineUp: () => undefined, onLineDown: () => undefined, onPeerOrder: () => undefined },
      },
    );
    const node = { host, nodeId: membership.nodeId, work, membership };
    membership.start();
    this.nodes.push(node);
    await this.run(100);
    return node;
  }

  async addNodes(count: number): Promise<void> {
    for (let at = 0; at < count; at++) await this.addNode();
  }

  /** As `kill -9` of the agent. */
  kill({ host }: StageNode): void {
    this.internet.drop(host.name, { isPowerLoss: false });
    host.kill({ isPowerLoss: false });
  }

  ask(change: { tokensMax?: number; deadlineMs?: number; constraints?: RequestTerms["constraints"] } = {}): StageAsked {
    const { modelId, weightsSha256, price } = this.model.manifest;
    const { tokensMax = 60, deadlineMs = 60_000, constraints } = change;
    const ids = new SimIds(this.clock, this.random.fork(`request-${this.#asked++}`));
    const terms: RequestTerms = {
      requestId: requestId(ids.make("req")),
      requestSha256: sha256Hex("11".repeat(32)),
      modelId,
      weightsSha256,
      tier: "default",
      price,
      deadlineMs,
      ...(constraints === undefined ? {} : { constraints }),
    };
    const events: GenerationEvent[] = [];
    const generation = this.dispatcher.generate(
      {
        terms,
        choice: 0,
        promptTokenIds: [1, 2, 3],
        tokensMax,
        sampling: DEFAULT_SAMPLING,
        seed: sha256Hex("22".repeat(32)),
        stopStrings: [],
        grammar: null,
        cacheScope: "33".repeat(16),
        ignoreStopTokens: true,
        topLogprobs: null,
      },
      (event) => events.push(event),
    );
    return {
      generation,
      events,
      tokenIds: () =>
        events.flatMap((event) => (event.kind === "tokens" ? event.tokens.map(({ tokenId }) => tokenId) : [])),
      outcome: () => events.find((event) => event.kind === "end" || event.kind === "failed") ?? null,
    };
  }

  async until(isTrue: () => boolean, what: string, withinMs = 60_000): Promise<void> {
    const endMs = this.timeline.nowMs + withinMs;
    await this.timeline.run(endMs, () => !isTrue());
    assert(isTrue(), `${what} within ${withinMs} ms of virtual time`);
  }

  async untilServing(): Promise<void> {
    await this.until(() => this.chain()?.state === "serving", "a chain that serves");
  }

  /** The first. */
  chain() {
    return this.chains.chains()[0] ?? null;
  }

  /** Who holds the place, counted from the front. */
  holder(at: number): StageNode {
    const found = this.maybeHolder(at);
    assert(found !== null, `place ${at} has a holder`);
    return found;
  }

  maybeHolder(at: number): StageNode | null {
    const nodeId = this.chain()?.stages.at(at)?.holder?.nodeId;
    return this.nodes.find((node) => node.nodeId === nodeId) ?? null;
  }

  replicaAt(at: number): string {
    const replicaId = this.chain()?.stages.at(at)?.holder?.replicaId;
    assert(replicaId !== undefined, `place ${at} has a holder`);
    return replicaId;
  }
}

/** The whole answer, whatever happened on the way. */
export function counted(tokens: number): readonly number[] {
  return Array.from({ length: tokens }, (_, at) => at % SCRIPTED_VOCAB_SIZE);
}
