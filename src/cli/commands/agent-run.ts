/**
 * `fallow agent-run`, hidden: the agent of `fallow up` in a process of its own. It gets its orders over the IPC channel and ends
 * when that channel closes, which it does however the parent ended. Ctrl-C in a terminal reaches the whole process group; this
 * process leaves it to its parent, which drains first.
 */
import { createPinoLog } from "../../adapters/log-pino/pino-log.ts";
import { type AgentNews, type AgentOrder, agentOrderSchema } from "../agent-channel.ts";
import { asCliError } from "../cli-error.ts";
import { describeAgentEvent, isLasting } from "../compose/agent-events.ts";
import { startAgentHost } from "../compose/agent-host.ts";
import { openHome } from "../home/home-folder.ts";

/** The agent of a life before this one may hold its home for a moment more. */
const HOME_WAIT_MS = 10_000;

export async function runAgentChild(): Promise<void> {
  process.on("SIGINT", () => undefined);
  const stopping = new AbortController();
  process.once("disconnect", () => stopping.abort());
  process.once("SIGTERM", () => stopping.abort());
  // The parent may have gone while this program was being loaded; no event tells of what happened before.
  if (!process.connected) return;
  const order = await firstOrder(stopping.signal);
  if (order === null) return;
  process.on("message", (message) => {
    const parsed = agentOrderSchema.safeParse(message);
    if (parsed.success && parsed.data.kind === "stop") stopping.abort();
  });
  try {
    const host = await startAgentHost({
      home: openHome(order.home),
      enginesFolder: order.enginesFolder,
      engine: order.engine,
      homeWaitMs: HOME_WAIT_MS,
      target: { url: order.url, certificateSha256: order.certificateSha256 },
      gridId: null,
      joinToken: order.joinToken,
      name: order.name,
      region: order.region,
      priceMicroUsdPerHour: order.priceMicroUsdPerHour,
      memoryBytesMax: order.memoryBytesMax,
      weightsBytesMax: null,
      weightsFolder: null,
      transfers: order.transfers,
      peers: order.peers,
      threads: order.threads,
      attached: order.attached,
      gpuSplit: order.gpuSplit,
      speculates: order.speculates,
      drainMs: 0,
      log: createPinoLog({ level: order.logLevel }),
      signal: stopping.signal,
      onEvent: (event) => {
        if (event.event === "online") tell({ kind: "online", nodeId: event.nodeId });
        if (event.event === "refused") tell({ kind: "failed", code: event.code, message: event.message, fix: null });
        const text = describeAgentEvent(event);
        // The parent sees its replicas load through the grid, with the models' names.
        if (text !== null && event.event !== "loading" && event.event !== "fetching")
          tell({ kind: isLasting(event) ? "note" : "step", text });
      },
    });
    await host.ended;
  } catch (thrown) {
    if (!stopping.signal.aborted) {
      const { code, message, fix, exitCode } = asCliError(thrown);
      tell({ kind: "failed", code, message, fix });
      process.exitCode = exitCode;
    }
  }
  // An engine that is slow to end must not keep a process whose parent is gone.
  process.exit();
}

function tell(news: AgentNews): void {
  if (process.connected) process.send?.(news, undefined, undefined, () => undefined);
}

function firstOrder(signal: AbortSignal): Promise<Extract<AgentOrder, { kind: "start" }> | null> {
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => resolve(null), { once: true });
    process.once("message", (message) => {
      const parsed = agentOrderSchema.safeParse(message);
      resolve(parsed.success && parsed.data.kind === "start" ? parsed.data : null);
    });
  });
}
