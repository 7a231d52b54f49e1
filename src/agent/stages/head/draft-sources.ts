/** Where a sequence's drafts come from: its own text looked up, or the draft model; whichever promises more for its time, or neither. */
import type { SequenceId } from "../../../domain/chain.ts";
import { lookupKind } from "../../../inference/pipeline/acceptance.ts";
import {
  DRAFTS_MAX,
  type DraftChoice,
  type DraftOffer,
  type LoopTimes,
} from "../../../inference/pipeline/speculation.ts";
import type { HeadPorts } from "../stage-roles.ts";
import { DraftStreams, RUN_AHEAD_TOKENS, TRY_AHEAD_TOKENS } from "./draft-stream.ts";
import type { HeadSequence } from "./head-sequence.ts";

export class DraftSources {
  readonly #contextTokens: number;
  readonly #speculates: boolean;
  readonly #streams: DraftStreams;

  constructor(ports: HeadPorts, onDrafts: (sequence: SequenceId) => void) {
    this.#speculates = ports.speculates ?? true;
    this.#contextTokens = ports.engine.info.contextTokens;
    this.#streams = new DraftStreams({ engine: () => ports.draft(), nowMs: () => ports.nowMs(), onDrafts });
  }

  /** What the sequence's next token should take along. */
  plan(run: HeadSequence, times: LoopTimes): DraftChoice | null {
    const draftsMax = this.#draftsMax(run);
    if (draftsMax < 1) return null;
    this.follow(run, times);
    const offers: DraftOffer[] = [];
    const match = run.lookup.find();
    if (match !== null) offers.push({ kind: lookupKind(match.length), count: DRAFTS_MAX, waitMs: () => 0 });
    if (this.#streams.has(run.sequence)) {
      offers.push({ kind: "model", count: DRAFTS_MAX, waitMs: (drafts) => this.#streams.waitMs(run, drafts) });
    }
    return run.speculation.choose(offers, times, draftsMax);
  }

  /** The drafts as planned, or what of them is there. */
  take(run: HeadSequence): readonly number[] {
    const { plan } = run;
    if (plan === null) return [];
    const drafts = Math.min(plan.drafts, this.#draftsMax(run));
    if (plan.offer.kind === "model") return this.#streams.ready(run).slice(0, drafts);
    const match = run.lookup.find();
    return match === null ? [] : run.lookup.draft(match, drafts);
  }

  /** All that it waits for is there. */
  isReady(run: HeadSequence): boolean {
    return run.plan === null || this.#streams.waitMs(run, run.plan.drafts) === 0;
  }

  /** Lets the model run ahead of the sequence where that may pay. */
  follow(run: HeadSequence, times: LoopTimes | null): void {
    const mayDraft = times !== null && this.#draftsMax(run) > 0 && this.#streams.isQuickFor(times.loopMs);
    const worth = mayDraft ? run.speculation.worth("model", times) : "no";
    if (worth === "no") this.#streams.drop(run.sequence);
    else this.#streams.follow(run, worth === "yes" ? RUN_AHEAD_TOKENS : TRY_AHEAD_TOKENS);
  }

  drop(sequence: SequenceId): void {
    this.#streams.drop(sequence);
  }

  /** The context and the answer's length end drafts, too. */
  #draftsMax(run: HeadSequence): number {
    if (!this.#speculates) return 0;
    return Math.min(DRAFTS_MAX, run.tokensLeft - 1, this.#contextTokens - run.tokens.length);
  }
}
