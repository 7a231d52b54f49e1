/**
 * The documented wire shapes of the servers that a node can attach, over an engine that is given. None of those servers is here (but for
 * llama-server, in the long suites): what these answer is what their documentation says, and what llama-server 0.7.0 was seen to answer.
 */
import type { AttachedKind } from "../../src/domain/attached-engine.ts";
import { sha256Hex } from "../../src/domain/ids.ts";
import type { SampledToken } from "../../src/domain/sampling.ts";
import { Utf8Stream } from "../../src/inference/detokenise.ts";
import type { Engine, GenerateEvent, GenerateTask } from "../../src/ports/engine.ts";
import type { Tokenizer } from "../../src/ports/tokenizer.ts";

export interface ServedEngine {
  readonly engine: Engine;
  readonly tokenizer: Tokenizer;
  readonly servedAs: string;
}

export type Json = Readonly<Record<string, unknown>>;

export interface KindOfServer {
  get(path: string): unknown;
  /** What is no stream. */
  post(path: string, body: Json): Promise<unknown>;
  /** Null: no such path. */
  stream(path: string, body: Json): Promise<Streaming | null>;
}

export interface Streaming {
  readonly task: GenerateTask;
  readonly isLines: boolean;
  event(token: SampledToken, text: string): Json;
  last(reason: string, text: string): Json;
}

const number = (value: unknown, otherwise: number): number => (typeof value === "number" ? value : otherwise);
const object = (value: unknown): Json => (typeof value === "object" && value !== null ? { ...value } : {});
const ids = (value: unknown): readonly number[] | null =>
  Array.isArray(value) && value.every((one) => typeof one === "number") ? value : null;

async function promptOf(served: ServedEngine, value: unknown): Promise<readonly number[]> {
  return ids(value) ?? (await served.tokenizer.tokenize([{ text: String(value), special: true }], { addBos: true }));
}

function taskOf(tokenIds: readonly number[], options: Json, more: Partial<GenerateTask>): GenerateTask {
  return {
    tokenIds,
    generatedCount: 0,
    tokensMax: 16,
    sampling: {
      temperature: number(options["temperature"], 1),
      topK: number(options["top_k"], 40),
      topP: number(options["top_p"], 1),
      frequencyPenalty: number(options["frequency_penalty"], 0),
      presencePenalty: number(options["presence_penalty"], 0),
      logitBias: [],
    },
    seed: sha256Hex(number(options["seed"], 0).toString(16).padStart(64, "0")),
    choice: 0,
    stopStrings: [],
    grammar: null,
    cacheScope: "all who ask",
    ignoreStopTokens: options["ignore_eos"] === true,
    topLogprobs: null,
    ...more,
  };
}

async function tokenized({ tokenizer }: ServedEngine, text: unknown): Promise<readonly number[]> {
  return await tokenizer.tokenize([{ text: String(text), special: false }], { addBos: false });
}

function list({ servedAs }: ServedEngine, more: Json): Json {
  return { object: "list", data: [{ id: servedAs, object: "model", created: 0, ...more }] };
}

function llamaServer(served: ServedEngine): KindOfServer {
  const { engine, servedAs } = served;
  const { vocabSize, embeddingLength, contextTokens, sequencesMax } = engine.info;
  return {
    get: (path) =>
      path === "/props"
        ? { total_slots: sequencesMax, build_info: "like-0.7.0", default_generation_settings: { n_ctx: contextTokens } }
        : path === "/v1/models"
          ? list(served, {
              owned_by: "llamacpp",
              meta: { n_vocab: vocabSize, n_embd: embeddingLength, n_ctx: contextTokens, ftype: "Q8_0" },
            })
          : undefined,
    post: async (path, body) =>
      path === "/tokenize" ? { tokens: await tokenized(served, body["content"]) } : undefined,
    stream: async (path, body) => {
      if (path !== "/completion") return null;
      const bias = Array.isArray(body["logit_bias"]) ? body["logit_bias"] : [];
      const probs = number(body["n_probs"], 0);
      const task = taskOf(await promptOf(served, body["prompt"]), body, {
        tokensMax: number(body["n_predict"], 16),
        grammar: typeof body["grammar"] === "string" ? body["grammar"] : null,
        topLogprobs: probs === 0 ? null : probs,
      });
      const sampling = { ...task.sampling, logitBias: bias };
      let count = 0;
      return {
        task: { ...task, sampling },
        isLines: false,
        event: ({ tokenId, logprob, top }, text) => {
          const told = (one: { tokenId: number; logprob: number | null }) => ({
            id: one.tokenId,
            logprob: one.logprob,
          });
          const list = { ...told({ tokenId, logprob }), top_logprobs: top.map(told) };
          count += 1;
          return {
            index: 0,
            content: text,
            tokens: [tokenId],
            stop: false,
            tokens_predicted: count,
            ...(probs === 0 ? {} : { completion_probabilities: [list] }),
          };
        },
        last: (reason) => ({
          ...{ index: 0, content: "", tokens: [], stop: true, model: servedAs, tokens_predicted: count },
          stop_type: reason === "length" ? "limit" : "eos",
          timings: { cache_n: 0 },
        }),
      };
    },
  };
}

