/**
 * `fallow join`: lends this machine to a grid until Ctrl-C. The first time a code says where the grid is; it is written down once
 * the grid has let this node in, so that later `fallow join` alone is enough. A refusal for good ends with exit code 4.
 */

import { resolve } from "node:path";
import { createPinoLog, type LogLevel } from "../../adapters/log-pino/pino-log.ts";
import { isLoopback } from "../../adapters/tls-identity/loopback.ts";
import { connectPinned } from "../../adapters/tls-identity/pinned-connect.ts";
import type { EngineWish } from "../../agent/devices/choose-variant.ts";
import { FallowError } from "../../domain/fault.ts";
import type { HostPort } from "../../domain/peer.ts";
import type { LinkTarget } from "../../ports/link.ts";
import { decodeJoinCode } from "../../wire/join-code.ts";
import { type AttachedFlags, attachedWishOf } from "../attached-flags.ts";
import { parseBytes } from "../byte-size.ts";
import { CliError } from "../cli-error.ts";
import { type AgentEvent, describeAgentEvent } from "../compose/agent-events.ts";
import { startAgentHost } from "../compose/agent-host.ts";
import type { PeerWaysOptions } from "../compose/peer-ways.ts";
import { EXIT } from "../exit-codes.ts";
import { type GpuSplitFlags, gpuSplitOf } from "../gpu-split-flags.ts";
import { ENGINES_FOLDER, type HomeFolder, openHome } from "../home/home-folder.ts";
import { type JoinedGrid, readJoinedGrid, writeJoinedGrid } from "../home/joined-grid.ts";
import { transferFlagsOf } from "../home/transfer-settings.ts";
import { onStopSignals } from "../stop-signals.ts";
import { note, printJson } from "../terminal.ts";
import { gridsNearby } from "./discover.ts";

export interface JoinOptions extends GpuSplitFlags, AttachedFlags {
  readonly home?: string;
  readonly name?: string;
  readonly region?: string;
  /** Micro-USD. */
  readonly pricePerHour?: number;
  /** Bytes. */
  readonly maxVram?: number;
  readonly maxMemory?: number;
  readonly maxWeights?: string;
  readonly weightsFolder?: string;
  readonly uploadMbit?: number | "none";
  readonly downloadMbit?: number | "none";
  readonly quietHours?: string;
  readonly quietMbit?: number;
  readonly peers: boolean;
  readonly peerPort?: number;
  readonly peerAddress?: HostPort;
  readonly udp: boolean;
  readonly relay: boolean;
  readonly lan: boolean;
  readonly threads?: number;
  readonly speculation: boolean;
  readonly engine: EngineWish;
  readonly logLevel: LogLevel;
  readonly json?: boolean;
}

/** Running answers may end; whoever presses Ctrl-C again does not wait. */
const DRAIN_MS = 5_000;
const NO_WAIT_MS = 0;
/** Machines on one network answer within a few ms; one that is busy takes longer. */
const NEARBY_MS = 1_000;

export async function runJoin(code: string | null, options: JoinOptions): Promise<void> {
  const home = openHome(options.home);
  const attached = attachedWishOf(options);
  const memoryBytesMax = options.maxVram ?? options.maxMemory ?? null;
  const weightsBytesMax = options.maxWeights === undefined ? null : parseBytes(options.maxWeights);
  const invitation = code === null ? await savedGrid(home, options.lan) : readCode(code);
  const stop = onStopSignals(() => note("fallow: finishing what runs; Ctrl-C again ends at once"));
  const tell = (event: AgentEvent) => {
    const text = describeAgentEvent(event);
    if (options.json === true) printJson(event);
    else if (text !== null && event.event !== "refused") note(`fallow: ${text}`); // a refusal is this command's error
  };
  let refusal: CliError | null = null;
  try {
    const target = await firstReachable(invitation.grid, stop.signal);
    const host = await startAgentHost({
      home,
      enginesFolder: home.at(ENGINES_FOLDER),
      engine: options.engine,
      homeWaitMs: NO_WAIT_MS,
      target,
      gridId: invitation.grid.gridId,
      gridPublicKeyHex: invitation.grid.gridPublicKeyHex,
      joinToken: invitation.token,
      name: options.name ?? null,
      region: options.region ?? null,
      priceMicroUsdPerHour: options.pricePerHour ?? null,
      memoryBytesMax,
      weightsBytesMax,
      weightsFolder: options.weightsFolder === undefined ? null : resolve(options.weightsFolder),
      transfers: transferFlagsOf(options),
      peers: options.peers ? peersOf(options, target) : null,
      threads: options.threads ?? null,
      attached,
      gpuSplit: gpuSplitOf(options),
      speculates: options.speculation,
      log: createPinoLog({ level: options.logLevel }),
      signal: stop.signal,
      drainMs: DRAIN_MS,
      onEvent: (event) => {
        if (event.event === "online") {
          writeJoinedGrid(home, { ...invitation.grid, gridPublicKeyHex: event.gridPublicKeyHex });
        }
        if (event.event === "refused") refusal = refused(event);
        tell(event);
      },
    });
    await host.ended;
  } catch (thrown) {
    if (!stop.signal.aborted) throw thrown;
    process.exit(EXIT.ok); // stopped before it worked: an engine that is being measured ends with this process
  } finally {
    stop.dispose();
  }
  if (refusal !== null) throw refusal;
}

