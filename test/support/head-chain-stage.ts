/** One stage of a `HeadChain`: it keeps tokens where a real one keeps keys and values, and serves one batch at a time. */
import { strictEqual as assertEqual, ok as assertOk } from "node:assert";
import type { SequenceId } from "../../src/domain/chain.ts";
import type { StagePass } from "../../src/ports/stage-engine.ts";
import type { HeadChain } from "./head-chain.ts";

interface Held {
  tokens: number[];
  how: StagePass["how"][];
  isOpen: boolean;
  /** Under which lease a pass came last, and how much of what is held then is no draft. */
  lease: number;
  confirmed: number;
}

export interface Passing {
  readonly pass: StagePass;
  readonly lease: number;
  readonly epoch: number;
  /** What the stage holds once it has carried it out. */
  readonly held?: readonly number[];
}

export class ScriptedStage {
  readonly #chain: HeadChain;
  readonly #index: number;
  readonly #held = new Map<SequenceId, Held>();
  #queue: Passing[] = [];
  #serving: readonly Passing[] = [];
  #isBusy = false;

  constructor(chain: HeadChain, index: number) {
    this.#chain = chain;
    this.#index = index;
  }

  heldOf(sequence: SequenceId): number {
    return this.#held.get(sequence)?.tokens.length ?? 0;
  }

  /** Where a pass may begin: drafts of an older lease that nobody confirmed do not count. */
  reachOf(sequence: SequenceId, lease: number): number {
    const held = this.#held.get(sequence);
    if (held === undefined) return 0;
    return held.lease === lease ? held.tokens.length : Math.min(held.tokens.length, held.confirmed);
  }

  open(sequence: SequenceId): boolean {
    const known = this.#held.get(sequence);
    const released = [...this.#held].filter(([, held]) => !held.isOpen);
    if (known === undefined && this.#held.size >= this.#chain.options.sequencesMax) {
      const [oldest] = released;
      if (oldest === undefined) return false;
      this.#held.delete(oldest[0]);
    }
    const held = known ?? { tokens: [], how: [], isOpen: true, lease: 0, confirmed: 0 };
    this.#held.delete(sequence);
    this.#held.set(sequence, { ...held, isOpen: true });
    return true;
  }

  release(sequence: SequenceId): void {
    const held = this.#held.get(sequence);
    if (held === undefined) return;
    held.isOpen = false;
    // The latest released goes last.
    this.#held.delete(sequence);
    this.#held.set(sequence, held);
    const waiting = this.#queue.filter(({ pass }) => pass.sequence === sequence);
    this.#queue = this.#queue.filter(({ pass }) => pass.sequence !== sequence);
    const [first] = waiting;
    // What was dropped was never computed.
    if (first !== undefined) held.tokens.length = Math.min(held.tokens.length, first.pass.start);
    for (const _ of waiting) this.#chain.dropped(this.#index);
  }

  forget(sequence: SequenceId): void {
    const isBusyWith = [...this.#queue, ...this.#serving].some(({ pass }) => pass.sequence === sequence);
    if (!isBusyWith) this.#held.delete(sequence);
  }

  wipe(): void {
    this.#held.clear();
    this.#queue = [];
  }

  idle(): void {
    const dropped = new Set(this.#queue.map(({ pass }) => pass.sequence));
    for (const sequence of dropped) {
      const first = this.#queue.find(({ pass }) => pass.sequence === sequence);
      const held = this.#held.get(sequence);
      if (held !== undefined && first !== undefined)
        held.tokens.length = Math.min(held.tokens.length, first.pass.start);
    }
    this.#queue = [];
  }

  take(passing: Passing): void {
    const { pass } = passing;
    const held = this.#held.get(pass.sequence) ?? { tokens: [], how: [], isOpen: true, lease: 0, confirmed: 0 };
    assertOk(this.#index > 0 || held.isOpen, "the head submits passes of open sequences only");
    this.#held.set(pass.sequence, held);
    this.#check(pass, held);
    held.tokens.length = pass.start;
    held.how.length = pass.start;
    held.lease = passing.lease;
    held.confirmed = pass.start + pass.count - (pass.draw?.draftIds.length ?? 0);
    const tokenIds = pass.input.kind === "tokens" ? pass.input.tokenIds : [];
    assertEqual(tokenIds.length, pass.count);
    for (const tokenId of tokenIds) {
      held.tokens.push(tokenId);
      held.how.push(pass.how);
    }
    this.#queue.push({ ...passing, held: [...held.tokens] });
    if (!this.#isBusy) this.#serve();
  }

  #check(pass: StagePass, held: Held): void {
    assertOk(pass.start <= held.tokens.length, "a pass begins at what is held or before");
    const promptLength = this.#chain.promptLengthOf(pass.sequence);
    const isOfPrompt = pass.start < promptLength;
    assertEqual(pass.how, isOfPrompt ? "together" : "singly");
    if (isOfPrompt) {
      assertOk(pass.count >= 2 || promptLength === 1, "a piece of a prompt has two positions");
      assertOk(pass.start + pass.count <= promptLength, "a piece of a prompt ends with it");
    }
    assertOk((pass.draw?.draftIds.length ?? 0) < pass.count, "a draw follows a token that is no draft");
    assertOk(pass.count * 2_048 * 4 <= 1024 * 1024, "a pass fits in a frame");
  }

  /** One batch: all single positions that wait, or one piece. */
  #serve(): void {
    const [first] = this.#queue;
    this.#isBusy = first !== undefined;
    if (first === undefined) return;
    const { singleMs, promptMs } = this.#chain.options;
    const other = this.#queue.findIndex(({ pass }) => pass.how !== first.pass.how);
    const length = first.pass.how === "together" ? 1 : other < 0 ? this.#queue.length : other;
    const batch = this.#queue.splice(0, length);
    this.#serving = batch;
    const positions = batch.reduce((sum, { pass }) => sum + pass.count, 0);
    this.#chain.batches[this.#index]?.push(batch.length);
    this.#chain.after(positions * (first.pass.how === "singly" ? singleMs : promptMs), () => {
      for (const passing of batch) {
        if (this.#chain.isCurrent(passing.epoch)) this.#chain.done(this.#index, passing);
      }
      this.#serving = [];
      this.#serve();
    });
  }
}
