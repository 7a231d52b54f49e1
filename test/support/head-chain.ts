/**
 * A chain behind a head desk, in virtual time: stages that keep tokens instead of keys and values, serve one batch at a time and hold every pass against
 * the law of exactness; a last stage that draws a known text from what it holds. Wrong tokens in a stage therefore give a wrong text.
 */
import { strictEqual as assertEqual, ok as assertOk } from "node:assert";
import { createHash } from "node:crypto";
import { createHeadDesk } from "../../src/agent/stages/head/head-desk.ts";
import type { HeadDesk, HeadPorts } from "../../src/agent/stages/stage-roles.ts";
import { type SequenceId, sequenceIdOf } from "../../src/domain/chain.ts";
import { attemptId, leaseId, replicaId, requestId } from "../../src/domain/ids.ts";
import { DEFAULT_SAMPLING, type StopReason } from "../../src/domain/sampling.ts";
import type { Engine } from "../../src/ports/engine.ts";
import type { AttemptStart } from "../../src/wire/agent-link.ts";

import { type Passing, ScriptedStage } from "./head-chain-stage.ts";

export interface ChainOptions {
  readonly stages: number;
  /** One way between neighbours, and from the last to the first. */
  readonly hopMs: () => number;
  /** A stage's time for one single position, and for one of a prompt. */
  readonly singleMs: number;
  readonly promptMs: number;
  /** Passes between the head and the next stage. */
  readonly window: number;
  readonly sequencesMax: number;
  readonly draft?: (chain: HeadChain) => Engine | null;
}

/** The text: what follows some tokens. 0 ends the answer. */
export type Text = (tokens: readonly number[]) => number;

export interface Request {
  readonly name: string;
  readonly prompt: readonly number[];
  readonly tokensMax: number;
  readonly text: Text;
  /** What its client has. */
  readonly answer: number[];
  end: StopReason | "cancelled" | null;
  lease: number;
}

export class HeadChain {
  readonly options: ChainOptions;
  readonly requests = new Map<SequenceId, Request>();
  readonly #events: { atMs: number; order: number; fire: () => void }[] = [];
  #order = 0;
  #nowMs = 0;
  #epoch = 0;
  desk: HeadDesk;
  #stages: ScriptedStage[];
  #roomTaken = 0;
  readonly #announced = new Map<SequenceId, number>();
  /** By sequence, lease and stage: from where on positions were asked for. */
  readonly #holes = new Map<string, number>();
  /** Ways between neighbours keep order. */
  readonly #busyUntil = new Map<string, number>();
  /** Passes of each stage, for those who count. */
  readonly batches: number[][];
  passes = 0;

