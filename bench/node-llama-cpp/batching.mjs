// node-llama-cpp's own continuous batching over the same file, as a process that is told what to run: one JSON line in,
// one out. Its texts are compared with ours by the caller.
import { createInterface } from "node:readline";
import { getLlama } from "node-llama-cpp";

const { weightsPath, contextTokens, sequencesMax, threads } = JSON.parse(process.argv[2] ?? "{}");
const llama = await getLlama({
  build: "never",
  skipDownload: true,
  gpu: false,
  maxThreads: threads,
  logLevel: "error",
});
const model = await llama.loadModel({ modelPath: weightsPath, gpuLayers: 0 });
const context = await model.createContext({
  sequences: sequencesMax,
  contextSize: contextTokens,
  batchSize: sequencesMax + 512,
  flashAttention: false,
  threads,
});
const sequences = Array.from({ length: sequencesMax }, () => context.getSequence());
console.log(JSON.stringify({ kind: "ready" }));

for await (const line of createInterface({ input: process.stdin })) {
  const { prompts, outputTokens, temperature } = JSON.parse(line);
  await Promise.all(sequences.map((sequence) => sequence.clearHistory()));
  const startMs = performance.now();
  const outputs = await Promise.all(
    prompts.map(async (prompt, at) => {
      const options = { temperature, topK: 40, topP: 1, minP: 0, seed: at, yieldEogToken: true, repeatPenalty: false };
      const output = [];
      for await (const token of sequences[at].evaluate(prompt, options)) {
        output.push(token);
        if (output.length === outputTokens) break;
      }
      return output;
    }),
  );
  console.log(JSON.stringify({ kind: "ran", wallMs: performance.now() - startMs, outputs }));
}
process.exit(0);
