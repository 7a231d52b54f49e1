/** What the engine of a stage gave in one report, sorted by who waits for it. */
import type { SequenceId } from "../../domain/chain.ts";
import type { StageEvent } from "../../ports/stage-engine.ts";
import type { PassRun } from "./stage-intake.ts";
import type { TailDesk, TokensEntry } from "./tail-desk.ts";

type Output = Extract<StageEvent, { kind: "output" }>;
type Failed = Extract<StageEvent, { kind: "failed" }>;

export interface SortedEvents {
  /** For the first stage. */
  readonly tokens: readonly TokensEntry[];
  /** Tell the attempts, once the first stage's are on their way. */
  readonly tells: readonly (() => void)[];
  /** Passes that are over. */
  readonly outputs: readonly { readonly sequence: SequenceId; readonly tag: number }[];
}

export function sortEvents(
  events: readonly StageEvent[],
  to: {
    readonly tail: TailDesk;
    /** What a pass belongs to; asked once for each. */
    runOf(tag: number): PassRun | null;
    onOutput(output: Output, run: PassRun | null): void;
    onFailed(failed: Failed, code: Failed["code"]): void;
  },
): SortedEvents {
  const tells: (() => void)[] = [];
  const tokens: TokensEntry[] = [];
  const outputs: { readonly sequence: SequenceId; readonly tag: number }[] = [];
  for (const event of events) {
    const run = event.kind === "end" ? null : to.runOf(event.tag);
    if (event.kind === "output") {
      to.onOutput(event, run);
      outputs.push(event);
    } else if (event.kind === "failed") {
      // Tokens of a pass are others' drafts: the attempt's own were looked at when it began.
      const isOthersToken = run !== null && event.code === "token-out-of-vocabulary";
      to.onFailed(event, isOthersToken ? "engine-crashed" : event.code);
      outputs.push(event);
    } else if (event.kind !== "done") {
      const taken = to.tail.take(event, event.kind === "end" ? null : (run?.leaseEpoch ?? -1));
      if (taken === null) continue;
      tokens.push(taken.entry);
      tells.push(taken.tell);
    }
  }
  return { tokens, tells, outputs };
}