  constructor(options: ChainOptions) {
    this.options = options;
    this.#stages = Array.from({ length: options.stages }, (_, index) => new ScriptedStage(this, index));
    this.batches = this.#stages.map(() => []);
    this.desk = createHeadDesk(this.#ports());
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, fire: () => void): { cancel(): void } {
    const event = { atMs: this.#nowMs + Math.max(0, delayMs), order: this.#order++, fire };
    this.#events.push(event);
    return { cancel: () => void this.#events.splice(this.#events.indexOf(event) >>> 0, 1) };
  }

  /** Until nothing is left to happen; `meanwhile` after each event. */
  run(meanwhile: () => void = () => undefined): void {
    for (let fired = 0; this.#events.length > 0; fired++) {
      assertOk(fired < 400_000, "the chain comes to rest");
      const next = this.#events.reduce((a, b) => (b.atMs < a.atMs || (b.atMs === a.atMs && b.order < a.order) ? b : a));
      this.#events.splice(this.#events.indexOf(next), 1);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.fire();
      meanwhile();
    }
  }

  add(request: Pick<Request, "name" | "prompt" | "tokensMax" | "text">): SequenceId {
    const made: Request = { ...request, answer: [], end: null, lease: 0 };
    const sequence = sequenceIdOf({ requestId: requestId(request.name), choice: 0 }, sha256);
    this.requests.set(sequence, made);
    this.start(made);
    return sequence;
  }

  start(request: Request): void {
    request.lease += 1;
    this.desk.start(orderOf(request));
  }

  cancel(request: Request): void {
    request.end = "cancelled";
    const order = orderOf(request);
    this.desk.cancel(order.leaseId, order.epoch);
  }

  /**
   * All that is under way is lost; some stages are new; what runs begins again from what the clients have, or `untaken` tokens less;
   * before, each got `elsewhere` tokens from another replica.
   */
  newEpoch(fault: { readonly lost: readonly number[]; readonly untaken: number; readonly elsewhere: number }): void {
    this.#epoch += 1;
    this.desk.onEpoch();
    for (const index of fault.lost) this.#stages[index]?.wipe();
    if (fault.lost.includes(0)) this.desk = createHeadDesk(this.#ports());
    for (const stage of this.#stages) stage.idle();
    this.#roomTaken = 0;
    for (const request of this.requests.values()) {
      if (request.end !== null) continue;
      request.answer.length = Math.max(0, request.answer.length - fault.untaken);
      const known = request.answer.length;
      request.answer.push(...plainAnswer(request).slice(known, -1).slice(0, fault.elsewhere));
      this.start(request);
    }
  }

  /** A later stage forgets a sequence: it will see a gap. */
  forget(sequence: SequenceId, stage: number): void {
    this.#stages[Math.max(1, stage % this.options.stages)]?.forget(sequence);
  }

  /** Over a way that keeps order; dropped when the epoch has changed meanwhile. */
  send(way: string, arrive: () => void): void {
    const epoch = this.#epoch;
    const atMs = Math.max(this.#nowMs + this.options.hopMs(), this.#busyUntil.get(way) ?? 0);
    this.#busyUntil.set(way, atMs);
    this.after(atMs - this.#nowMs, () => {
      if (epoch === this.#epoch) arrive();
    });
  }

  isCurrent(epoch: number): boolean {
    return epoch === this.#epoch;
  }

  promptLengthOf(sequence: SequenceId): number {
    return this.requests.get(sequence)?.prompt.length ?? 0;
  }

  /** A stage has done a pass. */
  done(index: number, passing: Passing): void {
    const { pass } = passing;
    const next = this.#stages[index + 1];
    if (index === 0) {
      this.desk.onOutput(pass.sequence, pass.tag);
    }
    if (next === undefined) {
      this.#draw(passing);
      return;
    }
    this.send(`${index}`, () => {
      if (index === 0) {
        this.#roomTaken -= 1;
        if (this.#roomTaken === this.options.window - 1) this.desk.onRoom();
      }
      if (this.requests.get(pass.sequence)?.lease !== passing.lease) return;
      const held = next.reachOf(pass.sequence, passing.lease);
      const hole = `${pass.sequence} ${passing.lease} ${index + 1}`;
      if (pass.start <= held) {
        this.#holes.delete(hole);
        next.take(passing);
      } else if (this.#holes.get(hole) !== held) {
        // As `stage-intake`: what lies behind a hole that was told of is dropped without another word.
        this.#holes.set(hole, held);
        this.send("gap", () => this.desk.onGap(pass.sequence, held));
      }
    });
  }

  #draw({ pass, lease, held = [] }: Passing): void {
    const request = this.requests.get(pass.sequence);
    if (pass.draw === null || request === undefined || request.lease !== lease || request.end !== null) return;
    const { draftIds } = pass.draw;
    const first = pass.start + pass.count - draftIds.length;
    const drawn: number[] = [];
    let end: StopReason | null = null;
    for (let at = 0; at <= draftIds.length && end === null; at++) {
      const tokenId = request.text(held.slice(0, first + at));
      drawn.push(tokenId);
      const made = first + at - request.prompt.length + 1;
      end = tokenId === 0 ? "stop-token" : made >= request.tokensMax ? "length" : null;
      if (draftIds[at] !== tokenId) break;
    }
    const known = request.prompt.length + request.answer.length;
    // Drawn again after a gap: the client has it.
    if (first <= known) request.answer.push(...drawn.slice(known - first));
    this.send("tokens", () => this.desk.onTokens({ sequence: pass.sequence, position: first, tokenIds: drawn, end }));
    if (end !== null) request.end = end;
  }

  #ports(): HeadPorts {
    const { options } = this;
    const head = () => this.#stages[0];
    return {
      engine: {
        info: {
          libraryVersion: "0",
          variant: "cpu",
          numericClass: "scripted",
          vocabSize: 64,
          embeddingLength: 2_048,
          contextTokens: 4_096,
          sequencesMax: options.sequencesMax,
          layersOffloaded: 0,
          processId: 1,
          share: { first: 0, count: 1, hasEmbedding: true, hasOutput: false },
          wire: "f32",
        },
        open: (sequence) => head()?.open(sequence) ?? false,
        submit: (pass) => {
          this.#roomTaken += 1;
          this.passes += 1;
          assertOk(this.#roomTaken <= options.window, "no pass goes beyond the link's window");
          const lease = this.#announced.get(pass.sequence);
          assertOk(lease !== undefined, "a lease is announced before its first pass");
          head()?.take({ pass, lease, epoch: this.#epoch });
        },
        held: (sequence) => head()?.heldOf(sequence) ?? 0,
        release: (sequence) => head()?.release(sequence),
        stats: () => ({
          sequencesOpen: 0,
          passesQueued: 0,
          positionsDecoded: 0,
          singleMs: options.singleMs,
          promptMsPerPosition: options.promptMs,
          cpuMs: 0,
          memoryBytes: 0,
        }),
      },
      draft: () => options.draft?.(this) ?? null,
      sequenceOf: ({ terms, work }) =>
        sequenceIdOf(
          { requestId: requestId(terms.requestId), choice: work.kind === "generate" ? work.choice : 0 },
          sha256,
        ),
      stageCount: () => options.stages,
      stageMs: () => ({ slowestMs: options.singleMs, sumMs: options.singleMs * options.stages }),
      room: () => options.window - this.#roomTaken,
      announce: (sequence, { leaseEpoch, promptLength }) => {
        assertEqual(promptLength, this.promptLengthOf(sequence));
        this.#announced.set(sequence, leaseEpoch);
      },
      release: () => undefined,
      nowMs: () => this.#nowMs,
      setTimer: (delayMs, fire) => this.after(delayMs, fire),
    };
  }

  /** Passes that wait in the head's engine and are dropped there leave the link's window. */
  dropped(index: number): void {
    if (index !== 0) return;
    this.#roomTaken -= 1;
  }
}

export function plainAnswer({ prompt, tokensMax, text }: Pick<Request, "prompt" | "tokensMax" | "text">): number[] {
  const tokens = [...prompt];
  while (tokens.length - prompt.length < tokensMax) {
    tokens.push(text(tokens));
    if (tokens.at(-1) === 0) break;
  }
  return tokens.slice(prompt.length);
}

function orderOf({ name, prompt, answer, tokensMax, lease }: Request): AttemptStart {
  return {
    type: "attempt.start",
    leaseId: leaseId(`lease_${name.slice(-13)}${String(lease).padStart(13, "0")}`),
    epoch: lease,
    attemptId: attemptId(`att_${"0".repeat(26)}`),
    replicaId: replicaId(`rep_${"0".repeat(26)}`),
    deadlineMs: 1e9,
    terms: {
      requestId: requestId(name),
      requestSha256: "0".repeat(64),
      weightsSha256: "0".repeat(64),
      tier: "default",
      inputMicroUsdPerMtok: 0,
      outputMicroUsdPerMtok: 0,
    },
    work: {
      kind: "generate",
      tokenIds: [...prompt, ...answer],
      generatedCount: answer.length,
      tokensMax: tokensMax - answer.length,
      sampling: { ...DEFAULT_SAMPLING, logitBias: [] },
      seed: "0".repeat(64),
      choice: 0,
      stopStrings: [],
      grammar: null,
      cacheScope: "0".repeat(32),
      ignoreStopTokens: false,
      topLogprobs: null,
    },
  };
}

function sha256(data: Uint8Array): Uint8Array {
  return createHash("sha256").update(data).digest();
}
