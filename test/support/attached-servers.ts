/** Starts servers that nodes can attach, each a process of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { AttachedKind } from "../../src/domain/attached-engine.ts";

export const SERVER_ENTRY = fileURLToPath(new URL("./attached-server-process.ts", import.meta.url));

export interface RunningServer extends AsyncDisposable {
  readonly url: string;
  readonly child: ChildProcess;
}

export async function startAttachedServer(kind: AttachedKind, args: readonly string[] = []): Promise<RunningServer> {
  const child = spawn(process.execPath, [SERVER_ENTRY, kind, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const url = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout }).once("line", (line) => resolve(String(JSON.parse(line).url)));
    void exited.then(() => reject(new Error(`the ${kind} server ended before it listened`)));
  });
  return {
    url,
    child,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await exited;
    },
  };
}
