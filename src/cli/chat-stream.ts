/**
 * One answer of the grid as it arrives: server-sent events of `/v1/chat/completions` turned into pieces of text, then what it
 * took. Node and price come from the receipt, which is settled before the stream's last byte.
 */
import { z } from "zod";
import { CliError } from "./cli-error.ts";
import type { GridClient } from "./grid-client.ts";

export interface ChatMessage {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

export interface ChatRequest {
  readonly model: string;
  readonly messages: readonly ChatMessage[];
  readonly temperature?: number;
  readonly maxTokens?: number;
  readonly seed?: number;
}

export interface ChatAnswer {
  readonly text: string;
  readonly requestId: string | null;
  readonly finishReason: string | null;
  readonly promptTokens: number | null;
  readonly outputTokens: number | null;
  readonly firstTokenMs: number | null;
  readonly totalMs: number;
}

export interface ChatBill {
  readonly receiptId: string;
  readonly costMicroUsd: number;
  readonly nodeIds: readonly string[];
}

/** An event of ours is far below; a line that never ends is a foreign server. */
const LINE_CHARS_MAX = 16 * 1024 * 1024;

const chunkSchema = z.object({
  choices: z
    .array(
      z.object({ delta: z.object({ content: z.string().nullish() }).nullish(), finish_reason: z.string().nullish() }),
    )
    .default([]),
  usage: z.object({ prompt_tokens: z.number(), completion_tokens: z.number() }).nullish(),
  error: z.object({ message: z.string(), code: z.string().nullish() }).nullish(),
});

const receiptSchema = z.object({
  body: z.object({
    receiptId: z.string(),
    costMicroUsd: z.number(),
    attempts: z.array(z.object({ nodeId: z.string(), acknowledgedTokens: z.number() })),
  }),
});

/** Resolves when the stream ended or `signal` aborted; what arrived until then is in the answer. */
export async function streamChat(
  grid: GridClient,
  request: ChatRequest,
  options: { signal: AbortSignal; onText: (text: string) => void },
): Promise<ChatAnswer> {
  const startMs = performance.now();
  const answer = {
    text: "",
    finishReason: null as string | null,
    promptTokens: null as number | null,
    outputTokens: null as number | null,
  };
  let firstTokenMs: number | null = null;
  let requestId: string | null = null;
  try {
    const { body, headers } = await grid.stream("/v1/chat/completions", {
      body: {
        model: request.model,
        messages: request.messages,
        stream: true,
        stream_options: { include_usage: true },
        ...(request.temperature === undefined ? {} : { temperature: request.temperature }),
        ...(request.maxTokens === undefined ? {} : { max_completion_tokens: request.maxTokens }),
        ...(request.seed === undefined ? {} : { seed: request.seed }),
      },
      signal: options.signal,
    });
    const header = headers["x-request-id"];
    requestId = typeof header === "string" ? header : null;
    for await (const data of serverSentData(body)) {
      if (data === "[DONE]") break;
      const chunk = chunkSchema.parse(JSON.parse(data));
      if (chunk.error) throw new CliError(chunk.error.message, { code: chunk.error.code ?? "stream-failed" });
      const [choice] = chunk.choices;
      const piece = choice?.delta?.content ?? "";
      if (piece !== "") {
        firstTokenMs ??= performance.now() - startMs;
        answer.text += piece;
        options.onText(piece);
      }
      answer.finishReason = choice?.finish_reason ?? answer.finishReason;
      answer.promptTokens = chunk.usage?.prompt_tokens ?? answer.promptTokens;
      answer.outputTokens = chunk.usage?.completion_tokens ?? answer.outputTokens;
    }
  } catch (thrown) {
    if (!options.signal.aborted) throw thrown;
    answer.finishReason = "stopped"; // the person pressed Ctrl-C: what came until then is the answer
  }
  return { ...answer, requestId, firstTokenMs, totalMs: performance.now() - startMs };
}

async function* serverSentData(body: AsyncIterable<unknown>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const part of body) {
    if (!(part instanceof Uint8Array)) continue;
    rest += decoder.decode(part, { stream: true });
    const lines = rest.split(/\r?\n/);
    rest = lines.pop() ?? "";
    if (rest.length > LINE_CHARS_MAX) throw new CliError("the stream holds a line without end");
    for (const line of lines) {
      if (line.startsWith("data:")) yield line.slice("data:".length).trim();
    }
  }
}

/** Null when the receipt cannot be read with this key. */
export async function fetchBill(grid: GridClient, requestId: string): Promise<ChatBill | null> {
  try {
    const { body } = await grid.json(`/v1/grid/receipts/${encodeURIComponent(requestId)}`, receiptSchema);
    const nodeIds = [...new Set(body.attempts.filter((one) => one.acknowledgedTokens > 0).map((one) => one.nodeId))];
    return { receiptId: body.receiptId, costMicroUsd: body.costMicroUsd, nodeIds };
  } catch (thrown) {
    if (thrown instanceof CliError) return null;
    throw thrown;
  }
}
