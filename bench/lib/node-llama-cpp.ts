/** Starts node-llama-cpp in a process of its own, installing it from its own lockfile the first time. */
import { execFileSync, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { z } from "zod";

const FOLDER = new URL("../node-llama-cpp/", import.meta.url);
const readySchema = z.object({ kind: z.literal("ready") });
const ranSchema = z.object({
  kind: z.literal("ran"),
  wallMs: z.number(),
  outputs: z.array(z.array(z.number())),
});
export type PeerRun = z.infer<typeof ranSchema>;

export interface PeerWork {
  readonly prompts: readonly (readonly number[])[];
  readonly outputTokens: number;
  readonly temperature: number;
}

export interface Peer {
  readonly processId: number;
  run(work: PeerWork): Promise<PeerRun>;
  stop(): void;
}

/** Its platform package is the one that the engine uses: found in the project's own node_modules. */
export function installPeer(): void {
  if (existsSync(new URL("node_modules/.package-lock.json", FOLDER))) return;
  execFileSync("npm", ["ci", "--ignore-scripts", "--omit=optional"], { cwd: fileURLToPath(FOLDER), stdio: "inherit" });
}

export async function startPeer(shape: {
  weightsPath: string;
  contextTokens: number;
  sequencesMax: number;
  threads: number;
}): Promise<Peer> {
  const script = fileURLToPath(new URL("batching.mjs", FOLDER));
  const child = spawn(process.execPath, [script, JSON.stringify(shape)], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<unknown> => {
    const line = await lines.next();
    if (line.done === true) throw new Error("node-llama-cpp's process ended");
    return JSON.parse(line.value);
  };
  readySchema.parse(await next());
  return {
    processId: child.pid ?? 0,
    run: async (work) => {
      child.stdin.write(`${JSON.stringify(work)}\n`);
      return ranSchema.parse(await next());
    },
    stop: () => child.stdin.end(),
  };
}
