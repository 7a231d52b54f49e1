/** Starts the process that runs the bare loop; it loads the model once and runs as often as asked. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { z } from "zod";

const answerSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("open"), pieces: z.array(z.string()) }),
  z.object({
    kind: z.literal("ran"),
    wallMs: z.number(),
    cpuMs: z.number(),
    /** Of that, inside `llama_decode`. */
    decodeMs: z.number(),
    tokens: z.number(),
    /** How often the argmax was the token that followed: all of them for greedy sequences. */
    agreed: z.number(),
  }),
  z.object({ kind: z.literal("generated"), outputs: z.array(z.array(z.number())), texts: z.array(z.string()) }),
]);
export type BareAnswer = z.infer<typeof answerSchema>;
export type BareRun = Extract<BareAnswer, { kind: "ran" }>;

export interface BareSequence {
  readonly prompt: readonly number[];
  readonly output: readonly number[];
}

export interface BareLoop {
  /** Text of each token. */
  readonly pieces: readonly string[];
  run(sequences: readonly BareSequence[]): Promise<BareRun>;
  /** Greedy, one after the other. */
  generate(
    prompts: readonly (readonly number[])[],
    tokens: number,
  ): Promise<Extract<BareAnswer, { kind: "generated" }>>;
  stop(): void;
}

export async function startBareLoop(options: {
  weightsPath: string;
  contextTokens: number;
  sequencesMax: number;
  threads: number;
}): Promise<BareLoop> {
  const child = fork(new URL("bare-loop-process.ts", import.meta.url), {
    stdio: ["ignore", "inherit", "ignore", "ipc"],
  });
  const opened = await ask(child, { kind: "open", ...options });
  if (opened.kind !== "open") throw new Error("the bare loop opens before it runs");
  return {
    pieces: opened.pieces,
    run: async (sequences) => {
      const answer = await ask(child, { kind: "run", sequences });
      if (answer.kind !== "ran") throw new Error("the bare loop answers a run with its times");
      return answer;
    },
    generate: async (prompts, tokens) => {
      const answer = await ask(child, { kind: "generate", prompts, tokens });
      if (answer.kind !== "generated") throw new Error("the bare loop answers with what it generated");
      return answer;
    },
    stop: () => child.disconnect(),
  };
}

async function ask(
  child: ChildProcess,
  order: Readonly<Record<string, unknown>> & { readonly kind: string },
): Promise<BareAnswer> {
  child.send(order);
  const listening = new AbortController();
  const { signal } = listening;
  try {
    const answered = once(child, "message", { signal });
    const ended = once(child, "exit", { signal }).then((): never => {
      throw new Error("the bare loop's process ended");
    });
    const [message]: unknown[] = await Promise.race([answered, ended]);
    return answerSchema.parse(message);
  } finally {
    listening.abort();
  }
}
