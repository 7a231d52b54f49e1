/** A streamed completion, read as it comes: when its tokens arrived, and on which node it began. */
import { z } from "zod";

export interface TimedStream {
  readonly text: string;
  /** When each token arrived, on this process's monotonic clock. */
  readonly atMs: readonly number[];
  readonly firstNodeId: string;
  readonly finishReason: string | null;
  readonly completionTokens: number | null;
  readonly costUsd: number | null;
  readonly receiptId: string | null;
  /** The error event that ended it, if one did. */
  readonly error: unknown;
}

const eventSchema = z.object({
  choices: z
    .array(
      z.object({
        text: z.string(),
        finish_reason: z.string().nullable(),
        logprobs: z.object({ tokens: z.array(z.string()) }).nullish(),
      }),
    )
    .optional(),
  usage: z.object({ completion_tokens: z.number(), cost: z.number() }).nullish(),
  error: z.unknown().optional(),
});

/** `onTokens` is called after each event with tokens, with how many there were in all: an event may hold several. */
export async function timedCompletion(
  grid: { readonly apiUrl: string; readonly apiKey: string },
  body: Readonly<Record<string, unknown>>,
  onTokens: (count: number, nodeId: string) => void = () => undefined,
): Promise<TimedStream> {
  const response = await fetch(`${grid.apiUrl}/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${grid.apiKey}`, "content-type": "application/json" },
    body: JSON.stringify({ ...body, logprobs: 0, stream: true, stream_options: { include_usage: true } }),
  });
  if (!response.ok || response.body === null) throw new Error(`${response.status}: ${await response.text()}`);
  const firstNodeId = response.headers.get("x-grid-node") ?? "";
  const seen = {
    text: "",
    finishReason: null as string | null,
    receiptId: null as string | null,
    error: null as unknown,
  };
  let usage: { completion_tokens: number; cost: number } | null = null;
  const atMs: number[] = [];
  for await (const line of linesOf(response.body)) {
    seen.receiptId = /^: receipt (\S+)/.exec(line)?.[1] ?? seen.receiptId;
    if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
    const event = eventSchema.parse(JSON.parse(line.slice("data: ".length)));
    usage = event.usage ?? usage;
    if (event.error !== undefined) seen.error = event.error;
    const [choice] = event.choices ?? [];
    seen.finishReason = choice?.finish_reason ?? seen.finishReason;
    seen.text += choice?.text ?? "";
    const nowMs = performance.now();
    const tokens = choice?.logprobs?.tokens ?? [];
    for (const _token of tokens) atMs.push(nowMs);
    if (tokens.length > 0) onTokens(atMs.length, firstNodeId);
  }
  return {
    ...seen,
    atMs,
    firstNodeId,
    completionTokens: usage?.completion_tokens ?? null,
    costUsd: usage?.cost ?? null,
  };
}

async function* linesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of body) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
}
