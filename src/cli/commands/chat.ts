/**
 * `fallow chat`: one question, or a conversation line by line. The answer goes to stdout, what it took to stderr. Ctrl-C stops
 * the answer that is running; with none running it leaves.
 */
import { createInterface } from "node:readline";
import { z } from "zod";
import { nodeListSchema } from "../../coordinator/admin/admin-schemas.ts";
import { type ChatAnswer, type ChatBill, type ChatMessage, fetchBill, streamChat } from "../chat-stream.ts";
import { CliError } from "../cli-error.ts";
import { formatDuration } from "../format.ts";
import { connectGrid, type GlobalOptions, type GridClient } from "../grid-client.ts";
import { note, printJson, printText } from "../terminal.ts";
import { usd } from "./tables.ts";

export interface ChatOptions extends GlobalOptions {
  readonly model?: string;
  readonly system?: string;
  readonly temperature?: number;
  readonly maxTokens?: number;
  readonly seed?: number;
}

const modelsSchema = z.object({ data: z.array(z.object({ id: z.string() })) });

export async function runChat(text: string | null, options: ChatOptions): Promise<void> {
  const grid = connectGrid(options);
  const model = options.model ?? (await firstModel(grid));
  const system: readonly ChatMessage[] =
    options.system === undefined ? [] : [{ role: "system", content: options.system }];
  if (text === null) return converse(grid, { ...options, model }, system);
  const messages: readonly ChatMessage[] = [...system, { role: "user", content: text }];
  const abort = new AbortController();
  const onInterrupt = () => abort.abort();
  process.once("SIGINT", onInterrupt);
  try {
    const { answer, bill, nodes } = await ask(grid, { ...options, model }, messages, abort.signal);
    if (options.json === true) printJson({ model, ...answer, ...bill, nodes });
  } finally {
    process.off("SIGINT", onInterrupt);
  }
}

async function firstModel(grid: GridClient): Promise<string> {
  const { data } = await grid.json("/v1/models", modelsSchema);
  const [first] = data;
  if (first !== undefined) return first.id;
  throw new CliError("the grid has no model", {
    code: "model-not-found",
    fix: "add one with `fallow models add FILE.gguf`",
  });
}

async function ask(
  grid: GridClient,
  options: ChatOptions & { model: string },
  messages: readonly ChatMessage[],
  signal: AbortSignal,
): Promise<{ answer: ChatAnswer; bill: ChatBill | null; nodes: readonly string[] }> {
  const isJson = options.json === true;
  const answer = await streamChat(
    grid,
    {
      model: options.model,
      messages,
      ...(options.temperature === undefined ? {} : { temperature: options.temperature }),
      ...(options.maxTokens === undefined ? {} : { maxTokens: options.maxTokens }),
      ...(options.seed === undefined ? {} : { seed: options.seed }),
    },
    { signal, onText: (piece) => (isJson ? undefined : printText(visible(piece))) },
  );
  const bill = answer.requestId === null || signal.aborted ? null : await fetchBill(grid, answer.requestId);
  const nodes = bill === null ? [] : await nodeNames(grid, bill.nodeIds);
  if (!isJson) {
    printText("\n");
    note(summary(answer, bill, nodes));
  }
  return { answer, bill, nodes };
}

/** A model's text is foreign: line breaks and tabs pass, other control characters must not reach the terminal. */
function visible(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that must not reach a terminal
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, "\u{fffd}");
}

/** Names need the scope `admin`; without it the ids serve. */
async function nodeNames(grid: GridClient, nodeIds: readonly string[]): Promise<readonly string[]> {
  try {
    const { nodes } = await grid.json("/admin/v1/nodes", nodeListSchema);
    return nodeIds.map((nodeId) => nodes.find((node) => node.nodeId === nodeId)?.name ?? nodeId);
  } catch (thrown) {
    if (thrown instanceof CliError) return nodeIds;
    throw thrown;
  }
}

function summary(answer: ChatAnswer, bill: ChatBill | null, nodes: readonly string[]): string {
  const parts: string[] = [];
  if (answer.finishReason === "stopped") parts.push("stopped");
  if (answer.outputTokens !== null) {
    const streamMs = answer.totalMs - (answer.firstTokenMs ?? 0);
    const rate = answer.outputTokens > 1 && streamMs > 0 ? ((answer.outputTokens - 1) * 1_000) / streamMs : null;
    parts.push(`${answer.outputTokens} tokens`);
    if (rate !== null) parts.push(`${rate.toFixed(0)} tokens/s`);
  }
  if (answer.firstTokenMs !== null) parts.push(`first after ${formatDuration(answer.firstTokenMs)}`);
  if (nodes.length > 0) parts.push(`on ${nodes.join(", then ")}`);
  if (bill !== null) parts.push(`${usd(bill.costMicroUsd)} USD`, bill.receiptId);
  return `[${parts.join(" | ")}]`;
}

async function converse(
  grid: GridClient,
  options: ChatOptions & { model: string },
  system: readonly ChatMessage[],
): Promise<void> {
  const isTerminal = process.stdin.isTTY === true;
  const lines = createInterface({ input: process.stdin, output: process.stderr, terminal: isTerminal, prompt: "> " });
  let running: AbortController | null = null;
  let hasEnded = false;
  lines.once("close", () => {
    hasEnded = true; // lines that were read before are still answered
  });
  const prompt = () => {
    if (!hasEnded) lines.prompt();
  };
  const onInterrupt = () => (running === null ? lines.close() : running.abort());
  lines.on("SIGINT", onInterrupt);
  process.on("SIGINT", onInterrupt);
  let messages = system;
  if (isTerminal) note(`${options.model}; /new starts over, /exit or Ctrl-D leaves`);
  prompt();
  try {
    for await (const line of lines) {
      const text = line.trim();
      if (text === "/exit") break;
      if (text === "/new") messages = system;
      else if (text !== "") {
        running = new AbortController();
        messages = await turn(grid, options, [...messages, { role: "user", content: text }], running.signal);
        running = null;
      }
      prompt();
    }
  } finally {
    process.off("SIGINT", onInterrupt);
    lines.close();
  }
}

/** The conversation with the answer; without its last question when the grid refused it, so that the next may work. */
async function turn(
  grid: GridClient,
  options: ChatOptions & { model: string },
  messages: readonly ChatMessage[],
  signal: AbortSignal,
): Promise<readonly ChatMessage[]> {
  try {
    const { answer, bill, nodes } = await ask(grid, options, messages, signal);
    if (options.json === true) printJson({ model: options.model, ...answer, ...bill, nodes });
    return [...messages, { role: "assistant", content: answer.text }];
  } catch (thrown) {
    if (!(thrown instanceof CliError)) throw thrown;
    note(`fallow: ${thrown.message}`);
    return messages.slice(0, -1);
  }
}
