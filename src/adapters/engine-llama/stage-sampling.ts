/** How a sequence samples on a chain's last stage: the rules of `running-sequence.ts`, begun when they become known. */
import type { StopReason } from "../../domain/sampling.ts";
import type { GenerateCommand } from "./child-protocol.ts";
import type { GrammarParser } from "./grammar-mask.ts";
import type { LoadedModel } from "./loaded-model.ts";
import { RunningSequence } from "./running-sequence.ts";

export type SamplingStart =
  | { readonly kind: "sampling"; readonly sequence: RunningSequence }
  | { readonly kind: "over"; readonly reason: StopReason }
  | { readonly kind: "refused"; readonly message: string };

/** Takes what was generated so far into the sampler, the stop rules and the grammar. */
export function startSampling(
  command: GenerateCommand,
  parts: { readonly loaded: LoadedModel; readonly grammars: GrammarParser; readonly slot: number },
): SamplingStart {
  const grammar = command.grammar === null ? null : parts.grammars.parse(command.grammar);
  if (typeof grammar === "string") return { kind: "refused", message: grammar };
  const { vocabulary, contextTokens } = parts.loaded;
  const places = { slot: parts.slot, order: 0, cachedTokens: 0, contextTokens };
  const sequence = new RunningSequence({ command, vocabulary, grammar, ...places });
  const replayed = sequence.replay();
  if (replayed === null) return { kind: "sampling", sequence };
  sequence.free();
  if (replayed !== "grammar-mismatch") return { kind: "over", reason: replayed };
  return { kind: "refused", message: "the tokens generated so far do not fit the grammar" };
}
