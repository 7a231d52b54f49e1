/** A pass while it is carried out: what is done of it, and what it has given so far. */
import type { SampledToken, StopReason } from "../../domain/sampling.ts";
import type { SamplerScratch } from "../../inference/sampler.ts";
import type { RunningSequence } from "./running-sequence.ts";
import type { DecodePart } from "./stage-decoder.ts";
import type { PassCommand } from "./stage-protocol.ts";

export class RunningPass {
  readonly command: PassCommand;
  readonly order: number;
  /** Null where nothing is drawn. */
  readonly sequence: RunningSequence | null;
  readonly #hidden: Float32Array | null;
  readonly #tokens: SampledToken[] = [];
  readonly #logits: Float32Array[] = [];
  #done = 0;
  #isOver = false;
  #end: StopReason | null = null;
  #output: Float32Array | null = null;

  constructor(parts: {
    readonly command: PassCommand;
    readonly order: number;
    readonly hidden: Float32Array | null;
    readonly sequence: RunningSequence | null;
  }) {
    this.command = parts.command;
    this.order = parts.order;
    this.sequence = parts.sequence;
    this.#hidden = parts.hidden;
  }

  get isSingly(): boolean {
    return !this.command.isTogether || this.command.count === 1;
  }

  get left(): number {
    return this.command.count - this.#done;
  }

  /** All is decoded, or a draw was not the draft that follows, or the answer is over. */
  get isOver(): boolean {
    return this.#isOver || this.left === 0;
  }

  /** Positions that the sequence holds now. */
  get held(): number {
    return this.command.start + this.#done;
  }

  get end(): StopReason | null {
    return this.#end;
  }

  get tokens(): readonly SampledToken[] {
    return this.#tokens;
  }

  get logits(): readonly Float32Array[] {
    return this.#logits;
  }

  get output(): Float32Array {
    return this.#output ?? new Float32Array(0);
  }

  /** The next positions, with a row of logits for each that is drawn after. */
  part(count: number): DecodePart {
    const { slot, tokenIds } = this.command;
    return {
      slot,
      start: this.held,
      count,
      tokenIds,
      hidden: this.#hidden,
      offset: this.#done,
      rows: this.rowsOf(count),
    };
  }

  rowsOf(count: number): number {
    const { draftIds } = this.command;
    if (this.sequence === null || draftIds === null) return 0;
    const firstDrawn = this.command.count - 1 - draftIds.length;
    return Math.max(0, Math.min(count, this.#done + count - firstDrawn));
  }

  /** Hidden states of the next `count` positions. */
  takeHidden(rows: Float32Array, count: number): void {
    const width = rows.length / count;
    this.#output ??= new Float32Array(this.command.count * width);
    this.#output.set(rows, this.#done * width);
    this.#done += count;
  }

  /** Draws after the next `count` positions from the rows wanted of them. False when the logits are broken. */
  takeLogits(rows: readonly Float32Array[], count: number, scratch: SamplerScratch): boolean {
    const before = this.#done;
    this.#done += count;
    for (const [index, row] of rows.entries()) {
      const at = before + count - rows.length + index;
      if (this.command.wantsLogits) this.#logits.push(row.slice());
      const outcome = this.sequence?.next(row, scratch);
      if (outcome === undefined || outcome.kind === "broken-logits") return false;
      if (outcome.kind === "token") this.#tokens.push(outcome.token);
      this.#end = outcome.kind === "token" ? outcome.end : outcome.reason;
      if (this.#end === null && this.#isNextDraft(at)) continue;
      this.#isOver = true;
      this.#done = at + 1;
      break;
    }
    return true;
  }

  /** Whether what was drawn last is what stands at the next position; after the last one there is nothing to compare with. */
  #isNextDraft(at: number): boolean {
    const { draftIds, count } = this.command;
    const draft = draftIds?.[at + 1 - (count - (draftIds?.length ?? 0))];
    return at === count - 1 || draft === this.#tokens.at(-1)?.tokenId;
  }
}
