/**
 * Clients of every kind against one grid, drawn from a seed: streams, whole answers, several choices, embeddings, and clients
 * that leave in mid-stream. They ask one thing after another until they are told to stop or the grid is gone.
 */
import type { SeededRandom } from "../../src/sim/time/random.ts";
import type { SeenRequest } from "./books.ts";
import { type Exchange, exchange, readStream, readWhole } from "./exchange.ts";

export interface LoadTarget {
  readonly apiUrl: string;
  readonly keys: readonly string[];
  readonly model: string;
}

export interface MixedLoad {
  /** Resolves when this much has arrived at the clients: parts of bodies, counted over all of them. */
  whenArrived(parts: number): Promise<void>;
  /** No further requests; resolves when the running ones ended. */
  finish(): Promise<readonly Asked[]>;
}

export interface Asked extends SeenRequest {
  readonly kind: Kind;
  readonly status: number | null;
  /** Of an answer that was whole and yet an error. */
  readonly error: string | null;
}

const KINDS = ["stream", "whole", "choices", "stream-choices", "leaving", "embedding"] as const;
type Kind = (typeof KINDS)[number];

const TOKENS = { least: 4, most: 40 } as const;
/** Characters of a stream after which a client leaves: a few chunks. */
const LEAVES_AFTER_CHARS = { least: 1, most: 2_500 } as const;
/** A client whose request failed asks again after so long, as SDKs do; a grid that is down is not hammered. */
const RETRY_MS = 50;

const PROMPTS = [
  "And God said unto",
  "In the beginning",
  "It was the best of times",
  "Call me",
  "The king went up to the city and",
] as const;

export function startMixedLoad(target: LoadTarget, options: { clients: number; random: SeededRandom }): MixedLoad {
  const asked: Asked[] = [];
  const waiters: { readonly parts: number; readonly resolve: () => void }[] = [];
  let arrived = 0;
  let isStopping = false;
  const onPart = () => {
    arrived += 1;
    for (const waiter of waiters) if (arrived >= waiter.parts) waiter.resolve();
  };
  const clients = Array.from({ length: options.clients }, async (_, client) => {
    const random = options.random.fork(`client-${client}`);
    while (!isStopping) {
      const seen = await askOne(target, random, onPart);
      if (seen !== null) asked.push(seen);
      if (seen === null || seen.status !== 200) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  });
  return {
    whenArrived: (parts) =>
      new Promise((resolve) => (arrived >= parts ? resolve() : void waiters.push({ parts, resolve }))),
    finish: async () => {
      isStopping = true;
      await Promise.all(clients);
      return asked;
    },
  };
}

async function askOne(target: LoadTarget, random: SeededRandom, onPart: () => void): Promise<Asked | null> {
  const kind = random.pick(KINDS);
  const key = random.pick(target.keys);
  const leavesAfter = random.between(LEAVES_AFTER_CHARS.least, LEAVES_AFTER_CHARS.most);
  const body = bodyOf(kind, target.model, random);
  const answer = await exchange({
    url: `${target.apiUrl}${kind === "embedding" ? "/embeddings" : "/chat/completions"}`,
    key,
    body,
    onData: (soFar) => {
      onPart();
      return kind === "leaving" && soFar.length > leavesAfter ? "cut" : undefined;
    },
  });
  return answer.requestId === null ? null : seenOf(kind, answer, answer.requestId);
}

function bodyOf(kind: Kind, model: string, random: SeededRandom): unknown {
  const prompt = random.pick(PROMPTS);
  if (kind === "embedding") return { model, input: [prompt, "and more"] };
  const isStream = kind === "stream" || kind === "leaving" || kind === "stream-choices";
  return {
    model,
    messages: [{ role: "user", content: prompt }],
    max_completion_tokens: kind === "leaving" ? TOKENS.most * 2 : random.between(TOKENS.least, TOKENS.most),
    seed: random.between(1, 1_000_000),
    temperature: random.chance(0.5) ? 0 : 0.8,
    ...(kind === "choices" || kind === "stream-choices" ? { n: 2 } : {}),
    ...(isStream ? { stream: true, stream_options: { include_usage: true } } : {}),
  };
}

function seenOf(kind: Kind, answer: Exchange, requestId: string): Asked {
  const common = { kind, requestId, status: answer.status };
  const isStream = answer.headers["content-type"]?.includes("text/event-stream") === true;
  if (isStream) {
    const { isDone, usage, error } = readStream(answer.body);
    const isAcknowledged = isDone && error === null;
    const completionTokens = isAcknowledged ? (usage?.completionTokens ?? null) : null;
    return { ...common, isAcknowledged, completionTokens, error: error?.message ?? null };
  }
  if (!answer.isWhole) return { ...common, isAcknowledged: false, completionTokens: null, error: null };
  const { usage, error } = readWhole(answer.body);
  const isAcknowledged = answer.status === 200 && error === null && usage !== null;
  const isEmbedding = kind === "embedding";
  return {
    ...common,
    isAcknowledged,
    completionTokens: isAcknowledged && !isEmbedding ? (usage?.completionTokens ?? null) : null,
    error: error?.message ?? null,
  };
}
