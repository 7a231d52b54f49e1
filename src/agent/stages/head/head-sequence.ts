/**
 * One sequence at the head of a chain: its tokens, what of them went into the engine, and what is on its way.
 *
 * | what it is | next pass                         | ends with                                    |
 * | ---------- | --------------------------------- | -------------------------------------------- |
 * | closed     | none: no slot of the engine free  | a slot                                       |
 * | feeding    | a piece of what is not yet held   | its last position went in: in flight         |
 * | generating | the last token, and drafts        | it went in: in flight                        |
 * | drafting   | none: waits for the draft model   | drafts, or the end of the wait: generating   |
 * | in flight  | none                              | tokens: generating; a gap: feeding           |
 */
import { assert } from "../../../domain/assert.ts";
import type { SequenceId } from "../../../domain/chain.ts";
import { LookupIndex } from "../../../inference/pipeline/lookup-index.ts";
import type { FeedingWork } from "../../../inference/pipeline/micro-batch.ts";
import type { DraftChoice, Speculation } from "../../../inference/pipeline/speculation.ts";
import type { Timer } from "../../../ports/clock.ts";
import type { AttemptStart } from "../../../wire/agent-link.ts";

export type GenerateWork = Extract<AttemptStart["work"], { kind: "generate" }>;

/** A pass whose draw has not come back. */
export interface Flight {
  /** Ids of its drafts, behind the sequence's tokens. */
  readonly draftIds: readonly number[];
  readonly sent: DraftChoice | null;
  readonly sentAtMs: number;
  readonly waitedMs: number;
  /** It carried the last token only, so its way around the chain is a loop. */
  readonly isLoop: boolean;
}

export class HeadSequence {
  readonly sequence: SequenceId;
  readonly leaseId: string;
  readonly epoch: number;
  readonly work: GenerateWork;
  /** Order of arrival. */
  readonly order: number;
  readonly promptLength: number;
  /** From then on nobody waits for it. */
  readonly deadlineAtMs: number;
  readonly speculation: Speculation;
  readonly lookup = new LookupIndex();
  readonly tokens: number[] = [];
  isOpen = false;
  /** Positions below it went into the engine under this lease or were held. */
  next = 0;
  flight: Flight | null = null;
  /** Drafts that go with its next token, if they are there then. */
  plan: DraftChoice | null = null;
  /** Runs while it waits for the draft model. */
  draftWait: Timer | null = null;
  readyAtMs = 0;
  /** Positions that the engine surely holds of `tokens`: what was under way when a lease ends may be dropped, and drafts may be wrong. */
  sure = 0;
  /** When its next token became ready; the oldest goes first. */
  readyOrder = 0;
  gaps = 0;

  constructor(
    order: Pick<AttemptStart, "leaseId" | "epoch">,
    run: {
      readonly sequence: SequenceId;
      readonly work: GenerateWork;
      readonly arrival: number;
      readonly deadlineAtMs: number;
      readonly speculation: Speculation;
    },
  ) {
    this.sequence = run.sequence;
    this.leaseId = order.leaseId;
    this.epoch = order.epoch;
    this.work = run.work;
    this.order = run.arrival;
    this.promptLength = run.work.tokenIds.length - run.work.generatedCount;
    assert(this.promptLength >= 1, `a prompt of ${this.promptLength} tokens has one`);
    this.deadlineAtMs = run.deadlineAtMs;
    this.speculation = run.speculation;
    this.append(run.work.tokenIds);
  }

  append(tokenIds: readonly number[]): void {
    for (const tokenId of tokenIds) {
      this.tokens.push(tokenId);
      this.lookup.append(tokenId);
    }
  }

  /** Only its last token is missing, and that was generated: it goes alone, with drafts behind it. */
  get isGenerating(): boolean {
    return this.next === this.tokens.length - 1 && this.tokens.length > this.promptLength;
  }

  get canFeed(): boolean {
    return this.isOpen && this.flight === null && !this.isGenerating;
  }

  /** What waits to be fed, and what of it is under way. */
  get feeding(): FeedingWork {
    const { order, next, sure, promptLength, work } = this;
    return { order, isMoved: work.generatedCount > 0, isReplay: next >= promptLength, positionsOut: next - sure };
  }

  get canGenerate(): boolean {
    return this.isOpen && this.flight === null && this.draftWait === null && this.isGenerating;
  }

  /** Tokens that may still be generated. */
  get tokensLeft(): number {
    return this.work.tokenIds.length + this.work.tokensMax - this.tokens.length;
  }

  stopWaiting(): void {
    this.draftWait?.cancel();
    this.draftWait = null;
  }
}