function vllm(served: ServedEngine): KindOfServer {
  const { contextTokens } = served.engine.info;
  return {
    get: (path) =>
      path === "/version"
        ? { version: "0.11.0-like" }
        : path === "/v1/models"
          ? list(served, { owned_by: "vllm", max_model_len: contextTokens })
          : undefined,
    post: async (path, body) =>
      path === "/tokenize"
        ? { tokens: await tokenized(served, body["prompt"]), max_model_len: contextTokens }
        : undefined,
    stream: async (path, body) => {
      if (path !== "/v1/completions") return null;
      const bias = Object.entries(object(body["logit_bias"])).map(([id, by]): [number, number] => [
        Number(id),
        number(by, 0),
      ]);
      const grammar = object(body["structured_outputs"])["grammar"];
      const logprobs = typeof body["logprobs"] === "number" ? body["logprobs"] : null;
      const task = taskOf(await promptOf(served, body["prompt"]), body, {
        tokensMax: number(body["max_tokens"], 16),
        grammar: typeof grammar === "string" ? grammar : null,
        topLogprobs: logprobs,
      });
      let count = 0;
      const usage = () => ({ prompt_tokens: task.tokenIds.length, completion_tokens: count });
      return {
        task: { ...task, sampling: { ...task.sampling, logitBias: bias } },
        isLines: false,
        event: ({ tokenId, logprob, top }, text) => {
          count += 1;
          const names = Object.fromEntries(top.map((one) => [`token_id:${one.tokenId}`, one.logprob]));
          const told =
            logprobs === null
              ? null
              : { tokens: [`token_id:${tokenId}`], token_logprobs: [logprob], top_logprobs: [names] };
          return {
            choices: [{ index: 0, text, token_ids: [tokenId], logprobs: told, finish_reason: null }],
            usage: usage(),
          };
        },
        last: (reason, text) => ({
          choices: [{ index: 0, text, token_ids: [], finish_reason: reason === "length" ? "length" : "stop" }],
          usage: usage(),
        }),
      };
    },
  };
}

function sglang(served: ServedEngine): KindOfServer {
  return {
    get: (path) =>
      path === "/get_server_info"
        ? { version: "0.5.4-like", max_running_requests: 8, context_length: served.engine.info.contextTokens }
        : path === "/v1/models"
          ? list(served, { owned_by: "sglang" })
          : undefined,
    post: async (path, body) =>
      path === "/tokenize" ? { tokens: await tokenized(served, body["prompt"]) } : undefined,
    stream: async (path, body) => {
      if (path !== "/generate") return null;
      const params = object(body["sampling_params"]);
      const seed = { ...params, seed: params["sampling_seed"] };
      const prompt = await promptOf(served, body["input_ids"] ?? body["text"]);
      const task = taskOf(prompt, seed, { tokensMax: number(params["max_new_tokens"], 16) });
      // All that came so far, in each event.
      const output: number[] = [];
      let all = "";
      const told = (reason: string | null) => ({
        text: all,
        output_ids: [...output],
        meta_info: {
          completion_tokens: output.length,
          cached_tokens: 0,
          finish_reason: reason === null ? null : { type: reason },
        },
      });
      return {
        task,
        isLines: false,
        event: ({ tokenId }, text) => {
          output.push(tokenId);
          all += text;
          return told(null);
        },
        last: (reason) => told(reason === "length" ? "length" : "stop"),
      };
    },
  };
}

