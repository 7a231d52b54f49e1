/**
 * The agent of `fallow up`: a child process, so that the coordinator's heap and event loop are its own and a crash of the agent is
 * a node that was lost, nothing more. It is started again with growing pauses. When this process dies in any way, the IPC
 * channel closes and the child ends.
 */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Log } from "../../ports/log.ts";
import { type AgentNews, type AgentOrder, agentNewsSchema } from "../agent-channel.ts";

export interface LocalAgent {
  /** Asks it to end, and kills it when it has not within `withinMs`. May be called twice. */
  stop(withinMs: number): Promise<void>;
}

/** A crash at once means a cause that a second does not change; half a minute is soon enough to try again. */
const RESTART_MS = { first: 1_000, max: 30_000 } as const;
/** After so long without a crash the next one is a new story. */
const STEADY_MS = 60_000;

export function startLocalAgent(options: {
  /**
   * Made anew for each start: a join token is used once. The process is started at once and waits for it, so that it loads its
   * code while the grid opens.
   */
  readonly order: () => Promise<Extract<AgentOrder, { kind: "start" }>>;
  readonly onNews: (news: AgentNews) => void;
  readonly log: Log;
}): LocalAgent {
  let child: ChildProcess | null = null;
  let restart: NodeJS.Timeout | null = null;
  let pauseMs: number = RESTART_MS.first;
  let isStopping = false;
  let needsPerson = false;

  const run = () => {
    const startedMs = performance.now();
    const entry = fileURLToPath(new URL(`../main${import.meta.url.slice(-3)}`, import.meta.url));
    const started = fork(entry, ["agent-run"], { stdio: ["ignore", "ignore", "inherit", "ipc"], execArgv: [] });
    child = started;
    started.on("message", (message) => {
      const news = agentNewsSchema.safeParse(message);
      if (!news.success) return options.log.warn({ problem: news.error.message }, "agent process sent something else");
      needsPerson = news.data.kind === "failed";
      options.onNews(news.data);
    });
    started.once("error", (cause) => options.log.error({ cause }, "agent process could not start"));
    started.once("close", (code, signal) => {
      child = null;
      if (isStopping || needsPerson) return;
      if (performance.now() - startedMs > STEADY_MS) pauseMs = RESTART_MS.first;
      options.log.warn({ code, signal, pauseMs }, "agent process ended and is started again");
      restart = setTimeout(run, pauseMs);
      pauseMs = Math.min(pauseMs * 2, RESTART_MS.max);
    });
    options.order().then(
      (order) => send(started, order),
      // No order, no agent: whoever failed to make it says why.
      () => started.kill("SIGTERM"),
    );
  };
  run();

  return {
    async stop(withinMs) {
      isStopping = true;
      if (restart !== null) clearTimeout(restart);
      const running = child;
      if (running === null || running.exitCode !== null) return;
      const ended = new Promise<void>((resolve) => running.once("close", () => resolve()));
      send(running, { kind: "stop" });
      const timer = setTimeout(() => running.kill("SIGKILL"), withinMs);
      await ended;
      clearTimeout(timer);
    },
  };
}

function send(child: ChildProcess, order: AgentOrder): void {
  // A channel that breaks here belongs to a child that is going: its `close` tells.
  if (child.connected) child.send(order, () => undefined);
}
