/**
 * A stage at work in its chain: what comes from the stage before goes into the engine, what the engine gives goes to the next one, and tokens from the last
 * to the first. The engine and the epochs of the chain come and go; what was put out (the log) and what is known of each sequence stay.
 *
 * | event                     | what happens                                                                                           |
 * | ------------------------- | ------------------------------------------------------------------------------------------------------ |
 * | `chain.set`, newer        | attempts are dropped, links begin anew; keys, values and the log stay                                     |
 * | `chain.set`, same epoch   | only `handOver` and `times` count                                                                       |
 * | `chain.set` without us    | links end                                                                                               |
 * | the engine is gone        | told once in an epoch; another engine waits for the next epoch                                          |
 * | a neighbour is given up   | told once; what runs waits for the coordinator, which ends it with the next epoch                          |
 * | the line is lost          | attempts are dropped, their leases are dead; links stay                                                  |
 */
import type { SequenceId } from "../../domain/chain.ts";
import type { Engine } from "../../ports/engine.ts";
import type { PeerFetchAnswer, PeerLink } from "../../ports/peer-link.ts";
import type { StageEngine, StageEvent } from "../../ports/stage-engine.ts";
import type { AttemptStart } from "../../wire/agent-link.ts";
import type { ChainSet, ChainTrouble, ProgressAsk } from "../../wire/chain-link.ts";
import type { StageFrame } from "../../wire/stage-frames.ts";
import type { HeldSequence, StageStateRequest } from "../../wire/stage-state-request.ts";
import { ChainLinks, type Side } from "./chain-links.ts";
import { ChainNews, stageLook } from "./chain-news.ts";
import type { ChainStagePorts } from "./chain-stage-ports.ts";
import { StateDesk } from "./hand-over.ts";
import { HeadSeat, sequenceOfAttempt } from "./head-seat.ts";
import { MoveIn } from "./move-in.ts";
import { PeerGaps } from "./peer-gaps.ts";
import { SequenceTable } from "./sequence-table.ts";
import { sortEvents } from "./sort-events.ts";
import { StageFailures } from "./stage-failures.ts";
import { StageIntake } from "./stage-intake.ts";
import { StageOutbox } from "./stage-outbox.ts";
import { stageProgress } from "./stage-progress.ts";
import type { WireProblem } from "./stage-wire.ts";
import { StateWatch } from "./state-watch.ts";
import { TailDesk } from "./tail-desk.ts";
import { takeFrame } from "./take-frame.ts";

export class ChainStage {
  /** What it received. */
  readonly watch = new StateWatch();
  readonly #ports: ChainStagePorts;
  readonly #sequences = new SequenceTable();
  readonly #outbox: StageOutbox;
  readonly #intake: StageIntake;
  readonly #tail: TailDesk;
  readonly #failures: StageFailures;
  readonly #states: StateDesk;
  readonly #news: ChainNews;
  readonly #moveIn: MoveIn;
  readonly #gaps = new PeerGaps();
  #head: HeadSeat | null = null;
  #engine: StageEngine | null = null;
  #set: ChainSet | null = null;
  #links: ChainLinks | null = null;
  #handOverKey: string | null = null;

