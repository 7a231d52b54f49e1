/** Starts the process that plays callers who keep their connections. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { z } from "zod";

export const loadOrderSchema = z.object({
  port: z.number(),
  path: z.string(),
  headers: z.record(z.string(), z.string()),
  body: z.string(),
  connections: z.number(),
  durationMs: z.number(),
  isStream: z.boolean(),
  /** Of an answer; the whole text has to come. */
  tokens: z.number(),
});
export type LoadOrder = z.infer<typeof loadOrderSchema>;

const resultSchema = z.object({ problem: z.null(), wallMs: z.number(), latenciesMs: z.array(z.number()) });
const answerSchema = z.union([resultSchema, z.object({ problem: z.string() })]);
export type LoadResult = z.infer<typeof resultSchema>;

export interface ProxyLoad {
  /** Each caller asks until the time is over and then waits for its last answer. Throws when an answer was not whole. */
  run(order: LoadOrder): Promise<LoadResult>;
  stop(): void;
}

export function startProxyLoad(): ProxyLoad {
  const child: ChildProcess = fork(new URL("proxy-load-process.ts", import.meta.url), {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  return {
    run: async (order) => {
      child.send(order);
      const [message]: unknown[] = await once(child, "message");
      const answer = answerSchema.parse(message);
      if (answer.problem !== null) throw new Error(`port ${order.port}: ${answer.problem}`);
      return answer;
    },
    stop: () => child.disconnect(),
  };
}
