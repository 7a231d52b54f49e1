/** One line through the gateway's own code: what came of it, as a result or as a reason to try again. */
import { z } from "zod";
import type { BatchId } from "../../domain/ids.ts";
import type { ApiKey } from "../../ports/store.ts";
import { type LineOutcome, lineOutcome } from "../../scheduler/jobs/line-outcome.ts";
import type { PendingLine } from "./claimed-lines.ts";
import type { JobPorts } from "./job-ports.ts";
import { answerLine, requestIdOf, unansweredLine } from "./line-request.ts";

export interface LineRun {
  readonly batchId: BatchId;
  readonly endpoint: string;
  readonly key: ApiKey;
  readonly line: PendingLine;
  readonly endsAtMonoMs: number;
  readonly signal: AbortSignal;
  readonly epoch: number;
  onStarted(): void;
  onWaiting(): void;
}

export interface LineAnswer {
  readonly outcome: LineOutcome;
  /** The line of the output or error file. */
  readonly json: string;
  readonly promptTokens: number;
  readonly outputTokens: number;
}

const errorSchema = z.object({
  error: z.object({ code: z.string().nullable(), param: z.string().nullable() }),
});
const usageSchema = z.object({
  usage: z.object({
    prompt_tokens: z.number().exactOptional(),
    completion_tokens: z.number().exactOptional(),
    input_tokens: z.number().exactOptional(),
    output_tokens: z.number().exactOptional(),
  }),
});

/** Lines are flex work, whatever they say. */
const TIER = { service_tier: "flex" } as const;

export async function runLine(
  run: LineRun,
  ports: Pick<JobPorts, "ask" | "book" | "crypto" | "store">,
): Promise<LineAnswer> {
  const { line, batchId, epoch } = run;
  const { customId } = line.request;
  const requestId = requestIdOf(batchId, line.line, ports.crypto);
  if (line.isSuspect) {
    const message =
      "This request was begun several times, and each time the coordinator ended before it was answered. It was set aside.";
    const outcome = { kind: "result", isOk: false, isSetAside: true } as const;
    const json = unansweredLine({ requestId, customId, code: "request_set_aside", message });
    return { outcome, json, promptTokens: 0, outputTokens: 0 };
  }
  // A charge without its result is from a life that was killed, or from a settlement whose answer was lost.
  const mayBeSettled = line.mayBeSettled || line.runs > 0;
  const isSettled = mayBeSettled && (await ports.store.receipts.byRequest(requestId)) !== null;
  line.runs += 1;
  let lastNode: Parameters<Parameters<typeof ports.book.open>[1]["onStarted"]>[0] | null = null;
  const opened = ports.book.open(requestId, {
    run: `${epoch}.${line.runs}`,
    isSettled,
    endsAtMonoMs: run.endsAtMonoMs,
    avoidedNodeIds: [...line.failedOn],
    onStarted: (nodeId) => {
      lastNode = nodeId;
      run.onStarted();
    },
    onWaiting: () => run.onWaiting(),
  });
  try {
    const body = JSON.stringify({ ...line.request.body, ...TIER });
    const response = await ports.ask({ path: run.endpoint, body, requestId, key: run.key, signal: run.signal });
    const bodyJson = await response.text();
    const { status } = response;
    const value = jsonOf(bodyJson);
    const error = errorSchema.safeParse(value);
    const code = error.success ? error.data.error.code : null;
    const param = error.success ? error.data.error.param : null;
    const outcome = lineOutcome({ status, code, param, triesBefore: line.tries });
    if (outcome.kind === "retry" && lastNode !== null) line.failedOn.add(lastNode);
    const json = answerLine({
      requestId,
      customId,
      status,
      bodyJson: value === undefined ? JSON.stringify(bodyJson) : bodyJson,
    });
    return { outcome, json, ...tokensOf(value) };
  } finally {
    opened.close();
  }
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // the gateway writes JSON; what else came is kept as text
  }
}

function tokensOf(value: unknown): { readonly promptTokens: number; readonly outputTokens: number } {
  const parsed = usageSchema.safeParse(value);
  if (!parsed.success) return { promptTokens: 0, outputTokens: 0 };
  const { prompt_tokens, input_tokens, completion_tokens, output_tokens } = parsed.data.usage;
  return { promptTokens: prompt_tokens ?? input_tokens ?? 0, outputTokens: completion_tokens ?? output_tokens ?? 0 };
}
