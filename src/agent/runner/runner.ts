/**
 * The agent's worker: runs the replicas that the coordinator orders and the attempts that it leases, over one line at a time.
 * When the line is lost its leases are dead: attempts stop, replicas stay for the next line. When the owner comes back
 * everything stops and its memory is free.
 */
import { assert } from "../../domain/assert.ts";
import { ATTACHED_DEVICE_ID } from "../../domain/attached-engine.ts";
import type { Device } from "../../domain/hardware.ts";
import { EPOCHS_PER_BOOT } from "../../domain/lease.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { EngineHost } from "../../ports/engine.ts";
import type { Log } from "../../ports/log.ts";
import type { Random } from "../../ports/random.ts";
import type { WeightsCache } from "../../ports/weights-cache.ts";
import {
  type AgentMessage,
  type AttemptStart,
  type ReplicaLoad,
  type ReplicaReport,
  WIRE_BOUNDS,
} from "../../wire/agent-link.ts";
import type { ChainSet } from "../../wire/chain-link.ts";
import { WeightsShelf } from "../cache/weights-shelf.ts";
import type { Line, WorkHandler, WorkOrder } from "../session.ts";
import type { StageParts } from "../stages/stage-parts.ts";
import { StageRoom } from "../stages/stage-room.ts";
import { AttemptRun } from "./attempt-run.ts";
import { ChunkFrames } from "./chunk-frames.ts";
import { type HeldReplica, holdAttached, holdStage, holdWhole } from "./held-replica.ts";

export interface RunnerPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly crypto: Crypto;
  readonly log: Log;
  readonly engines: EngineHost;
  readonly weights: WeightsCache;
  /** A server of the owner's, as an engine; null, or absent, where there is none. */
  readonly attached?: EngineHost | null;
  /** Null, or absent, where the node holds whole models only. */
  readonly stages?: StageParts | null;
  memoryFreeBytes(): number;
}

export interface RunnerOptions {
  readonly devices: readonly Device[];
  readonly threads: number;
  /** Bytes that all files of weights may take; without it they may fill the disk. */
  readonly weightsBudgetBytes?: number | null;
}

/** A coordinator that has so much unread is told of weights no more: each of its orders would be answered with many times its bytes. */
const UNREAD_BYTES_MAX = 1_048_576;

interface OpenLine {
  readonly line: Line;
  readonly frames: ChunkFrames;
}

export class Runner implements WorkHandler {
  readonly #ports: RunnerPorts;
  readonly #options: RunnerOptions;
  readonly #replicas = new Map<string, HeldReplica>();
  /** Replicas whose engine still has its memory. */
  readonly #closing = new Set<Promise<void>>();
  readonly #attempts = new Map<string, AttemptRun>();
  /** Attempts that run on each replica. */
  readonly #busy = new Map<string, number>();
  readonly #shelf: WeightsShelf;
  readonly #room: StageRoom | null;
  #open: OpenLine | null = null;
  #isYielding = false;
  #isStopped = false;

