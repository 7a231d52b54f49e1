/** Starts servers as processes of this machine, each behind a small keeper of its own (launcher-child.ts) that ends it when this process is gone. */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { FallowError } from "../../domain/fault.ts";
import type { LaunchedServer, ServerLauncher } from "../../ports/server-launcher.ts";
import type { LaunchCommand } from "./launch-command.ts";
import type { LauncherNews, LauncherOrder } from "./launcher-protocol.ts";

export interface ProcessLauncherOptions {
  readonly command: LaunchCommand;
  readonly logPath: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** The keeper gives the server five seconds, and is killed itself after this. */
const STOP_MS_MAX = 8_000;

export class ProcessLauncher implements ServerLauncher {
  readonly #options: ProcessLauncherOptions;

  constructor(options: ProcessLauncherOptions) {
    this.#options = options;
  }

  start(): Promise<LaunchedServer> {
    const { command, logPath, environment } = this.#options;
    // In the published package both files are .js: the child is whatever this file is.
    const entry = fileURLToPath(new URL(`./launcher-child${import.meta.url.slice(-3)}`, import.meta.url));
    const keeper = fork(entry, [], {
      stdio: ["ignore", "ignore", "ignore", "ipc"],
      env: { ...environment },
      execArgv: [],
    });
    let detail = "its keeper ended";
    let groupId: number | null = null;
    const exited = new Promise<string>((resolve) => {
      // `close` would never come: it waits for the channel, which is closed from here.
      keeper.once("exit", () => {
        if (groupId !== null) endGroup(groupId);
        resolve(detail);
      });
    });
    const order: LauncherOrder = { kind: "start", ...command, logPath };
    return new Promise((resolve, reject) => {
      const fail = (why: string) => {
        keeper.kill("SIGKILL");
        reject(new FallowError("server-not-started", why));
      };
      keeper.once("error", (cause) => fail(cause.message));
      // Both ends are this package.
      keeper.on("message", (news: LauncherNews) => {
        if (news.kind === "failed") fail(news.message);
        if (news.kind === "started") {
          groupId = news.processId;
          resolve({ processId: news.processId, exited, stop: () => stop(keeper, exited) });
        }
        if (news.kind !== "ended") return;
        detail = news.detail;
        keeper.disconnect();
      });
      keeper.send(order, () => undefined);
      void exited.then((why) => reject(new FallowError("server-not-started", why)));
    });
  }
}

async function stop(keeper: ChildProcess, exited: Promise<string>): Promise<void> {
  if (keeper.connected) keeper.disconnect();
  const timer = setTimeout(() => keeper.kill("SIGKILL"), STOP_MS_MAX);
  await exited;
  clearTimeout(timer);
}

/** A keeper that was killed could not end its server. */
function endGroup(groupId: number): void {
  try {
    process.kill(-groupId, "SIGKILL");
  } catch {
    // gone already
  }
}