  constructor(ports: ChainStagePorts) {
    this.#ports = ports;
    const engine = () => this.#engine;
    this.#outbox = new StageOutbox({
      log: ports.activations,
      sequences: this.#sequences,
      onRoom: () => this.#head?.desk.onRoom(),
    });
    this.#intake = new StageIntake({
      sequences: this.#sequences,
      watch: this.watch,
      engine,
      nowMs: () => ports.clock.monoMs(),
      mayDraw: (sequence, leaseEpoch) => !this.#isLast || this.#tail.mayDraw(sequence, leaseEpoch),
      onLease: (sequence) => {
        this.#intake.release(sequence);
        this.#engine?.release(sequence);
      },
      gap: (sequence, gap) => this.#links?.previous.send({ type: "gap", sequence, ...gap }),
      onTaken: () => this.#credit(),
      isLast: () => this.#isLast,
      onOverload: (sequence) => this.#failures.overload(sequence),
      onUnleased: (sequence, waitedMs) => this.#failures.unleased(sequence, waitedMs),
    });
    this.#tail = new TailDesk({
      engine,
      begin: (sequence, lease) => {
        const known = this.#sequences.get(sequence);
        if (known?.leaseEpoch !== lease.leaseEpoch) this.#intake.release(sequence);
        return this.#sequences.lease(sequence, lease) !== null;
      },
      admit: (sequence) => {
        this.#intake.admit(sequence);
        this.#links?.look();
      },
      release: (sequence) => this.#end(sequence),
      makeRoom: () => this.#intake.makeRoom(),
    });
    this.#failures = new StageFailures({
      sequences: this.#sequences,
      outbox: this.#outbox,
      tail: this.#tail,
      nowMs: () => ports.clock.monoMs(),
      links: () => this.#links,
      head: () => this.#head?.desk ?? null,
      trouble: (trouble, accused) => this.#trouble(trouble, accused),
      end: (sequence) => this.#end(sequence),
    });
    this.#states = new StateDesk({ clock: ports.clock, engine, holdings: () => this.#holdings() });
    this.#news = new ChainNews(ports, () => {
      this.#intake.dropLate();
      const [engine, head, { sent }] = [this.#engine?.stats() ?? null, this.#head?.desk.stats() ?? null, this.#outbox];
      return stageLook({ links: this.#links, engine, head, sent, hasTakenOver: this.#moveIn.isDone });
    });
    this.#moveIn = new MoveIn(ports);
  }

  // ---------------------------------------------------------------- what the node says

  get set(): ChainSet | null {
    return this.#set;
  }

  /** The engine that serves from here on; null when it is gone. */
  setEngine(engine: StageEngine | null): void {
    if (engine === this.#engine) return;
    this.#engine = engine;
    this.#head?.desk.stop();
    this.#head = null;
    this.#intake.clear();
    for (const [, state] of this.#sequences.all()) Object.assign(state, { confirmed: 0, gap: null });
    if (engine === null) {
      this.#tail.failAll("engine-crashed", "the stage's engine is gone");
      for (const sequence of this.#sequences.open()) this.#end(sequence);
      this.#states.stop();
      if (this.#links !== null)
        this.#trouble({ kind: "engine-lost", code: "engine-lost", message: "the engine is gone" });
    } else this.#begin();
    this.#news.changed();
  }

  /** Of the engine's process, in the order in which it gave them. */
  onEvents(events: readonly StageEvent[]): void {
    const { tokens, tells, outputs } = sortEvents(events, {
      tail: this.#tail,
      runOf: (tag) => this.#intake.finish(tag) ?? this.#head?.finish(tag) ?? null,
      onOutput: (output, run) => {
        const state = this.#sequences.get(output.sequence);
        const isCurrent = run !== null && !run.isStale && state?.isOpen === true && state.leaseEpoch === run.leaseEpoch;
        this.#outbox.add(output, state, isCurrent);
      },
      onFailed: ({ sequence, message }, code) => this.#failures.take(sequence, { code, message }),
    });
    this.#outbox.flush();
    if (tokens.length > 0) this.#links?.next.send({ type: "tokens", entries: tokens });
    for (const tell of tells) tell();
    for (const { sequence, tag } of outputs) this.#head?.desk.onOutput(sequence, tag);
    this.#credit();
  }

  /** Who is in the chain from here on. */
  order(set: ChainSet): void {
    const known = this.#set;
    if (known?.chainId === set.chainId && set.chainEpoch <= known.chainEpoch) {
      if (set.chainEpoch < known.chainEpoch) return;
      if (set.handOver !== undefined) this.#handOverKey = set.handOver.publicKey;
      if (set.times !== undefined) this.#set = { ...known, times: set.times };
      return;
    }
    this.#set = set;
    this.#handOverKey = set.handOver?.publicKey ?? null;
    this.#leave("the chain changed");
    const index = set.stages.findIndex(({ replicaId }) => replicaId === this.#ports.replicaId);
    this.#links = index < 0 ? null : this.#newLinks(set, index);
    this.#ports.hall.changed(this);
    this.#begin();
    this.#news.changed();
  }

  /** The first stage feeds an attempt; nothing happens where it is none. */
  startHead(order: AttemptStart): void {
    const engine = this.#engine;
    if (engine === null || this.#links?.isFirst !== true) return;
    this.#headSeat(engine).desk.start(order);
    this.#links.look();
  }

  cancelHead(leaseId: string, epoch: number): void {
    this.#head?.desk.cancel(leaseId, epoch);
  }

  /** The last stage as the engine of one attempt; null where it is none, or no chain serves. */
  engineFor(order: AttemptStart): Engine | null {
    if (this.#engine === null || this.#links?.isLast !== true) return null;
    return this.#tail.engineFor(this.#engine, {
      sequence: sequenceOfAttempt(order, this.#ports.crypto),
      leaseEpoch: order.epoch,
    });
  }

  /** The coordinator wonders who holds up its answers. */
  tellProgress({ chainId, chainEpoch }: Pick<ProgressAsk, "chainId" | "chainEpoch">): void {
    const { replicaId, tell } = this.#ports;
    if (this.#set?.chainId !== chainId || this.#set.chainEpoch !== chainEpoch) return;
    const [outbox, head, tail] = [this.#outbox, this.#head?.desk ?? null, this.#isLast ? this.#tail : null];
    const progress = stageProgress({
      sequences: this.#sequences,
      decoded: this.#engine?.stats().positionsDecoded ?? 0,
      outbox,
      head,
      tail,
    });
    tell({ type: "chain.progress", replicaId, chainId, chainEpoch, ...progress });
  }

  /** These answers are over: nothing is kept of them. */
  over(sequences: readonly SequenceId[]): void {
    for (const sequence of sequences) {
      this.#head?.desk.over(sequence);
      this.#tail.fail(sequence, "engine-closed", "its answer is over");
      this.#end(sequence);
      this.#engine?.forget(sequence);
      this.#outbox.over(sequence);
      this.#sequences.over(sequence);
    }
  }

  get isFirst(): boolean {
    return this.#links?.isFirst ?? false;
  }

  /** Attempts that it feeds. */
  get headsRunning(): number {
    return this.#head?.desk.stats().running ?? 0;
  }

  /** Leases of the line are dead. The attempts of a last stage are dropped by who runs them. */
  onLineDown(): void {
    for (const sequence of this.#head === null ? [] : this.#sequences.open()) this.#end(sequence);
    this.#head?.drop();
  }

  onLineUp(): void {
    this.#news.changed();
  }

  stop(): void {
    this.#leave("the stage ends");
    this.#head?.desk.stop();
    this.#head = null;
    this.#links = null;
    this.#moveIn.stop();
    this.#news.stop();
    this.#states.stop();
  }

  // ---------------------------------------------------------------- what other nodes say

  /** A peer that may link to this stage, or fetch what it holds. */
  admits(peerKeyHex: string): boolean {
    return (
      this.#handOverKey === peerKeyHex || (this.#set?.stages.some(({ publicKey }) => publicKey === peerKeyHex) ?? false)
    );
  }

  get channels(): readonly number[] {
    return this.#links?.channels ?? [];
  }

  get firstLayer(): number {
    return this.#ports.firstLayer;
  }

  get chainEpoch(): number {
    return this.#set?.chainEpoch ?? -1;
  }

  onFrame(frame: StageFrame, link: PeerLink): void {
    if (frame.chainEpoch < this.chainEpoch) this.#links?.receiveOld(frame, link);
    else this.#links?.receive(frame, link);
  }

  onBroken(problem: Parameters<ChainLinks["receiveBroken"]>[0], link: PeerLink): void {
    this.#links?.receiveBroken(problem, link);
  }

  answer(request: StageStateRequest, peerKeyHex: string): Promise<PeerFetchAnswer> {
    return this.#states.answer(request, this.#handOverKey === peerKeyHex);
  }

  // ---------------------------------------------------------------- within

  get #isLast(): boolean {
    return this.#links?.isLast ?? false;
  }

  #newLinks(set: ChainSet, index: number): ChainLinks {
    const { clock, log, network } = this.#ports;
    return new ChainLinks(set, index, {
      clock,
      log,
      network,
      gaps: this.#gaps,
      embeddingLength: () => this.#engine?.info.embeddingLength ?? null,
      holdings: () => this.#holdings(),
      isBusy: () => this.#sequences.hasOpen,
      onNext: (wire, holdings) => {
        this.#sequences.noteNext(holdings);
        if (!this.#isLast) this.#outbox.connect(wire);
      },
      onFrame: (frame, side) => this.#onFrame(frame, side),
      onTrouble: ({ accused, ...trouble }) => this.#trouble(trouble, accused),
      onChange: () => {
        this.#news.changed();
        this.#head?.desk.onRoom();
      },
    });
  }

  /** Begins to link, after what the stage that leaves has was taken over. */
  #begin(): void {
    const [links, engine, set] = [this.#links, this.#engine, this.#set];
    if (links === null || engine === null || set === null) return;
    this.#moveIn.run(set, engine, {
      onTaken: ({ sequence, held }) => {
        this.#sequences.note(sequence).confirmed = held;
      },
      onDone: () => {
        if (this.#links !== links || this.#engine !== engine) return;
        links.begin();
        this.#news.changed();
      },
    });
  }

  /** What runs in this epoch ends here. */
  #leave(why: string): void {
    this.#tail.failAll("engine-closed", why);
    this.#head?.drop();
    for (const sequence of this.#sequences.open()) this.#end(sequence);
    this.#links?.stop();
    this.#intake.restart();
    this.#outbox.connect(null);
  }

  #onFrame(frame: StageFrame, side: Side): WireProblem | null {
    return takeFrame(frame, side, {
      isFirst: this.isFirst,
      isLast: this.#isLast,
      sequences: this.#sequences,
      engineInfo: this.#engine?.info ?? null,
      head: this.#head?.desk ?? null,
      activations: (taken) => {
        const problem = this.#intake.onFrame(taken);
        this.#links?.look();
        return problem;
      },
      release: (taken) => this.#onRelease(taken),
      credit: ({ taken }) => {
        const problem = this.#outbox.onCredit(taken);
        this.#credit();
        return problem;
      },
      gap: (taken) => this.#failures.onGap(taken),
    });
  }

  #onRelease({ sequence, leaseEpoch }: Extract<StageFrame, { type: "release" }>): null {
    const isTold = this.#sequences.get(sequence)?.leaseEpoch === leaseEpoch;
    // Where it may still draw, its attempt ends it.
    if (isTold && !(this.#isLast && this.#tail.mayDraw(sequence, leaseEpoch))) this.#end(sequence);
    return null;
  }

  /** The sequence runs no more, here and behind; what is held of it stays. */
  #end(sequence: SequenceId): void {
    const state = this.#sequences.get(sequence);
    if (state?.isOpen !== true) return;
    state.isOpen = false;
    this.#intake.release(sequence);
    this.#engine?.release(sequence);
    this.#outbox.release(sequence);
    if (!this.#isLast) this.#links?.next.send({ type: "release", sequence, leaseEpoch: state.leaseEpoch });
    this.#links?.look();
  }

  #trouble(trouble: Pick<ChainTrouble, "kind" | "code" | "message">, accused: string = this.#ports.replicaId): void {
    if (this.#set !== null) this.#news.trouble(this.#set, { ...trouble, accused });
  }

  /** Tells in steps what was taken, and nothing while the next stage takes too little itself. */
  #credit(): void {
    const taken = this.#outbox.isFull ? null : this.#intake.creditDue();
    if (taken !== null) this.#links?.previous.send({ type: "credit", taken });
  }

  #holdings(): readonly HeldSequence[] {
    return this.#engine === null ? [] : this.#sequences.surelyHeld(this.#engine.holdings());
  }

  #headSeat(engine: StageEngine): HeadSeat {
    this.#head ??= new HeadSeat(engine, {
      ...this.#ports,
      sequences: this.#sequences,
      chain: () => this.#set,
      room: () => (this.#links?.isLinked === true ? this.#outbox.room : 0),
      onLease: () => this.#links?.look(),
      release: (sequence) => this.#end(sequence),
    });
    return this.#head;
  }
}
