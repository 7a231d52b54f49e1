/**
 * The yardstick: the same sequences through libllama with nothing around it. No scheduling, no sampling rules, no messages: the
 * prompts in batches, then one token of every sequence a step, with the argmax of its logits read in JavaScript as the least
 * that any loop must do to know its next token. The tokens fed are those that the grid made, so both compute the same.
 */
import { z } from "zod";
import { abiMismatch } from "../../src/adapters/engine-llama/abi-check.ts";
import { DecodeBatch } from "../../src/adapters/engine-llama/decode-batch.ts";
import { bindLlama } from "../../src/adapters/engine-llama/llama-ffi.ts";
import { findLlamaLibrary } from "../../src/adapters/engine-llama/llama-library.ts";
import { type LoadedModel, loadModel } from "../../src/adapters/engine-llama/loaded-model.ts";
import type { BareAnswer } from "./bare-loop.ts";

const openSchema = z.object({
  kind: z.literal("open"),
  weightsPath: z.string(),
  contextTokens: z.number(),
  sequencesMax: z.number(),
  threads: z.number(),
});
const runSchema = z.object({
  kind: z.literal("run"),
  sequences: z.array(z.object({ prompt: z.array(z.number()), output: z.array(z.number()) })),
});
const generateSchema = z.object({
  kind: z.literal("generate"),
  prompts: z.array(z.array(z.number())),
  tokens: z.number(),
});
const orderSchema = z.discriminatedUnion("kind", [openSchema, runSchema, generateSchema]);
type Sequence = z.infer<typeof runSchema>["sequences"][number];

let loaded: LoadedModel | null = null;

process.on("message", (message) => {
  const order = orderSchema.parse(message);
  if (order.kind === "open") process.send?.(open(order));
  else if (loaded === null) throw new Error("the model is opened first");
  else if (order.kind === "run") process.send?.(run(loaded, order.sequences));
  else process.send?.(generate(loaded, order));
});

function open(order: z.infer<typeof openSchema>): BareAnswer {
  const api = bindLlama(findLlamaLibrary({ directory: null, variant: "cpu" }));
  const mismatch = abiMismatch(api);
  if (mismatch !== null) throw new Error(mismatch);
  const result = loadModel(api, { ...order, gpuLayers: 0, onProgress: () => undefined });
  if (!result.ok) throw new Error(result.message);
  loaded = result.value;
  const pieces = Array.from({ length: loaded.vocabulary.size }, (_, id) =>
    Buffer.from(result.value.vocabulary.piece(id)).toString("utf8"),
  );
  return { kind: "open", pieces };
}

function run(model: LoadedModel, sequences: readonly Sequence[]): BareAnswer {
  const { api, context, memory, batchTokens, sequencesMax } = model;
  api.clearMemory(memory, true);
  const batch = new DecodeBatch({ tokensMax: batchTokens, sequencesMax });
  let agreed = 0;
  let tokens = 0;
  let decodeMs = 0;
  const step = (wanting: readonly { readonly next: number | undefined }[]) => {
    const decodingFromMs = performance.now();
    const code = api.decode(context, batch.raw);
    decodeMs += performance.now() - decodingFromMs;
    if (code !== 0) throw new Error(`llama_decode answered ${code}`);
    const address = wanting.length === 0 ? null : api.logits(context);
    const rows = address === null ? [] : model.logitRows.at(address);
    for (const [at, { next }] of wanting.entries()) {
      const row = rows[at];
      if (row === undefined || next === undefined) continue;
      tokens += 1;
      if (argmax(row) === next) agreed += 1;
    }
    batch.clear();
  };
  const cpuBefore = process.cpuUsage();
  const startMs = performance.now();
  prefill(sequences, { batch, batchTokens, step });
  const longest = Math.max(...sequences.map(({ output }) => output.length));
  for (let at = 0; at < longest - 1; at++) {
    const wanting: { next: number | undefined }[] = [];
    for (const [sequence, { prompt, output }] of sequences.entries()) {
      const token = output[at];
      if (token === undefined || at + 1 >= output.length) continue;
      batch.add(token, { position: prompt.length + at, sequence, wantsOutput: true });
      wanting.push({ next: output[at + 1] });
    }
    step(wanting);
  }
  const wallMs = performance.now() - startMs;
  const { user, system } = process.cpuUsage(cpuBefore);
  return { kind: "ran", wallMs, cpuMs: (user + system) / 1_000, decodeMs, tokens, agreed };
}

/** The greedy continuation of each prompt: which tokens a run is then timed with. */
function generate(model: LoadedModel, order: z.infer<typeof generateSchema>): BareAnswer {
  const { api, context, memory, batchTokens, sequencesMax } = model;
  const outputs = order.prompts.map((prompt) => {
    api.clearMemory(memory, true);
    const batch = new DecodeBatch({ tokensMax: batchTokens, sequencesMax });
    for (const [position, token] of prompt.entries()) {
      batch.add(token, { position, sequence: 0, wantsOutput: position === prompt.length - 1 });
    }
    const output: number[] = [];
    while (output.length < order.tokens) {
      const code = api.decode(context, batch.raw);
      const address = code === 0 ? api.logits(context) : null;
      const row = address === null ? undefined : model.logitRows.at(address)[0];
      if (row === undefined) throw new Error(`llama_decode answered ${code}`);
      const token = argmax(row);
      output.push(token);
      batch.clear();
      batch.add(token, { position: prompt.length + output.length - 1, sequence: 0, wantsOutput: true });
    }
    return output;
  });
  const decoder = (output: readonly number[]) =>
    Buffer.concat(output.map((token) => Buffer.from(model.vocabulary.piece(token)))).toString("utf8");
  return { kind: "generated", outputs, texts: outputs.map(decoder) };
}

/** Whole prompts into batches, in order; the logits after each prompt's last token give its first token. */
function prefill(
  sequences: readonly Sequence[],
  tools: {
    batch: DecodeBatch;
    batchTokens: number;
    step: (wanting: readonly { readonly next: number | undefined }[]) => void;
  },
): void {
  const { batch, batchTokens, step } = tools;
  let wanting: { next: number | undefined }[] = [];
  for (const [sequence, { prompt, output }] of sequences.entries()) {
    if (batch.tokens + prompt.length > batchTokens) {
      step(wanting);
      wanting = [];
    }
    for (const [position, token] of prompt.entries()) {
      batch.add(token, { position, sequence, wantsOutput: position === prompt.length - 1 });
    }
    wanting.push({ next: output[0] });
  }
  step(wanting);
}

function argmax(row: Float32Array): number {
  let best = 0;
  let bestLogit = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < row.length; id++) {
    const logit = row[id] ?? 0;
    if (logit > bestLogit) {
      bestLogit = logit;
      best = id;
    }
  }
  return best;
}
