/** The emulator's process from the side of the lab: orders go out one at a time, each with its answer. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { type Answer, answerSchema, type Order } from "./emulator-messages.ts";

const PROGRAM = fileURLToPath(new URL("emulator/emulator-process.ts", import.meta.url));
const ERROR_CHARS_MAX = 4_000;

export interface EmulatorClient {
  readonly pid: number;
  /** Throws with the emulator's reason when it cannot do it. */
  order(order: Order): Promise<Answer & { ok: true }>;
  /** Settles when the process has ended and removed its namespaces. */
  readonly ended: Promise<void>;
}

export function startEmulator({ prefix, lifeMs }: { prefix: string; lifeMs: number }): EmulatorClient {
  // In a group of its own: Ctrl-C reaches the lab's owner only, and the emulator cleans up after it.
  const child = spawn(process.execPath, [PROGRAM, prefix, String(lifeMs)], {
    stdio: ["pipe", "pipe", "pipe"],
    detached: true,
  });
  const waiting: ((answer: Answer) => void)[] = [];
  let complaint = "";
  let hasEnded = false;
  const gone = (): Answer => ({ ok: false, message: `the emulator has ended. ${complaint.trim()}` });
  child.stderr.on("data", (data) => {
    complaint = (complaint + String(data)).slice(-ERROR_CHARS_MAX);
  });
  child.stdin.on("error", () => undefined); // the end of the process tells it to those who wait
  createInterface({ input: child.stdout }).on("line", (line) => {
    waiting.shift()?.(answerSchema.parse(JSON.parse(line)));
  });
  const ended = new Promise<void>((resolve) => {
    const end = () => {
      hasEnded = true;
      for (const settle of waiting.splice(0)) settle(gone());
      resolve();
    };
    child.on("error", (error) => {
      complaint += error.message;
      end();
    });
    child.on("close", end);
  });
  return {
    pid: child.pid ?? 0,
    ended,
    order: async (order) => {
      const answer = await new Promise<Answer>((resolve) => {
        if (hasEnded) return resolve(gone());
        waiting.push(resolve);
        child.stdin.write(`${JSON.stringify(order)}\n`);
      });
      if (!answer.ok) throw new Error(`netlab: ${order.op}: ${answer.message}`);
      return answer;
    },
  };
}
