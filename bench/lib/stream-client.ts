/** Starts the process that plays many streaming clients. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { z } from "zod";

const streamSchema = z.object({
  /** From the start of the load to the first event. */
  firstMs: z.number().nullable(),
  text: z.string(),
  tokens: z.number(),
  events: z.number(),
  isDone: z.boolean(),
  problem: z.string().nullable(),
});
const answerSchema = z.object({ wallMs: z.number(), cpuMs: z.number(), streams: z.array(streamSchema) });
export type LoadAnswer = z.infer<typeof answerSchema>;

export interface StreamClient {
  /** All bodies at once, each on a connection of its own. Throws when a stream did not end well. */
  load(bodies: readonly unknown[]): Promise<LoadAnswer>;
  stop(): void;
}

export function startStreamClient(target: { url: string; key: string; path: string }): StreamClient {
  const child: ChildProcess = fork(new URL("stream-client-process.ts", import.meta.url), {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const port = Number(new URL(target.url).port);
  return {
    load: async (bodies) => {
      child.send({ port, key: target.key, path: target.path, bodies: bodies.map((body) => JSON.stringify(body)) });
      const [message]: unknown[] = await once(child, "message");
      const answer = answerSchema.parse(message);
      for (const stream of answer.streams) {
        if (stream.problem !== null || !stream.isDone)
          throw new Error(`a stream ended badly: ${stream.problem ?? "cut"}`);
      }
      return answer;
    },
    stop: () => {
      child.disconnect();
    },
  };
}
