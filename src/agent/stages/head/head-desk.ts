/**
 * The head of a chain: it feeds the tokens of each attempt into the first stage's engine, hears from the last stage what was drawn, and feeds that. What
 * was drawn is the last stage's alone to say; drafts only save ways around the chain. So the text is that of plain feeding, whatever the drafts are.
 *
 * `head-sequence.ts` has the states of a sequence, `inference/pipeline` decides what goes next and how many drafts. Everything that comes may be late or
 * of a sequence that is gone, and is then ignored; a new epoch of the chain drops all, since its leases are dead.
 */
import type { SequenceId } from "../../../domain/chain.ts";
import { AcceptanceRates } from "../../../inference/pipeline/acceptance.ts";
import { LoopMeter } from "../../../inference/pipeline/loop-meter.ts";
import { feedsBefore, nextKind } from "../../../inference/pipeline/micro-batch.ts";
import { nextPiece, type PieceBounds, pieceBounds } from "../../../inference/pipeline/prompt-pieces.ts";
import { type LoopTimes, Speculation } from "../../../inference/pipeline/speculation.ts";
import type { AttemptStart } from "../../../wire/agent-link.ts";
import { GAPS_MAX } from "../stage-bounds.ts";
import type { HeadDesk, HeadPorts } from "../stage-roles.ts";
import { DraftSources } from "./draft-sources.ts";
import { FedTokens } from "./fed-tokens.ts";
import { HeadSequence } from "./head-sequence.ts";
import { PassesOut } from "./passes-out.ts";

/** Attempts that run or wait for a slot of the engine; the coordinator leases no more than the slots. */
const RUNS_MAX = 1_024;
/** An attempt is forgotten so long after its deadline, should nobody have ended it. */
const FORGET_MS = 10_000;
/** Of a state on the wire: f32, to which a stage falls back where f16 cannot hold a value. */
const ELEMENT_BYTES_MAX = 4;

type Drawn = Parameters<HeadDesk["onTokens"]>[0];

export function createHeadDesk(ports: HeadPorts): HeadDesk {
  return new Desk(ports);
}

class Desk implements HeadDesk {
  readonly #ports: HeadPorts;
  readonly #runs = new Map<SequenceId, HeadSequence>();
  readonly #out = new PassesOut();
  readonly #fed: FedTokens;
  readonly #loops = new LoopMeter();
  readonly #rates = new AcceptanceRates(null);
  readonly #drafts: DraftSources;
  #arrivals = 0;
  #readyOrder = 0;
  #drafted = 0;
  #accepted = 0;
  #isPumping = false;
  #isStopped = false;

  constructor(ports: HeadPorts) {
    this.#ports = ports;
    this.#fed = new FedTokens(2 * ports.engine.info.sequencesMax);
    this.#drafts = new DraftSources(ports, (sequence) => this.#onDrafts(sequence));
  }

