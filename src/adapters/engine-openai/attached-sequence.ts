/**
 * One sequence on a server. The server generates; what ends it is decided here, by the same rules as in our own engine: a token that ends
 * generation, a stop string, so many tokens. So a stream that moves from a server to our engine, or back, is cut in the same places.
 *
 * | the server                                   | the sequence                                                |
 * | -------------------------------------------- | ----------------------------------------------------------- |
 * | sends ids                                    | tokens, until one of the three ends it                       |
 * | counts more tokens than the ids it sent       | the text that came with them is spelt                        |
 * | counts fewer                                 | failed: it repeats itself                                    |
 * | sends text                                   | words are spelt                                             |
 * | says that it stopped                         | an end-of-generation token, unless that was the last one     |
 * | says that it reached its limit, early         | asked again from there, `ROUNDS_MAX` times                   |
 * | sends an id that is none                     | failed: `token-out-of-vocabulary`                            |
 * | sends nothing for too long                   | failed: `engine-hung`                                       |
 * | ends without an end, or in another language   | failed: `engine-crashed`                                    |
 */
import { FallowError } from "../../domain/fault.ts";
import type { SampledToken, StopReason } from "../../domain/sampling.ts";
import { StopMatcher } from "../../inference/stop-strings.ts";
import type { EngineFailure, GenerateEvent, GenerateTask } from "../../ports/engine.ts";
import type { Tokenizer } from "../../ports/tokenizer.ts";
import type { AskedText, Dialect, StreamPart } from "./dialect.ts";
import type { ServerHttp } from "./server-http.ts";
import { eventOf } from "./stream-events.ts";
import type { TextStream, TextTokens } from "./text-tokens.ts";

export interface SequencePorts {
  readonly server: ServerHttp;
  readonly dialect: Dialect;
  readonly servedAs: string;
  readonly tokenizer: Tokenizer;
  readonly text: TextTokens;
  /** Until the first token, and between two of them. */
  readonly firstByteMsMax: number;
  readonly silenceMsMax: number;
  onEvent(event: GenerateEvent): void;
}

/** A server that ends early every time is no use; each round costs the prompt again. */
const ROUNDS_MAX = 64;
/** A token in a stream: its text, the numbers around it, twenty alternatives. */
const BYTES_PER_TOKEN_MAX = 16 * 1024;
const STREAM_BYTES_FLOOR = 1024 * 1024;

type Step = StopReason | "server-limit" | null;

export class AttachedSequence {
  readonly #task: GenerateTask;
  readonly #ports: SequencePorts;
  readonly #abort = new AbortController();
  #stops: StopMatcher;
  readonly #stopIds: ReadonlySet<number>;
  readonly #output: number[] = [];
  #cachedTokens = 0;
  #isOver = false;

  constructor(task: GenerateTask, ports: SequencePorts) {
    this.#task = task;
    this.#ports = ports;
    this.#stopIds = new Set(task.ignoreStopTokens ? [] : ports.tokenizer.stopTokenIds);
    this.#stops = matcherOf(task);
  }

  get tokensGenerated(): number {
    return this.#output.length;
  }