  constructor(ports: RunnerPorts, options: RunnerOptions) {
    this.#ports = ports;
    this.#options = options;
    this.#shelf = new WeightsShelf(
      {
        cache: ports.weights,
        log: ports.log,
        pinned: () => new Set([...this.#replicas.values()].flatMap(({ weights }) => weights)),
        sessionToken: () => this.#open?.line.welcome.sessionToken ?? null,
        onChange: () => this.#tellWeights(),
      },
      { budgetBytes: options.weightsBudgetBytes ?? null },
    );
    const { stages = null } = ports;
    const tell = (message: AgentMessage) => this.#open?.line.send(message);
    this.#room = stages === null ? null : new StageRoom({ ...ports, stages, tell });
  }

  onLineUp(line: Line): void {
    this.#open = { line, frames: new ChunkFrames(line) };
    this.#room?.onLineUp();
    if (line.welcome.wantsWeightsState === true) void this.#shelf.open().then(() => this.#tellWeights());
  }

  onLineDown(): void {
    this.#shelf.giveWay(null);
    this.#open?.frames.close();
    this.#open = null;
    for (const run of [...this.#attempts.values()]) run.drop();
    this.#room?.onLineDown();
  }

  onOrder(order: WorkOrder): void {
    switch (order.type) {
      case "replica.load":
        this.#load(order);
        return;
      case "replica.unload":
        void this.#unload(order.replicaId, order.reason);
        return;
      case "attempt.start":
        this.#start(order);
        return;
      case "attempt.cancel":
        this.#cancel(order);
        return;
      case "weights.stage":
        if (!this.#isYielding && !this.#isStopped) this.#shelf.stage(order);
        return;
      case "chain.set":
        this.#setChain(order);
        return;
      case "chain.fingerprint.ask":
        this.#room?.tellFingerprint(order);
        return;
      case "chain.progress.ask":
        this.#room?.tellProgress(order);
        return;
      case "chain.over":
        this.#room?.over(order);
        return;
      case "node.drain":
        // The coordinator plans nothing more on a draining node; what runs here finishes.
        this.#ports.log.info({ isDraining: order.isDraining }, "drain ordered");
    }
  }

  /** Something other than a load or an order changed what lies on the disk. */
  lookAtWeights(): Promise<void> {
    return this.#shelf.lookAgain();
  }

  replicas(): readonly ReplicaReport[] {
    return [...this.#replicas.values()].map((replica) => replica.report());
  }

  isYielding(): boolean {
    return this.#isYielding;
  }

  memoryFreeBytes(): number {
    return this.#ports.memoryFreeBytes();
  }

  /**
   * The owner wants the machine. `announce` is called before the attempts fail, so that the coordinator hears the cause before
   * the consequence and plans nothing more here. Resolves when every engine is gone.
   */
  async yieldNow(reason: string, announce: () => void): Promise<void> {
    this.#isYielding = true;
    this.#shelf.giveWay(null);
    announce();
    for (const run of [...this.#attempts.values()]) run.fail("yield", reason);
    await this.#closeAll();
  }

  resume(): void {
    this.#isYielding = false;
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#shelf.giveWay(null);
    for (const run of [...this.#attempts.values()]) run.fail("engine-closed", "the agent is stopping");
    await this.#closeAll();
  }

  async #closeAll(): Promise<void> {
    await Promise.all([...this.#replicas.keys()].map((replicaId) => this.#unload(replicaId, "closing")));
  }

  #tellWeights(): void {
    const line = this.#open?.line;
    if (line?.welcome.wantsWeightsState !== true || line.bufferedBytes() > UNREAD_BYTES_MAX) return;
    line.send(this.#shelf.state());
  }

  #load(order: ReplicaLoad): void {
    const { replicaId, deviceId } = order;
    if (this.#replicas.has(replicaId)) return;
    const device = this.#options.devices.find((candidate) => candidate.deviceId === deviceId);
    if (this.#isYielding || this.#isStopped) {
      this.#refuseLoad(order, { state: "gone", code: "yield", message: "the owner is using this machine" });
    } else if (device === undefined) {
      this.#refuseLoad(order, { state: "failed", code: "unknown-device", message: `no device ${deviceId} here` });
    } else if (order.stage !== undefined && this.#room === null) {
      const message = "this node holds whole models only: it has no way to other nodes";
      this.#refuseLoad(order, { state: "failed", code: "stage-refused", message });
    } else if (this.#replicas.size >= WIRE_BOUNDS.replicasPerNodeMax) {
      const message = `${this.#replicas.size} replicas run here, the most that a node may report`;
      this.#refuseLoad(order, { state: "failed", code: "too-many-replicas", message });
    } else {
      const replica = this.#hold(order, device);
      this.#replicas.set(replicaId, replica);
      replica.start();
    }
  }

  #hold(order: ReplicaLoad, { variant }: Device): HeldReplica {
    const { replicaId, stage } = order;
    const { stages = null } = this.#ports;
    const options = { threads: this.#options.threads, variant };
    const ports = {
      ...this.#ports,
      weights: this.#shelf,
      freed: () => Promise.all(this.#closing),
      slotsBusy: () => this.#busy.get(replicaId) ?? 0,
      onChange: (replica: ReplicaReport) => this.#open?.line.send({ type: "replica.state", replica }),
    };
    const { attached = null } = this.#ports;
    if (order.deviceId === ATTACHED_DEVICE_ID && attached !== null) {
      return holdAttached(order, { ...ports, engines: attached }, options);
    }
    if (stage === undefined) return holdWhole(order, ports, options);
    assert(stages !== null && this.#room !== null, "a node without stages has refused the load");
    return holdStage({ ...order, stage }, { ...ports, stages, room: this.#room }, options);
  }

  #setChain(order: ChainSet): void {
    const problem = this.#room === null ? "this node holds no stages" : this.#room.order(order);
    if (problem !== null)
      this.#ports.log.warn({ replicaId: order.replicaId, problem }, "a chain was set for nobody here");
  }

  #refuseLoad(order: ReplicaLoad, why: { state: "failed" | "gone"; code: string; message: string }): void {
    const replica: ReplicaReport = {
      replicaId: order.replicaId,
      state: why.state,
      progress: 0,
      slots: 0,
      slotsBusy: 0,
      queued: 0,
      contextTokens: order.contextTokens,
      numericClass: null,
      memoryBytes: 0,
      failure: { code: why.code, message: why.message },
    };
    this.#open?.line.send({ type: "replica.state", replica });
  }

  async #unload(replicaId: string, reason: string): Promise<void> {
    const replica = this.#replicas.get(replicaId);
    if (replica === undefined) return;
    for (const run of [...this.#attempts.values()]) {
      if (run.order.replicaId === replicaId) run.fail("replica-not-ready", `the replica is unloaded: ${reason}`);
    }
    const closed = replica.close();
    this.#closing.add(closed);
    await closed.finally(() => this.#closing.delete(closed));
    this.#replicas.delete(replicaId);
    for (const digest of replica.weights) this.#shelf.rest(digest);
    this.#ports.log.info({ replicaId, reason }, "replica unloaded");
  }

  #start(order: AttemptStart): void {
    const open = this.#open;
    if (open === null) return;
    const replica = this.#replicas.get(order.replicaId);
    const problem = this.#startProblem(order, replica, open.line);
    if (problem === null && replica?.chain?.isFirst === true) {
      replica.chain.startHead(order);
      return;
    }
    const engine = replica?.engineFor(order) ?? null;
    if (problem !== null || engine === null) {
      const { code, message } = problem ?? { code: "replica-not-ready", message: "no chain serves here" };
      const { leaseId, epoch } = order;
      open.line.send({ type: "attempt.failed", leaseId, epoch, code, message });
      return;
    }
    const { clock, crypto } = this.#ports;
    this.#countBusy(order.replicaId, 1);
    const run = new AttemptRun(order, {
      clock,
      crypto,
      line: open.line,
      frames: open.frames,
      engine,
      onOver: () => {
        this.#attempts.delete(order.leaseId);
        this.#countBusy(order.replicaId, -1);
      },
    });
    this.#attempts.set(order.leaseId, run);
    run.start();
  }

  /** Null when the order may run here. */
  #startProblem(
    order: AttemptStart,
    replica: HeldReplica | undefined,
    line: Line,
  ): { readonly code: string; readonly message: string } | null {
    if (this.#isYielding) return { code: "yield", message: "the owner is using this machine" };
    if (Math.floor(order.epoch / EPOCHS_PER_BOOT) !== line.welcome.boot) {
      return { code: "dead-epoch", message: `epoch ${order.epoch} is not of boot ${line.welcome.boot}` };
    }
    if (replica?.isReady() !== true) {
      return { code: "replica-not-ready", message: `${order.replicaId} is ${replica?.report().state ?? "not here"}` };
    }
    // The same order goes to both ends of a chain, which may lie on one node.
    const isHead = replica.chain?.isFirst === true;
    if (!isHead && this.#attempts.has(order.leaseId)) {
      return { code: "invalid-attempt", message: `${order.leaseId} runs already` };
    }
    if (!isHead && (this.#busy.get(order.replicaId) ?? 0) >= replica.load.sequencesMax) {
      return { code: "engine-overloaded", message: `all ${replica.load.sequencesMax} slots are busy` };
    }
    if (order.terms.weightsSha256 !== replica.load.weightsSha256) {
      return { code: "invalid-attempt", message: `${order.replicaId} has other weights than the attempt's terms` };
    }
    return contextProblem(order, replica.load.contextTokens);
  }

  #cancel(order: { leaseId: string; epoch: number }): void {
    const run = this.#attempts.get(order.leaseId);
    if (run !== undefined && run.order.epoch === order.epoch) run.cancel();
    for (const { chain } of this.#replicas.values()) chain?.cancelHead(order.leaseId, order.epoch);
  }

  #countBusy(replicaId: string, by: 1 | -1): void {
    const count = (this.#busy.get(replicaId) ?? 0) + by;
    if (count === 0) this.#busy.delete(replicaId);
    else this.#busy.set(replicaId, count);
  }
}

function contextProblem({ work }: AttemptStart, contextTokens: number): { code: string; message: string } | null {
  const needed =
    work.kind === "generate"
      ? work.tokenIds.length + work.tokensMax
      : Math.max(...work.inputs.map((input) => input.length));
  if (needed > contextTokens) {
    return { code: "context-exceeded", message: `${needed} tokens in a context of ${contextTokens}` };
  }
  if (work.kind === "generate" && work.generatedCount > work.tokenIds.length) {
    return { code: "invalid-attempt", message: `${work.generatedCount} generated of ${work.tokenIds.length} tokens` };
  }
  return null;
}
