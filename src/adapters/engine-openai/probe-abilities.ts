/**
 * What a server can do with this model, tried: each ability is asked for once in a way that shows whether it was heeded. A server that takes a
 * field and passes over it lacks the ability as much as one that refuses the request.
 */
import { ENGINE_ABILITIES, type EngineAbility } from "../../domain/attached-engine.ts";
import { sha256Hex } from "../../domain/ids.ts";
import { DEFAULT_SAMPLING } from "../../domain/sampling.ts";
import type { GenerateEvent, GenerateTask } from "../../ports/engine.ts";
import type { Tokenizer } from "../../ports/tokenizer.ts";
import { AttachedSequence, type SequencePorts } from "./attached-sequence.ts";

export interface Probing extends Omit<SequencePorts, "onEvent"> {
  readonly signal: AbortSignal;
}

const PROMPT = "The";
const TOKENS = 4;
/** No text begins like that of its own. */
const GRAMMAR_TEXT = "zqzq";
const BIAS = 100;

/** Rejects, as a sequence fails, when it does not even generate. */
export async function probeAbilities(probing: Probing): Promise<readonly EngineAbility[]> {
  const { tokenizer, dialect } = probing;
  const tokenIds = await tokenizer.tokenize([{ text: PROMPT, special: false }], { addBos: true });
  const plain = await tried(probing, { tokenIds });
  if (!plain.ok) throw plain.fault;
  const lacks = new Set<EngineAbility>(dialect.neverHas);
  const heeds: Partial<Record<EngineAbility, () => Promise<boolean>>> = {
    grammar: () => heedsGrammar(probing, tokenIds),
    "logit-bias": () => heedsBias(probing, { tokenIds, drawn: plain.tokenIds }),
    logprobs: async () => {
      const answer = await tried(probing, { tokenIds, topLogprobs: 2 });
      return answer.ok && answer.hasLogprobs;
    },
    penalties: async () => (await tried(probing, { tokenIds, penalty: 2 })).ok,
    "ignore-stop-tokens": async () => (await tried(probing, { tokenIds, ignoresStops: true })).ok,
  };
  for (const ability of ENGINE_ABILITIES) {
    const look = heeds[ability];
    if (lacks.has(ability) || look === undefined) continue;
    if (!(await look())) lacks.add(ability);
  }
  return ENGINE_ABILITIES.filter((ability) => lacks.has(ability));
}

async function heedsGrammar(probing: Probing, tokenIds: readonly number[]): Promise<boolean> {
  const answer = await tried(probing, { tokenIds, grammar: `root ::= "${GRAMMAR_TEXT}" [a-z]*` });
  if (!answer.ok) return false;
  const text = textOf(probing.tokenizer, answer.tokenIds);
  return text.length > 0 && (text.startsWith(GRAMMAR_TEXT) || GRAMMAR_TEXT.startsWith(text));
}

/** A token that was not drawn before is made as likely as can be. */
async function heedsBias(
  probing: Probing,
  { tokenIds, drawn }: { readonly tokenIds: readonly number[]; readonly drawn: readonly number[] },
): Promise<boolean> {
  const { tokenizer } = probing;
  const wanted = await tokenizer.tokenize([{ text: "z", special: false }], { addBos: false });
  const biased = wanted.at(-1);
  if (biased === undefined || drawn.includes(biased)) return false;
  const answer = await tried(probing, { tokenIds, bias: biased });
  return answer.ok && answer.tokenIds[0] === biased;
}

type Answer =
  | { readonly ok: true; readonly tokenIds: readonly number[]; readonly hasLogprobs: boolean }
  | { readonly ok: false; readonly fault: Error };

interface Trial {
  readonly tokenIds: readonly number[];
  readonly grammar?: string;
  readonly topLogprobs?: number;
  readonly penalty?: number;
  readonly bias?: number;
  readonly ignoresStops?: boolean;
}

function tried(probing: Probing, trial: Trial): Promise<Answer> {
  const { signal, ...ports } = probing;
  return new Promise((resolve) => {
    const tokenIds: number[] = [];
    let hasLogprobs = true;
    const onEvent = (event: GenerateEvent) => {
      if (event.kind === "tokens") {
        for (const token of event.tokens) {
          tokenIds.push(token.tokenId);
          hasLogprobs &&= token.logprob !== null && token.top.length > 0;
        }
      } else if (event.kind === "end") resolve({ ok: true, tokenIds, hasLogprobs });
      else resolve({ ok: false, fault: new Error(`${event.code}: ${event.message}`) });
    };
    const sequence = new AttachedSequence(taskOf(trial), { ...ports, onEvent });
    const stop = () => sequence.fail("engine-closed", "the load was stopped");
    signal.addEventListener("abort", stop, { once: true });
    void sequence.run().finally(() => signal.removeEventListener("abort", stop));
  });
}

function taskOf({ tokenIds, penalty = 0, bias, ...trial }: Trial): GenerateTask {
  return {
    tokenIds,
    generatedCount: 0,
    tokensMax: TOKENS,
    sampling: {
      ...DEFAULT_SAMPLING,
      temperature: 0,
      frequencyPenalty: penalty,
      presencePenalty: penalty,
      logitBias: bias === undefined ? [] : [[bias, BIAS]],
    },
    seed: sha256Hex("0".repeat(64)),
    choice: 0,
    stopStrings: [],
    grammar: trial.grammar ?? null,
    cacheScope: "0".repeat(32),
    ignoreStopTokens: trial.ignoresStops ?? false,
    topLogprobs: trial.topLogprobs ?? null,
  };
}

function textOf(tokenizer: Tokenizer, tokenIds: readonly number[]): string {
  return Buffer.concat(tokenIds.map((tokenId) => tokenizer.piece(tokenId))).toString("utf8");
}
