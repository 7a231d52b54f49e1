/** A node that holds stages of chains, scripted: each loads and links as it is told, and the last stage counts upwards as its answer. What it is told to do wrong it does. */
import type { Line, WorkHandler, WorkOrder } from "../../src/agent/session.ts";
import { assert } from "../../src/domain/assert.ts";
import type { Clock } from "../../src/ports/clock.ts";
import { SCRIPTED_VOCAB_SIZE } from "../../src/sim/engine/scripted-model.ts";
import type { AttemptStart, ReplicaReport } from "../../src/wire/agent-link.ts";
import type { ChainSet, ProgressAsk, ProgressReport } from "../../src/wire/chain-link.ts";

export const LOAD_MS = 400;
const LINK_MS = 5;
export const TOKEN_MS = 20;
export const TAKE_OVER_MS = 100;

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
  /** It draws nothing, and says nothing of it. */
  isMute = false;
  tokenMs = TOKEN_MS;
  /** What it tells of its progress; null: nothing. */
  progress: (() => Pick<ProgressReport, "decoded" | "isHeldUp" | "sequences">) | null = null;
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
      case "chain.progress.ask":
        this.#tellProgress(order);
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

  #tellProgress({ replicaId, chainId, chainEpoch }: ProgressAsk): void {
    if (this.progress === null) return;
    this.line?.send({ type: "chain.progress", replicaId, chainId, chainEpoch, ...this.progress() });
  }

  accuse(
    replicaId: string,
    by: {
      readonly accused: string;
      readonly kind: "stage-silent" | "stage-breach" | "stage-slow" | "engine-lost";
      readonly code?: string;
    },
  ) {
    const set = this.chain(replicaId);
    assert(set !== null, `${replicaId} is in a chain`);
    const { chainId, chainEpoch } = set;
    const what = { code: "seen-by-test", ...by, message: "as the test says" };
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
    this.#clock.setTimer(this.tokenMs, () => this.#step(run));
  }

  #step(run: { readonly start: AttemptStart; seq: number }): void {
    const { work, leaseId, epoch } = run.start;
    if (!this.#running.includes(run) || work.kind !== "generate" || run.seq >= work.tokensMax) return;
    if (this.isMute) return;
    const tokenIds = [(work.generatedCount + run.seq) % SCRIPTED_VOCAB_SIZE];
    this.line?.send({ type: "attempt.chunks", chunks: [{ leaseId, epoch, seq: run.seq, tokenIds, details: null }] });
    run.seq += 1;
    this.#clock.setTimer(this.tokenMs, () => this.#step(run));
  }
}
