/**
 * One choice from token ids to what a client sees: bytes, stop strings, characters, then the parser of its answers. Counts
 * what went in, and how much of it has reached the client's side: a token counts as delivered once nothing of it is held.
 */
import { assert } from "../../../domain/assert.ts";
import type { SampledToken, StopReason, TokenLogprob } from "../../../domain/sampling.ts";
import type { OutputDelta, OutputParser } from "../../../inference/chat/conversation.ts";
import { Utf8Stream } from "../../../inference/detokenise.ts";
import { StopMatcher } from "../../../inference/stop-strings.ts";
import type { FinishReason, TokenLogprobEntry } from "../../../wire/openai/responses.ts";
import type { Vocabulary } from "../plans/prepared-model.ts";

export interface ChoiceTextOptions {
  /** Null where the grid has none of the model: then no tokens come, only text. */
  readonly vocabulary: Vocabulary | null;
  readonly parser: OutputParser;
  readonly stopStrings: readonly string[];
  readonly markers: ReadonlyMap<number, Uint8Array>;
  readonly ignoreStopTokens: boolean;
  readonly hasLogprobs: boolean;
}

/** What one step adds to a choice. */
export interface ChoiceStep {
  readonly deltas: readonly OutputDelta[];
  readonly logprobs: readonly TokenLogprobEntry[];
}

const NO_BYTES = new Uint8Array(0);

export class ChoiceText {
  readonly #options: ChoiceTextOptions;
  readonly #stops: StopMatcher | null;
  readonly #utf8 = new Utf8Stream();
  #hasToolCall = false;
  #stopString: string | null = null;
  /** Shown as a provider parsed it, and not yet known to the search for stop strings and the parser. */
  #unparsed = "";
  /** Of what a provider showed before: the parser says it again. */
  #skippedChars = 0;
  /** By the search for stop strings. */
  #heldBytes = 0;
  /** Tokens taken in, those of a stop string included. */
  consumedTokens = 0;
  deliveredTokens = 0;

  constructor(options: ChoiceTextOptions) {
    this.#options = options;
    const encoder = new TextEncoder();
    this.#stops =
      options.stopStrings.length === 0
        ? null
        : new StopMatcher(options.stopStrings.map((text) => encoder.encode(text)));
  }

  /** A stop string was met: what follows does not belong to the answer. */
  get isStopped(): boolean {
    return this.#stopString !== null;
  }

  /** The stop string that was met. */
  get stopString(): string | null {
    return this.#stopString;
  }

  /** Something of what was taken in may not be shown yet. */
  get isHolding(): boolean {
    return this.#heldBytes > 0 || this.#utf8.isHolding || this.#options.parser.isHolding;
  }

  /** A provider has parsed this itself. */
  pass(delta: OutputDelta): ChoiceStep {
    if (delta.kind === "text") this.#unparsed += delta.text;
    if (delta.kind === "tool-call") this.#hasToolCall = true;
    return { deltas: [delta], logprobs: [] };
  }