  /** Resolves when it is over, however it ended. */
  async run(): Promise<void> {
    try {
      const reason = await this.#generate();
      const { tokenIds } = this.#task;
      const usage = {
        promptTokens: tokenIds.length,
        cachedTokens: Math.min(this.#cachedTokens, tokenIds.length),
        outputTokens: this.#output.length,
      };
      this.#finish({ kind: "end", reason, usage });
    } catch (thrown) {
      this.#finish({ kind: "failed", ...failureOf(thrown) });
    }
  }

  /** The engine is gone, with its reason. */
  fail(code: EngineFailure, message: string): void {
    this.#finish({ kind: "failed", code, message });
    this.#abort.abort();
  }

  abort(): void {
    this.#isOver = true;
    this.#abort.abort();
  }

  async #generate(): Promise<StopReason> {
    const { tokenIds, generatedCount, tokensMax } = this.#task;
    for (const tokenId of generatedCount === 0 ? [] : tokenIds.slice(-generatedCount)) {
      // One that was met ended the text there; whoever goes on all the same begins to look anew.
      if (this.#stops.push(this.#ports.tokenizer.piece(tokenId)).matched !== null) this.#stops = matcherOf(this.#task);
    }
    for (let round = 1; ; round++) {
      const before = this.#output.length;
      const step = await this.#round();
      if (step !== null && step !== "server-limit") return step;
      if (this.#output.length === before || round >= ROUNDS_MAX) {
        const message = `the server ended after ${this.#output.length} of ${tokensMax} tokens, ${round} times`;
        throw new FallowError("attached-malformed", message);
      }
    }
  }

  /** One request, to its end. */
  async #round(): Promise<Step> {
    const { server, dialect, firstByteMsMax, silenceMsMax } = this.#ports;
    const asked = this.#asked();
    const { path, body } = dialect.request(asked);
    const bytesMax = STREAM_BYTES_FLOOR + asked.tokensMax * BYTES_PER_TOKEN_MAX;
    const bounds = { signal: this.#abort.signal, firstByteMsMax, silenceMsMax, bytesMax };
    const read = dialect.reader();
    const words = this.#ports.text.stream();
    let seen = 0;
    for await (const line of server.lines(path, body, bounds)) {
      const event = eventOf(line, dialect.framing);
      if (event === null) continue;
      const part = read(event);
      this.#cachedTokens = Math.max(this.#cachedTokens, part.cachedTokens ?? 0);
      const { tokens, count } = await this.#tokensOf(part, { words, seen });
      seen = count;
      const step = this.#take(tokens) ?? (part.end === null ? null : await this.#ended(part.end, words));
      if (step !== null) return step;
    }
    throw new FallowError("attached-unreachable", "the stream ended without an end");
  }

  #asked(): AskedText {
    const { task, ports } = { task: this.#task, ports: this.#ports };
    const tokenIds = [...task.tokenIds, ...this.#output];
    return {
      servedAs: ports.servedAs,
      prompt: ports.dialect.isExact ? { tokenIds } : { text: ports.text.textOf(tokenIds) },
      tokensMax: task.tokensMax - this.#output.length,
      sampling: task.sampling,
      seed: serverSeed(task.seed, task.generatedCount + this.#output.length),
      grammar: task.grammar,
      ignoresStopTokens: task.ignoreStopTokens,
      topLogprobs: task.topLogprobs,
      cacheScope: task.cacheScope,
    };
  }

  async #tokensOf(
    part: StreamPart,
    at: { readonly words: TextStream; readonly seen: number },
  ): Promise<{ tokens: readonly SampledToken[]; count: number }> {
    const { tokens, text, countSoFar } = part;
    if (tokens === null) return { tokens: (await at.words.push(text)).map(plain), count: at.seen };
    const count = countSoFar ?? at.seen + tokens.length;
    const fresh = count - at.seen;
    // The last event of a stream may count the token that ended it without naming it.
    if (fresh < tokens.length) {
      throw new FallowError("attached-malformed", `${tokens.length} tokens came where the server counts ${fresh}`);
    }
    if (fresh === tokens.length || part.end !== null || text === "") return { tokens, count };
    // Ids of a character that comes in several tokens are not told one by one: its text is.
    return { tokens: (await this.#ports.text.spell(text)).map(plain), count };
  }

  /** Null: more may come. */
  #take(tokens: readonly SampledToken[]): Step {
    const { tokenizer } = this.#ports;
    const taken: SampledToken[] = [];
    let step: Step = null;
    for (const token of tokens) {
      if (!Number.isInteger(token.tokenId) || token.tokenId < 0 || token.tokenId >= tokenizer.vocabSize) {
        this.#send(taken);
        const message = `token ${token.tokenId} is not below ${tokenizer.vocabSize}`;
        throw new FallowError("token-out-of-vocabulary", message);
      }
      taken.push(this.#asAsked(token));
      if (this.#stopIds.has(token.tokenId)) step = "stop-token";
      else if (this.#stops.push(tokenizer.piece(token.tokenId)).matched !== null) step = "stop-string";
      else if (this.#output.length + taken.length >= this.#task.tokensMax) step = "length";
      if (step !== null) break;
    }
    this.#send(taken);
    return step;
  }

  async #ended(end: "stop" | "length", words: TextStream): Promise<Step> {
    const step = this.#take((await words.flush()).map(plain));
    if (step !== null) return step;
    if (end === "length") return "server-limit";
    const { eosToken, stopTokenIds } = this.#ports.tokenizer;
    const stopId = eosToken !== null && this.#stopIds.has(eosToken.tokenId) ? eosToken.tokenId : stopTokenIds[0];
    if (stopId === undefined || this.#task.ignoreStopTokens) {
      throw new FallowError("attached-malformed", "the server stopped, and no token of the model ends a text");
    }
    this.#take([plain(stopId)]);
    return "stop-token";
  }

  /** Probabilities are told as they were asked for: best first, no more than so many, none that is no number. */
  #asAsked(token: SampledToken): SampledToken {
    const { topLogprobs } = this.#task;
    if (topLogprobs === null) return plain(token.tokenId);
    const { vocabSize } = this.#ports.tokenizer;
    const top = token.top
      .filter(({ tokenId, logprob }) => tokenId >= 0 && tokenId < vocabSize && Number.isFinite(logprob))
      .sort((a, b) => b.logprob - a.logprob || a.tokenId - b.tokenId)
      .slice(0, topLogprobs);
    return { ...token, top };
  }

  #send(tokens: readonly SampledToken[]): void {
    if (tokens.length === 0 || this.#isOver) return;
    for (const { tokenId } of tokens) this.#output.push(tokenId);
    this.#ports.onEvent({ kind: "tokens", tokens });
  }

  #finish(event: GenerateEvent): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#ports.onEvent(event);
  }
}

function matcherOf({ stopStrings }: GenerateTask): StopMatcher {
  return new StopMatcher(stopStrings.map((text) => new TextEncoder().encode(text)));
}

function plain(tokenId: number): SampledToken {
  return { tokenId, logprob: null, top: [] };
}

/** Servers take 31 or 32 bits. At another position it is another number: a text that goes on must not begin its draws again. */
function serverSeed(seed: string, position: number): number {
  return (Number.parseInt(seed.slice(0, 8), 16) + position) % 2 ** 31;
}

/** What the coordinator is told. A server that refuses the request says nothing of the request: ours was checked before it left. */
export function failureOf(thrown: unknown): { readonly code: EngineFailure; readonly message: string } {
  const fault = thrown instanceof FallowError ? thrown : null;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  switch (fault?.code) {
    case "token-out-of-vocabulary":
    case "ability-missing":
      return { code: fault.code, message };
    case "attached-overloaded":
      return { code: "engine-overloaded", message };
    case "attached-refused":
      return { code: "ability-missing", message };
    case "attached-silent":
      return { code: "engine-hung", message };
    case "aborted":
      return { code: "engine-closed", message };
    default:
      return { code: "engine-crashed", message };
  }
}