  start(order: AttemptStart): void {
    const { work } = order;
    if (this.#isStopped || work.kind !== "generate") return;
    this.#forgetOverdue();
    const sequence = this.#ports.sequenceOf(order);
    const before = this.#runs.get(sequence);
    if (before !== undefined) {
      if (order.epoch < before.epoch || (order.epoch === before.epoch && order.leaseId === before.leaseId)) return;
      this.#end(before, { isTold: false });
    }
    if (this.#runs.size >= RUNS_MAX || work.generatedCount >= work.tokenIds.length) return;
    const run = new HeadSequence(order, {
      sequence,
      work,
      arrival: this.#arrivals++,
      deadlineAtMs: this.#ports.nowMs() + order.deadlineMs,
      speculation: new Speculation(this.#rates),
    });
    this.#runs.set(sequence, run);
    this.#openWaiting();
    this.#pump();
  }

  cancel(leaseId: string, epoch: number): void {
    for (const run of this.#runs.values()) {
      if (run.leaseId === leaseId && run.epoch === epoch) this.#end(run, { isTold: true });
    }
    this.#openWaiting();
    this.#pump();
  }

  onTokens(drawn: Drawn): void {
    const run = this.#runs.get(drawn.sequence);
    if (run === undefined) return;
    if (drawn.tokenIds.length > 0) {
      // A draw that came twice, or of a pass that was given up: the tokens are known, or will be drawn again.
      if (drawn.position !== run.tokens.length) return;
      this.#take(run, drawn);
    }
    if (drawn.end !== null) {
      this.#end(run, { isTold: true });
      this.#openWaiting();
    } else this.#settle(run);
    this.#pump();
  }

  onOutput(_sequence: SequenceId, tag: number): void {
    const pass = this.#out.back(tag);
    if (pass === null) return;
    const run = this.#runs.get(pass.sequence);
    if (run !== undefined) run.sure = Math.max(run.sure, Math.min(pass.end, run.next));
    this.#pump();
  }

  onGap(sequence: SequenceId, held: number): void {
    const run = this.#runs.get(sequence);
    if (run === undefined || held >= run.next) return;
    run.gaps += 1;
    if (run.gaps > GAPS_MAX) {
      this.#end(run, { isTold: true });
      return;
    }
    run.stopWaiting();
    run.next = Math.max(0, held);
    run.sure = Math.min(run.sure, run.next);
    run.flight = null;
    this.#settle(run);
    this.#pump();
  }

  onRoom(): void {
    this.#pump();
  }

  known(sequence: SequenceId): number {
    return this.#runs.get(sequence)?.tokens.length ?? 0;
  }

  over(sequence: SequenceId): void {
    const run = this.#runs.get(sequence);
    if (run !== undefined) this.#end(run, { isTold: true });
    this.#fed.drop(sequence);
    if (run === undefined) return;
    this.#openWaiting();
    this.#pump();
  }

  onEpoch(): void {
    for (const run of [...this.#runs.values()]) this.#end(run, { isTold: false });
  }

  stats() {
    return {
      running: this.#runs.size,
      loopMs: this.#loops.loopMs,
      drafted: this.#drafted,
      accepted: this.#accepted,
    };
  }

  stop(): void {
    this.#isStopped = true;
    this.onEpoch();
  }

  /** Takes what was drawn, and what of it the engine already holds as drafts. */
  #take(run: HeadSequence, { tokenIds, end }: Drawn): void {
    const { flight } = run;
    const draftIds = flight?.draftIds ?? [];
    let accepted = 0;
    while (accepted < tokenIds.length && tokenIds[accepted] === draftIds[accepted]) accepted++;
    if (flight !== null) {
      this.#out.drop(run.sequence);
      run.next = Math.min(run.tokens.length + accepted, run.tokens.length + tokenIds.length - 1);
      run.sure = run.next;
      if (flight.isLoop) this.#learn(run, { ...flight, accepted, isOver: end !== null });
    }
    run.append(tokenIds);
    run.flight = null;
  }

  #learn(
    run: HeadSequence,
    pass: NonNullable<HeadSequence["flight"]> & { readonly accepted: number; readonly isOver: boolean },
  ): void {
    const drafts = pass.draftIds.length;
    const tookMs = this.#ports.nowMs() - pass.sentAtMs;
    this.#loops.note({ tookMs, drafts, draftMs: this.#ports.stageMs()?.sumMs ?? null });
    this.#drafted += drafts;
    this.#accepted += pass.accepted;
    const times = this.#times();
    if (times !== null) run.speculation.note(pass, times);
  }

  /** Of what may run, the oldest first, as far as the engine has slots. */
  #openWaiting(): void {
    const { engine } = this.#ports;
    for (const run of this.#runs.values()) {
      if (run.isOpen) continue;
      if (!engine.open(run.sequence)) return;
      run.isOpen = true;
      const held = this.#fed.shared(run.sequence, run.tokens, engine.held(run.sequence));
      run.next = Math.min(held, run.tokens.length - 1);
      run.sure = run.next;
      this.#ports.announce(run.sequence, { leaseEpoch: run.epoch, promptLength: run.promptLength });
      this.#settle(run);
    }
  }

  /** A sequence whose next token can go is given its drafts, or a moment to wait for them. */
  #settle(run: HeadSequence): void {
    if (!run.canGenerate) return;
    run.readyOrder = this.#readyOrder++;
    run.readyAtMs = this.#ports.nowMs();
    const times = this.#times();
    run.plan = times === null ? null : this.#drafts.plan(run, times);
    if (run.plan === null || run.plan.waitMs <= 0) return;
    run.draftWait = this.#ports.setTimer(run.plan.waitMs, () => {
      run.draftWait = null;
      this.#pump();
    });
  }

  #onDrafts(sequence: SequenceId): void {
    const run = this.#runs.get(sequence);
    if (run?.draftWait == null || !this.#drafts.isReady(run)) return;
    run.stopWaiting();
    this.#pump();
  }

  #times(): LoopTimes | null {
    return this.#loops.times({
      stageMs: this.#ports.stageMs(),
      generating: this.#countGenerating(),
      stages: this.#ports.stageCount(),
    });
  }

  #countGenerating(): number {
    let count = 0;
    for (const run of this.#runs.values()) if (run.isOpen && (run.isGenerating || run.flight?.isLoop === true)) count++;
    return count;
  }

  /** Submits what may go. */
  #pump(): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    const all = [...this.#runs.values()];
    const ready = all.filter((run) => run.canGenerate).sort((a, b) => a.readyOrder - b.readyOrder);
    const feeding = all.filter((run) => run.canFeed);
    const generating = this.#countGenerating();
    const stages = this.#ports.stageCount();
    for (;;) {
      const [piecer] = feeding.sort((a, b) => feedsBefore(a.feeding, b.feeding));
      const replays = feeding.filter((run) => run.feeding.isReplay).length;
      const bounds = piecer === undefined ? null : this.#pieceBounds(piecer, replays);
      const kind = nextKind({
        generating,
        stages,
        singlesOut: this.#out.singles,
        piecePositionsOut: this.#out.piecePositions,
        room: this.#ports.room(),
        singlesReady: ready.length,
        hasPiece: piecer !== undefined,
        piecePositionsMax: (piecer?.feeding.isReplay === true ? bounds?.replaysMax : bounds?.positionsMax) ?? 0,
      });
      if (kind === "nothing") break;
      const single = kind === "single" ? ready.shift() : undefined;
      if (single !== undefined) {
        this.#submitNext(single);
        if (single.canFeed) feeding.push(single);
      } else if (piecer !== undefined && bounds !== null) {
        this.#submitPiece(piecer, bounds);
        if (!piecer.canFeed) feeding.shift();
      }
    }
    this.#isPumping = false;
  }

  #pieceBounds({ promptLength }: HeadSequence, replays: number): PieceBounds {
    const { engine } = this.#ports;
    const own = engine.stats();
    const singleMs = this.#ports.stageMs()?.slowestMs ?? own.singleMs;
    // Another stage is as much slower with prompts as it is with single tokens.
    const slower =
      singleMs === null || own.singleMs === null ? 1 : Math.max(1, singleMs / Math.max(own.singleMs, 1e-3));
    return pieceBounds({
      stages: this.#ports.stageCount(),
      promptLength,
      embeddingLength: engine.info.embeddingLength,
      bytesPerElement: ELEMENT_BYTES_MAX,
      promptMsPerPosition: own.promptMsPerPosition === null ? null : own.promptMsPerPosition * slower,
      singleMs,
      replays,
    });
  }

  #submitPiece(run: HeadSequence, bounds: PieceBounds): void {
    const { engine } = this.#ports;
    // Its engine may have lost what it held: then it is computed again.
    run.next = Math.min(run.next, engine.held(run.sequence));
    const length = run.tokens.length;
    const piece = nextPiece({ from: run.next, promptLength: run.promptLength, length }, bounds);
    const isLast = piece.start + piece.count === length;
    engine.submit({
      ...piece,
      sequence: run.sequence,
      input: { kind: "tokens", tokenIds: run.tokens.slice(piece.start, piece.start + piece.count) },
      draw: isLast ? { draftIds: [] } : null,
      tag: this.#out.add({ sequence: run.sequence, end: piece.start + piece.count, piecePositions: piece.count }),
    });
    run.next = piece.start + piece.count;
    run.sure = Math.min(run.sure, piece.start);
    if (!isLast) return;
    run.flight = { draftIds: [], sent: null, sentAtMs: this.#ports.nowMs(), waitedMs: 0, isLoop: false };
  }

  #submitNext(run: HeadSequence): void {
    const { engine } = this.#ports;
    const start = run.tokens.length - 1;
    const held = engine.held(run.sequence);
    if (held < start) {
      run.next = held;
      return;
    }
    const sentAtMs = this.#ports.nowMs();
    const draftIds = this.#drafts.take(run);
    engine.submit({
      sequence: run.sequence,
      start,
      count: 1 + draftIds.length,
      how: "singly",
      input: { kind: "tokens", tokenIds: [...run.tokens.slice(start), ...draftIds] },
      draw: { draftIds },
      tag: this.#out.add({ sequence: run.sequence, end: start + 1, piecePositions: null }),
    });
    const sent = run.plan === null || draftIds.length === 0 ? null : { ...run.plan, drafts: draftIds.length };
    const waitedMs = run.plan !== null && run.plan.waitMs > 0 ? sentAtMs - run.readyAtMs : 0;
    run.next = run.tokens.length;
    run.sure = Math.min(run.sure, start);
    run.flight = { draftIds, sent, sentAtMs, waitedMs, isLoop: true };
    this.#drafts.follow(run, this.#times());
  }

  #end(run: HeadSequence, { isTold }: { readonly isTold: boolean }): void {
    this.#runs.delete(run.sequence);
    run.stopWaiting();
    this.#drafts.drop(run.sequence);
    this.#out.drop(run.sequence);
    if (!run.isOpen) return;
    this.#fed.keep(run.sequence, run.tokens.slice(0, run.sure));
    this.#ports.engine.release(run.sequence);
    if (isTold) this.#ports.release(run.sequence);
  }

  #forgetOverdue(): void {
    const nowMs = this.#ports.nowMs();
    for (const run of [...this.#runs.values()]) {
      if (nowMs > run.deadlineAtMs + FORGET_MS) this.#end(run, { isTold: true });
    }
  }
}
