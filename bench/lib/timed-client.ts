/** Starts the process that plays streaming clients and notes when each character came. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { z } from "zod";

const requestSchema = z.object({
  /** When the request was written, on the machine's monotonic clock. */
  sentMs: z.number(),
  requestId: z.string(),
  /** After each piece that came: when, and how many bytes of the answer's text there were by then. */
  arrivals: z.array(z.object({ atMs: z.number(), textBytes: z.number() })),
  /** When `[DONE]` came. */
  doneMs: z.number(),
});
const answerSchema = z.object({ wallMs: z.number(), requests: z.array(requestSchema) });
export type TimedAnswer = z.infer<typeof answerSchema>;
export type TimedRequest = z.infer<typeof requestSchema>;

/** Both processes read the same clock, which does not step: milliseconds with a fraction. */
export function machineMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

export interface TimedClient {
  /** Each lane sends its bodies one after the other; all lanes run at once. */
  run(lanes: readonly (readonly unknown[])[]): Promise<TimedAnswer>;
  stop(): void;
}

export function startTimedClient(target: { port: number; key: string; path: string }): TimedClient {
  const child: ChildProcess = fork(new URL("timed-client-process.ts", import.meta.url), {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  return {
    run: async (lanes) => {
      child.send({ ...target, lanes: lanes.map((bodies) => bodies.map((body) => JSON.stringify(body))) });
      const [message]: unknown[] = await once(child, "message");
      return answerSchema.parse(message);
    },
    stop: () => child.disconnect(),
  };
}
