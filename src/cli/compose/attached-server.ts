/**
 * The server that a node lends: found (or started and waited for), asked what it is, and made an engine. What is not as it should be is told before
 * the node joins.
 */
import { SystemClock } from "../../adapters/clock-system/system-clock.ts";
import { SystemRandom } from "../../adapters/clock-system/system-random.ts";
import { AttachedHost } from "../../adapters/engine-openai/attached-host.ts";
import { type FoundServer, probeServer, type ServerWish } from "../../adapters/engine-openai/probe-server.ts";
import { readAttachedModel } from "../../adapters/engine-openai/read-attached-model.ts";
import { ServerHttp } from "../../adapters/engine-openai/server-http.ts";
import { launchCommand } from "../../adapters/server-launcher/launch-command.ts";
import { ProcessLauncher } from "../../adapters/server-launcher/process-launcher.ts";
import { LlamaTokenizerHost } from "../../adapters/tokenizer-llama/tokenizer-host.ts";
import { KeptServer } from "../../agent/devices/kept-server.ts";
import { ATTACHED_DEVICE_ID, type AttachedServer } from "../../domain/attached-engine.ts";
import { FallowError } from "../../domain/fault.ts";
import type { Device, NodeCapabilities } from "../../domain/hardware.ts";
import type { ServerLaunch } from "../../domain/server-launch.ts";
import { pause } from "../../ports/clock.ts";
import type { EngineHost } from "../../ports/engine.ts";
import type { Log } from "../../ports/log.ts";
import type { AttachedWish } from "../attached-flags.ts";
import { CliError } from "../cli-error.ts";
import type { HomeFolder } from "../home/home-folder.ts";
import type { AgentEvent } from "./agent-events.ts";
import { childEnvironment } from "./child-environment.ts";

export interface OpenedServer {
  readonly described: AttachedServer;
  readonly engines: EngineHost;
  close(): Promise<void>;
}

export interface OpeningServer {
  readonly home: HomeFolder;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly onEvent: (event: AgentEvent) => void;
}

const LOOK_MS = 500;
/** A server that ends so often before it ever answers is not started again by waiting. */
const STARTS_MAX = 3;
/** The largest models load from a slow disk in about that time. */
const START_MS_MAX = 30 * 60_000;
const KEY_VARIABLE = "FALLOW_ENGINE_KEY";
const LOG_FILE = "engine-server.log";

export async function openAttachedServer(wish: AttachedWish, opening: OpeningServer): Promise<OpenedServer> {
  const { signal, onEvent } = opening;
  const server = serverOf(wish);
  const kept = wish.launch === null ? null : keptServer(wish.launch, opening);
  const clock = new SystemClock();
  try {
    if (kept !== null) await notTaken(server, wish, signal);
    kept?.use();
    onEvent({ event: "attaching", url: wish.url, isStarted: kept !== null });
    const found = kept === null ? await askServer(wish, signal) : await whenReady(kept, { wish, signal, clock });
    const { described } = found;
    const { kind, version, models } = described;
    onEvent({ event: "attached", url: wish.url, kind, version, models: models.map(({ modelId }) => modelId) });
    const tokenizers = new LlamaTokenizerHost({ libraryDirectory: null, environment: childEnvironment() });
    // It is there from now on for whoever loads a model; until the first does, it stays.
    await kept?.leave({ keeps: true });
    const engines = new AttachedHost({
      server,
      wish: { ...serverWish(wish), kind },
      tokenizers,
      readModel: readAttachedModel,
      ...(kept === null ? {} : { keeper: kept }),
    });
    return {
      described,
      engines,
      close: async () => {
        await Promise.all([kept?.stop(), tokenizers.close()]);
      },
    };
  } catch (thrown) {
    await kept?.stop();
    throw thrown;
  }
}

/** What answers there; throws a `CliError` that says what to do. */
export async function askServer(wish: AttachedWish, signal: AbortSignal): Promise<FoundServer> {
  try {
    const found = await probeServer(serverOf(wish), serverWish(wish), signal);
    if (found.described.models.length > 0) return found;
  } catch (thrown) {
    if (!(thrown instanceof FallowError) || thrown.code === "aborted") throw thrown;
    throw new CliError(thrown.message, { code: thrown.code, fix: FIXES[thrown.code] ?? null, cause: thrown });
  }
  throw new CliError(`the server at ${wish.url} holds no model that the grid could name`, {
    code: "attached-model-missing",
    fix: "load one there, or name it with --engine-model OURS=THEIRS",
  });
}