/** A grid on this very machine is reached by nobody else, and neither is its node. */
function peersOf(options: JoinOptions, target: LinkTarget): PeerWaysOptions {
  const isLocal = isLoopback(new URL(target.url).hostname.replace(/^\[|\]$/g, ""));
  return {
    host: isLocal ? "127.0.0.1" : "0.0.0.0",
    port: options.peerPort ?? 0,
    forwarded: options.peerAddress ?? null,
    hasUdp: options.udp,
    hasRelay: options.relay,
    hasLan: options.lan,
  };
}

interface Invitation {
  readonly grid: JoinedGrid;
  /** Null when this node is known to the grid. */
  readonly token: string | null;
}

function readCode(code: string): Invitation {
  const decoded = decodeJoinCode(code);
  if (decoded.ok) {
    const { gridId, urls, certificateSha256, token } = decoded.value;
    return { grid: { gridId, urls: [...urls], certificateSha256, gridPublicKeyHex: null }, token };
  }
  const { code: problem, message } = decoded.reason;
  throw new CliError(message, {
    exitCode: EXIT.refused,
    code: problem,
    fix: "copy the whole line that `fallow up` or `fallow join-code` printed",
  });
}

async function savedGrid(home: HomeFolder, mayLook: boolean): Promise<Invitation> {
  const grid = readJoinedGrid(home);
  if (grid !== null) return { grid, token: null };
  const seen = mayLook ? await gridsNearby(NEARBY_MS) : [];
  const where = seen.map(({ host, port }) => `${host}:${port}`).join(", ");
  const nearby = seen.length === 0 ? "" : `; this network has ${seen.length === 1 ? "a grid" : "grids"} at ${where}`;
  throw new CliError(`the agent in ${home.path} has not joined a grid yet${nearby}`, {
    exitCode: EXIT.usage,
    code: "usage",
    fix: "ask the grid's operator for a code (`fallow join-code` on his machine prints one), then `fallow join CODE`",
  });
}

function refused({ code, message }: { code: string; message: string }): CliError {
  const isCode = code.startsWith("join-token") || code.startsWith("join-code");
  return new CliError(message, {
    exitCode: EXIT.refused,
    code,
    fix: isCode ? "ask the grid's operator for a new code (`fallow join-code`)" : null,
  });
}

/**
 * A code may carry several addresses of one grid; the first that answers with the right certificate is taken. When none does,
 * the first is used: the agent goes on trying, because the grid may only be starting.
 */
async function firstReachable(grid: JoinedGrid, signal: AbortSignal): Promise<LinkTarget> {
  const targets = grid.urls.map((url) => ({ url, certificateSha256: grid.certificateSha256 }));
  const [first] = targets;
  if (first === undefined) throw new CliError("the join code names no address", { exitCode: EXIT.refused });
  if (targets.length === 1) return first;
  for (const target of targets) {
    try {
      const { socket } = await connectPinned(target, signal);
      socket.destroy();
      return target;
    } catch (thrown) {
      if (!(thrown instanceof FallowError)) throw thrown; // not reachable from here: the next one may be
    }
  }
  return first;
}
