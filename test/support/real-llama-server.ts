/** A real llama-server: the one that FALLOW_LLAMA_SERVER names, or Debian's, which is fetched once (tools/fetch-llama-server.mjs). */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { TINY_PATH } from "./engine-fixture.ts";

const TOOL = fileURLToPath(new URL("../../tools/fetch-llama-server.mjs", import.meta.url));
const FOLDER = fileURLToPath(new URL("../../.cache/llama-server", import.meta.url));
const FETCH_MS_MAX = 240_000;

/** Its program, or why there is none. */
export function llamaServerProgram(): { readonly program: string } | { readonly missing: string } {
  const named = process.env["FALLOW_LLAMA_SERVER"];
  if (named !== undefined) return { program: named };
  const { status, stdout, stderr } = spawnSync(process.execPath, [TOOL, FOLDER], {
    encoding: "utf8",
    timeout: FETCH_MS_MAX,
  });
  if (status === 0) return { program: stdout.trim() };
  return {
    missing:
      stderr
        .trim()
        .split("\n")
        .find((line) => line.includes("Error:")) ?? "it could not be fetched",
  };
}

export function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}

export async function startLlamaServer(
  program: string,
): Promise<AsyncDisposable & { url: string; child: ChildProcess }> {
  const port = await freePort();
  const args = [
    "--model",
    TINY_PATH,
    "--host",
    "127.0.0.1",
    "--port",
    String(port),
    "-t",
    "1",
    "-c",
    "2048",
    "-np",
    "2",
  ];
  const child = spawn(program, args, { stdio: "ignore" });
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const url = `http://127.0.0.1:${port}`;
  while (child.exitCode === null) {
    const health = await fetch(`${url}/health`).catch(() => null);
    if (health?.ok === true) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    url,
    child,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await exited;
    },
  };
}