const FIXES: Readonly<Record<string, string>> = {
  "attached-unreachable": "start the server, or give the address on which it listens with --engine-url",
  "attached-refused": `if it wants a key, put it into the environment variable ${KEY_VARIABLE}`,
  "attached-kind-unknown": "say what it is with --engine-kind, or give the address of a server that is known",
  "attached-kind-differs": "leave --engine-kind out and it is found out",
  "attached-model-missing": "give the server's own name of the model behind the = of --engine-model",
  "attached-silent": "look whether the server hangs",
};

/** The device on which its replicas stand: no memory of it is planned. */
export function withAttached(
  capabilities: NodeCapabilities,
  attached: AttachedServer,
  { hasOwnEngine }: Pick<AttachedWish, "hasOwnEngine">,
): NodeCapabilities {
  const device: Device = {
    deviceId: ATTACHED_DEVICE_ID,
    kind: "cpu",
    variant: "cpu",
    name: `${attached.kind} ${attached.version}`,
    memoryBytes: 0,
    memoryFreeBytes: 0,
    reserveBytes: 0,
  };
  const own = capabilities.devices.map((one) => (hasOwnEngine ? one : { ...one, reserveBytes: one.memoryBytes }));
  return { ...capabilities, devices: [...own, device], attached };
}

function serverOf({ url }: AttachedWish): ServerHttp {
  return new ServerHttp({ baseUrl: url, apiKey: process.env[KEY_VARIABLE] ?? null });
}

function serverWish({ kind, models, slots, launch }: AttachedWish): ServerWish {
  return { kind, names: new Map(models), sequencesMax: slots ?? launch?.sequencesMax ?? null };
}

function keptServer(launch: ServerLaunch, { home, log }: OpeningServer): KeptServer {
  const launcher = new ProcessLauncher({
    command: launchCommand(launch),
    logPath: home.at(LOG_FILE),
    // Tokens of hubs, caches and GPUs: all that the owner set for such programs.
    environment: process.env,
  });
  return new KeptServer({ clock: new SystemClock(), random: new SystemRandom(), log, launcher });
}

/** A server that runs already would be taken for the one that is started. */
async function notTaken(server: ServerHttp, { url }: AttachedWish, signal: AbortSignal): Promise<void> {
  try {
    await server.touch("/", { signal, withinMs: LOOK_MS });
  } catch (thrown) {
    if (thrown instanceof FallowError && thrown.code === "attached-unreachable") return;
    if (signal.aborted) throw thrown;
  }
  throw new CliError(`something answers at ${url} already, where a server is to be started`, {
    code: "port-taken",
    fix: "name a free port in the file of --engine-launch, or attach what runs with --engine-url",
  });
}

async function whenReady(
  kept: KeptServer,
  by: { readonly wish: AttachedWish; readonly signal: AbortSignal; readonly clock: SystemClock },
): Promise<FoundServer> {
  const { wish, signal, clock } = by;
  const untilMs = clock.monoMs() + START_MS_MAX;
  for (;;) {
    signal.throwIfAborted();
    try {
      return await askServer(wish, signal);
    } catch (thrown) {
      const isAway = thrown instanceof CliError && (AWAY.has(thrown.code) || thrown.code === "attached-kind-differs");
      if (!isAway || clock.monoMs() > untilMs) throw thrown;
      if (kept.lastEnd !== null && kept.starts >= STARTS_MAX) {
        throw new CliError(`the server does not stay: ${kept.lastEnd}`, {
          code: "server-not-started",
          fix: `its log is ${LOG_FILE} in the agent's home`,
        });
      }
      await pause(clock, LOOK_MS, signal);
    }
  }
}

const AWAY: ReadonlySet<string> = new Set([
  "attached-unreachable",
  "attached-overloaded",
  "attached-silent",
  "attached-broken",
]);