  /** Whole characters of the model's own text, where no token ids are known. */
  pushText(text: string): ChoiceStep {
    if (this.#unparsed !== "") this.#catchUp();
    return { deltas: this.isStopped ? [] : this.#parsed(this.#parse(text)), logprobs: [] };
  }

  push(tokens: readonly SampledToken[]): ChoiceStep {
    if (tokens.length > 0 && this.#unparsed !== "") this.#catchUp();
    const logprobs: TokenLogprobEntry[] = [];
    let text = "";
    for (const token of tokens) {
      if (this.isStopped) break;
      this.consumedTokens++;
      const bytes = this.#bytesOf(token.tokenId);
      const step = this.#stops?.push(bytes) ?? null;
      text += this.#utf8.push(step?.released ?? bytes);
      if (step !== null && step.matched !== null) this.#stopString = this.#options.stopStrings[step.matched] ?? "";
      if (step !== null) this.#heldBytes += bytes.length - step.released.length;
      if (this.#options.hasLogprobs && token.logprob !== null && !this.#isStopToken(token.tokenId)) {
        logprobs.push(logprobEntry(this.#vocabulary, token));
      }
    }
    const deltas = text === "" ? [] : this.#parsed(this.#options.parser.push(text));
    if (!this.isHolding) this.deliveredTokens = this.consumedTokens;
    return { deltas, logprobs };
  }

  /** The end of the answer: what was held comes out. Called once. */
  finish(reason: StopReason): { readonly deltas: readonly OutputDelta[]; readonly finishReason: FinishReason } {
    const rest = this.isStopped || this.#stops === null ? NO_BYTES : this.#stops.flush();
    const text = this.#utf8.push(rest) + this.#utf8.flush();
    const { parser } = this.#options;
    const pushed = text === "" ? [] : parser.push(text);
    const deltas = this.#parsed([...pushed, ...parser.finish()]);
    this.deliveredTokens = this.consumedTokens;
    if (reason === "length") return { deltas, finishReason: "length" };
    return { deltas, finishReason: this.#hasToolCall ? "tool_calls" : "stop" };
  }

  get #vocabulary(): Vocabulary {
    const { vocabulary } = this.#options;
    assert(vocabulary !== null, "tokens come of models whose vocabulary the grid has");
    return vocabulary;
  }

  #bytesOf(tokenId: number): Uint8Array {
    if (this.#isStopToken(tokenId)) return NO_BYTES;
    return this.#options.markers.get(tokenId) ?? this.#vocabulary.bytes(tokenId);
  }

  #isStopToken(tokenId: number): boolean {
    return !this.#options.ignoreStopTokens && this.#vocabulary.stopTokenIds.has(tokenId);
  }

  /** Stop strings and calls may begin in what was shown before and end in what comes: all of it is read, and nothing shown twice. */
  #catchUp(): void {
    const shown = this.#unparsed;
    this.#unparsed = "";
    const again = this.#parse(shown);
    const said = again.reduce((chars, delta) => chars + (delta.kind === "text" ? delta.text.length : 0), 0);
    this.#skippedChars = shown.length - said;
  }

  #parse(text: string): readonly OutputDelta[] {
    const bytes = new TextEncoder().encode(text);
    const step = this.#stops?.push(bytes) ?? null;
    if (step !== null && step.matched !== null) this.#stopString = this.#options.stopStrings[step.matched] ?? "";
    if (step !== null) this.#heldBytes += bytes.length - step.released.length;
    const released = this.#utf8.push(step?.released ?? bytes);
    return released === "" ? [] : this.#options.parser.push(released);
  }

  #parsed(deltas: readonly OutputDelta[]): readonly OutputDelta[] {
    if (deltas.some((delta) => delta.kind === "tool-call")) this.#hasToolCall = true;
    return this.#skippedChars === 0 ? deltas : deltas.flatMap((delta) => this.#unsaid(delta));
  }

  #unsaid(delta: OutputDelta): readonly OutputDelta[] {
    if (delta.kind !== "text") return [delta];
    const text = delta.text.slice(this.#skippedChars);
    this.#skippedChars -= delta.text.length - text.length;
    return text === "" ? [] : [{ kind: "text", text }];
  }
}

function logprobEntry(vocabulary: Vocabulary, token: SampledToken): TokenLogprobEntry {
  const own = { tokenId: token.tokenId, logprob: token.logprob ?? 0 };
  return { ...shownLogprob(vocabulary, own), top_logprobs: token.top.map((other) => shownLogprob(vocabulary, other)) };
}

/** What OpenAI shows for a token that is next to impossible; JSON has no infinity. */
const LOGPROB_LEAST = -9999;

function shownLogprob(vocabulary: Vocabulary, { tokenId, logprob }: TokenLogprob) {
  return {
    token: vocabulary.text(tokenId),
    logprob: Math.max(logprob, LOGPROB_LEAST),
    bytes: [...vocabulary.bytes(tokenId)],
  };
}