function ollama(served: ServedEngine): KindOfServer {
  const { servedAs, engine } = served;
  return {
    get: (path) =>
      path === "/api/version"
        ? { version: "0.13.0-like" }
        : path === "/api/tags"
          ? { models: [{ name: servedAs }] }
          : undefined,
    post: (path) =>
      Promise.resolve(
        path === "/api/show"
          ? {
              details: { quantization_level: "Q8_0" },
              model_info: {
                "general.architecture": "llama",
                "llama.context_length": engine.info.contextTokens,
                "llama.embedding_length": engine.info.embeddingLength,
                "llama.vocab_size": engine.info.vocabSize,
              },
            }
          : undefined,
      ),
    stream: async (path, body) => {
      if (path !== "/api/generate") return null;
      const options = object(body["options"]);
      const prompt = await promptOf(served, body["prompt"]);
      const task = taskOf(prompt, options, { tokensMax: number(options["num_predict"], 128) });
      let count = 0;
      return {
        task,
        isLines: true,
        event: (_, text) => {
          count += 1;
          return { model: servedAs, response: text, done: false };
        },
        last: (reason, text) => ({
          ...{ model: servedAs, response: text, done: true },
          done_reason: reason === "length" ? "length" : "stop",
          eval_count: count,
        }),
      };
    },
  };
}

function lmStudio(served: ServedEngine): KindOfServer {
  const { contextTokens } = served.engine.info;
  return {
    get: (path) =>
      path === "/api/v0/models"
        ? list(served, { type: "llm", quantization: "Q8_0", max_context_length: contextTokens, state: "loaded" })
        : path === "/v1/models"
          ? list(served, { owned_by: "organization_owner" })
          : undefined,
    post: () => Promise.resolve(undefined),
    stream: async (path, body) => {
      if (path !== "/v1/completions") return null;
      const task = taskOf(await promptOf(served, body["prompt"]), body, { tokensMax: number(body["max_tokens"], 16) });
      return {
        task,
        isLines: false,
        event: (_, text) => ({ choices: [{ index: 0, text, finish_reason: null }] }),
        last: (reason, text) => ({
          choices: [{ index: 0, text, finish_reason: reason === "length" ? "length" : "stop" }],
        }),
      };
    },
  };
}

function tgi(served: ServedEngine): KindOfServer {
  const { contextTokens, sequencesMax } = served.engine.info;
  return {
    get: (path) =>
      path === "/info"
        ? {
            ...{ model_id: served.servedAs, version: "3.3.0-like" },
            max_total_tokens: contextTokens,
            max_concurrent_requests: sequencesMax,
          }
        : undefined,
    post: () => Promise.resolve(undefined),
    stream: async (path, body) => {
      if (path !== "/generate_stream") return null;
      const params = object(body["parameters"]);
      const options = params["do_sample"] === false ? { ...params, temperature: 0 } : params;
      const prompt = await promptOf(served, body["inputs"]);
      const task = taskOf(prompt, options, { tokensMax: number(params["max_new_tokens"], 16) });
      return {
        task,
        isLines: false,
        event: ({ tokenId }, text) => ({ index: 0, token: { id: tokenId, text, special: false }, details: null }),
        last: (reason, text) => ({
          token: { id: 0, text, special: text === "" },
          details: { finish_reason: reason === "length" ? "length" : "eos_token", generated_tokens: 0 },
        }),
      };
    },
  };
}

const KINDS: Readonly<Record<AttachedKind, (served: ServedEngine) => KindOfServer>> = {
  vllm,
  sglang,
  "llama-server": llamaServer,
  ollama,
  lmstudio: lmStudio,
  tgi,
};

export function kindOfServer(kind: AttachedKind, served: ServedEngine): KindOfServer {
  return KINDS[kind](served);
}

/** Runs the engine and writes its events in the server's words. */
export function streamEvents(
  served: ServedEngine,
  streaming: Streaming,
  write: (event: Json, isLast: boolean) => void,
): { abort(): void } {
  const text = new Utf8Stream();
  const { stopTokenIds } = served.tokenizer;
  return served.engine.generate(streaming.task, (event: GenerateEvent) => {
    if (event.kind === "tokens") {
      for (const token of event.tokens) {
        const isStop = !streaming.task.ignoreStopTokens && stopTokenIds.includes(token.tokenId);
        if (!isStop) write(streaming.event(token, text.push(served.tokenizer.piece(token.tokenId))), false);
      }
    } else if (event.kind === "end") write(streaming.last(event.reason, text.flush()), true);
    else write({ error: `${event.code}: ${event.message}` }, true);
  });
}
