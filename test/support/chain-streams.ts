/** Streamed completions by the stock OpenAI client, read as they come: when each token arrived, and how each ended. */
import OpenAI from "openai";
import { z } from "zod";

export interface StreamTarget {
  /** Ends in `/v1`. */
  readonly apiUrl: string;
  readonly apiKey: string;
}

/** Fields of `POST /v1/completions`. */
export type StreamBody = Readonly<Record<string, unknown>> & { readonly model: string; readonly prompt: string };

export interface ReadStream {
  readonly text: string;
  /** When the request left, and when each token came: milliseconds of the machine's monotonic clock. */
  readonly sentMs: number;
  readonly atMs: readonly number[];
  readonly finishReason: string | null;
  readonly completionTokens: number | null;
  readonly costUsd: number | null;
  readonly requestId: string | null;
  /** What ended it before its end, in words. */
  readonly error: string | null;
}

/** A stream that is silent for longer is a failure of the test. */
const SILENCE_MS_MAX = 240_000;
const NS_PER_MS = 1e6;

const usageSchema = z.looseObject({ completion_tokens: z.number(), cost: z.number().nullish() });

/** All processes of a machine read the same clock, which does not step. */
export function machineMs(): number {
  return Number(process.hrtime.bigint()) / NS_PER_MS;
}

const PROMPTS = [
  "In the beginning God created the heaven and the earth.",
  "And it came to pass in those days",
  "The sun also ariseth, and the sun goeth down, and hasteth to his place where he arose.",
  "Now",
] as const;

/** Different ones, sampled with different seeds, all of the same length. */
export function streamBodies(
  count: number,
  more: { readonly model: string; readonly tokens: number; readonly temperature?: number; readonly seed?: number },
): readonly StreamBody[] {
  const { model, tokens, temperature = 0.8, seed = 100 } = more;
  return Array.from({ length: count }, (_, at) => ({
    model,
    prompt: `${PROMPTS[at % PROMPTS.length]} ${at}`,
    max_tokens: tokens,
    temperature,
    seed: seed + at,
    ignore_eos: true,
  }));
}

/** All at once. `onTokens` is called after each event with tokens: of which stream, and how many it has. */
export function readStreams(
  target: StreamTarget,
  bodies: readonly StreamBody[],
  onTokens: (stream: number, count: number) => void = () => undefined,
): Promise<readonly ReadStream[]> {
  const client = new OpenAI({
    baseURL: target.apiUrl,
    apiKey: target.apiKey,
    maxRetries: 0,
    timeout: SILENCE_MS_MAX,
  });
  return Promise.all(bodies.map((body, at) => readStream(client, body, (count) => onTokens(at, count))));
}

async function readStream(client: OpenAI, body: StreamBody, onTokens: (count: number) => void): Promise<ReadStream> {
  const sentMs = machineMs();
  const atMs: number[] = [];
  let text = "";
  let finishReason: string | null = null;
  let usage: z.infer<typeof usageSchema> | null = null;
  let requestId: string | null = null;
  let error: string | null = null;
  try {
    const asked = { ...body, stream: true as const, stream_options: { include_usage: true }, logprobs: 0 };
    const { data, response } = await client.completions.create(asked).withResponse();
    requestId = response.headers.get("x-request-id");
    for await (const chunk of data) {
      if (chunk.usage != null) usage = usageSchema.parse(chunk.usage);
      const [choice] = chunk.choices;
      if (choice === undefined) continue;
      finishReason = choice.finish_reason ?? finishReason;
      text += choice.text;
      const tokens = choice.logprobs?.tokens ?? [];
      const nowMs = machineMs();
      for (const _token of tokens) atMs.push(nowMs);
      if (tokens.length > 0) onTokens(atMs.length);
    }
  } catch (thrown) {
    error = thrown instanceof Error ? thrown.message : String(thrown);
  }
  const { completion_tokens: completionTokens = null, cost: costUsd = null } = usage ?? {};
  return { text, sentMs, atMs, finishReason, completionTokens, costUsd: costUsd ?? null, requestId, error };
}

/** Tokens a second between the first and the last one of a stream; NaN with fewer than two. */
export function tokPerSecond({ atMs }: Pick<ReadStream, "atMs">): number {
  const [first = Number.NaN] = atMs;
  return ((atMs.length - 1) / ((atMs.at(-1) ?? Number.NaN) - first)) * 1_000;
}

/** Of all of them together, between the moment when the last one has its first token and the moment when the first one is done. */
export function tokPerSecondTogether(streams: readonly Pick<ReadStream, "atMs">[]): number {
  const fromMs = Math.max(...streams.map(({ atMs }) => atMs[0] ?? Number.POSITIVE_INFINITY));
  const toMs = Math.min(...streams.map(({ atMs }) => atMs.at(-1) ?? Number.NEGATIVE_INFINITY));
  if (!(toMs > fromMs)) return wholeRate(streams);
  const within = streams.reduce((sum, { atMs }) => sum + atMs.filter((at) => at > fromMs && at <= toMs).length, 0);
  return (within / (toMs - fromMs)) * 1_000;
}

/** Where they hardly overlap: from the first token of any to the last one. */
function wholeRate(streams: readonly Pick<ReadStream, "atMs">[]): number {
  const all = streams.flatMap(({ atMs }) => atMs);
  return ((all.length - streams.length) / (Math.max(...all) - Math.min(...all))) * 1_000;
}

/** The longest time between two tokens, of those that came after `fromMs`; the wait for the first one after it counts. */
export function longestGapMs({ atMs }: Pick<ReadStream, "atMs">, fromMs = Number.NEGATIVE_INFINITY): number {
  let longest = 0;
  for (let at = 1; at < atMs.length; at++) {
    const [before = 0, now = 0] = [atMs[at - 1], atMs[at]];
    if (now > fromMs) longest = Math.max(longest, now - before);
  }
  return longest;
}
