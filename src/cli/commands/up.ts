/**
 * `fallow up`: coordinator, one agent, a model, on this machine.
 *
 * | step          | what a crash there leaves                                                   |
 * | ------------- | --------------------------------------------------------------------------- |
 * | lock the home | nothing: the kernel drops the lock                                           |
 * | open the grid | a store whose last commits are whole; secrets that the next start registers   |
 * | listen        | a run.json that the next start overwrites                                     |
 * | agent, model  | an agent that ends with us; a node that the next start meets again            |
 */
import { resolve } from "node:path";
import { createPinoLog, type LogLevel } from "../../adapters/log-pino/pino-log.ts";
import { isLoopback } from "../../adapters/tls-identity/loopback.ts";
import type { EngineWish } from "../../agent/devices/choose-variant.ts";
import type { WireFormat } from "../../domain/chain.ts";
import type { TierFactors } from "../../market/tier-price.ts";
import type { Log } from "../../ports/log.ts";
import type { AgentNews } from "../agent-channel.ts";
import { type AttachedFlags, attachedWishOf } from "../attached-flags.ts";
import { CliError, systemCode } from "../cli-error.ts";
import {
  type CoordinatorHost,
  type CoordinatorHostOptions,
  startCoordinatorHost,
} from "../compose/coordinator-host.ts";
import { type LocalAgent, startLocalAgent } from "../compose/local-agent.ts";
import { EXIT } from "../exit-codes.ts";
import { type GpuSplitFlags, gpuSplitOf } from "../gpu-split-flags.ts";
import { clientFor, type GridClient } from "../grid-client.ts";
import { ENGINES_FOLDER, type HomeFolder, openHome } from "../home/home-folder.ts";
import { removeRunFile, writeRunFile } from "../home/run-file.ts";
import { takeGridHome } from "../home/take-home.ts";
import { transferFlagsOf } from "../home/transfer-settings.ts";
import { findPortOwner } from "../port-owner.ts";
import { onStopSignals } from "../stop-signals.ts";
import { note, openProgress, type Progress } from "../terminal.ts";
import { packageVersion } from "../version.ts";
import { chooseModel, joinTokenOf, makeJoinCode, untilServing } from "./up-grid.ts";
import { announceReady } from "./up-ready.ts";

export interface UpOptions extends GpuSplitFlags, AttachedFlags {
  readonly home?: string;
  readonly port: number;
  readonly host: string;
  readonly database?: string;
  readonly model?: string;
  readonly warm: number;
  readonly agent: boolean;
  /** Bytes. */
  readonly maxVram?: number;
  readonly speculation: boolean;
  readonly stageWire: WireFormat;
  readonly chainSpares: number;
  /** Seconds. */
  readonly chainProbes: number;
  readonly threads?: number;
  readonly region?: string;
  /** Micro-USD. */
  readonly pricePerHour?: number;
  readonly engine: EngineWish;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  /** Seconds. */
  readonly clientStall: number;
  /** Basis points of the model's price. */
  readonly tierPrice?: Partial<TierFactors>;
  readonly peerPort?: number;
  readonly peerAddress?: string;
  readonly udp: boolean;
  readonly relay: boolean;
  readonly lan: boolean;
  readonly uploadMbit?: number | "none";
  readonly downloadMbit?: number | "none";
  readonly quietHours?: string;
  readonly quietMbit?: number;
  readonly logLevel: LogLevel;
  readonly json?: boolean;
}

/** Running answers get this long after the first Ctrl-C. */
const DRAIN_MS = 5_000;
/** The agent ends its engines; a second is plenty, and it is killed after that. */
const AGENT_STOP_MS = 2_000;
/** The join code of the ready line: for a room full of machines, for a day. */
const READY_JOIN_CODE = { usesMax: 100, ttlMs: 86_400_000 } as const;
const LOCAL_JOIN_CODE = { usesMax: 1, ttlMs: 3_600_000 } as const;

export async function runUp(options: UpOptions): Promise<void> {
  const startedMs = performance.now();
  const log = createPinoLog({ level: options.logLevel });
  const tlsFiles = tlsFilesOf(options);
  attachedWishOf(options); // what is wrong with it is told before anything starts
  const home = openHome(options.home);
  const lock = takeGridHome(home);
  const progress = openProgress();
  const stop = onStopSignals((name) => {
    progress.end();
    note(`fallow: ${name === "SIGINT" ? "Ctrl-C" : name}: finishing what runs, at most ${DRAIN_MS / 1_000} s`);
  });
  let host: CoordinatorHost | null = null;
  let agent: WatchedAgent | null = null;
  try {
    writeRunFile(home, { pid: process.pid, url: null, certificateSha256: null, startedAtMs: Date.now() });
    progress.step("opening the grid");
    const opened = Promise.withResolvers<CoordinatorHost>();
    if (options.agent) agent = startAgent(opened.promise, { home, progress, log, options });
    host = await openCoordinator(options, { home, log, tlsFiles });
    opened.resolve(host);
    writeRunFile(home, { pid: process.pid, url: host.localUrl, certificateSha256: null, startedAtMs: Date.now() });
    const grid = gridOf(host);
    const model = await chooseModel(grid, options, { progress, signal: stop.signal });
    const failure = () => agent?.failure() ?? null;
    const served =
      model === null || !options.agent
        ? "serving"
        : await untilServing(host.coordinator, { grid, model, progress, failure, signal: stop.signal });
    progress.end();
    if (served === "unserved") {
      note(`fallow: ${model} is not served: no node here can hold it; lend more memory, or let a larger machine join`);
    }
    if (!stop.signal.aborted) {
      announceReady(
        {
          baseUrl: host.localUrl,
          apiKey: host.apiKey,
          joinCode: await makeJoinCode(grid, READY_JOIN_CODE),
          host: options.host,
          namedHome: options.home === undefined || options.home === process.env["FALLOW_HOME"] ? null : home.path,
          modelId: model,
          remoteUrls: host.addresses.certificateSha256 === null ? [] : host.addresses.urls,
          certificatePath: host.certificatePath,
          readyMs: performance.now() - startedMs,
        },
        { isJson: options.json === true },
      );
      await untilAborted(stop.signal);
    }
  } finally {
    progress.end();
    await host?.coordinator.drain(DRAIN_MS);
    await agent?.stop(AGENT_STOP_MS);
    await host?.stop();
    removeRunFile(home);
    lock.release();
    stop.dispose();
  }
}

type TlsFiles = CoordinatorHostOptions["tlsFiles"];

function tlsFilesOf({ tlsCert, tlsKey }: UpOptions): TlsFiles {
  if (tlsCert !== undefined && tlsKey !== undefined)
    return { certificatePath: resolve(tlsCert), keyPath: resolve(tlsKey) };
  if (tlsCert === undefined && tlsKey === undefined) return null;
  throw new CliError(
    `--tls-${tlsCert === undefined ? "key" : "cert"} was given without --tls-${tlsCert === undefined ? "cert" : "key"}`,
    {
      exitCode: EXIT.usage,
      code: "usage",
      fix: "give both: a certificate is used with its private key",
    },
  );
}

async function openCoordinator(
  options: UpOptions,
  more: { home: HomeFolder; log: Log; tlsFiles: TlsFiles },
): Promise<CoordinatorHost> {
  try {
    return await startCoordinatorHost({
      ...more,
      host: options.host,
      port: options.port,
      database: options.database,
      clientStallMsMax: options.clientStall * 1_000,
      ...(options.tierPrice === undefined ? {} : { tierFactors: options.tierPrice }),
      chains: { stageWire: options.stageWire, chainSpares: options.chainSpares },
      chainProbes: { everyMs: options.chainProbes * 1_000 },
      peering: {
        peerPort: options.peerPort ?? null,
        peerAddress: options.peerAddress ?? null,
        hasUdp: options.udp,
        hasRelay: options.relay,
        hasLan: options.lan,
      },
      version: packageVersion(),
    });
  } catch (thrown) {
    if (systemCode(thrown) !== "port-taken") throw thrown;
    const owner = findPortOwner(options.port);
    throw new CliError(
      owner === null
        ? `port ${options.port} is taken by another program`
        : `port ${options.port} is taken by process ${owner.pid} (${owner.command})`,
      {
        code: "port-taken",
        fix: "choose another with --port (0 picks a free one), or end that program",
        cause: thrown,
      },
    );
  }
}

interface WatchedAgent extends LocalAgent {
  /** Why it will not work without a person; null while there is hope. */
  failure(): CliError | null;
}

function startAgent(
  opened: Promise<CoordinatorHost>,
  more: { home: HomeFolder; progress: Progress; log: Log; options: UpOptions },
): WatchedAgent {
  let failure: CliError | null = null;
  const onNews = (news: AgentNews) => {
    if (news.kind === "step") more.progress.step(`agent: ${news.text}`);
    if (news.kind === "note") more.progress.note(news.text);
    if (news.kind !== "failed") return;
    failure = new CliError(news.message, { code: news.code, fix: news.fix });
    more.log.error({ code: news.code, cause: news.message }, "agent of this machine gave up");
  };
  const order = async () => {
    const host = await opened;
    return {
      kind: "start" as const,
      home: more.home.at("agent"),
      enginesFolder: more.home.at(ENGINES_FOLDER),
      engine: more.options.engine,
      url: host.localUrl,
      certificateSha256: null,
      joinToken: joinTokenOf(await makeJoinCode(gridOf(host), LOCAL_JOIN_CODE)),
      name: null,
      region: more.options.region ?? null,
      priceMicroUsdPerHour: more.options.pricePerHour ?? null,
      memoryBytesMax: more.options.maxVram ?? null,
      transfers: transferFlagsOf(more.options),
      peers: {
        // Where other machines join, they also fetch from this one.
        host: isLoopback(more.options.host) ? "127.0.0.1" : "0.0.0.0",
        port: 0,
        forwarded: null,
        hasUdp: more.options.udp,
        hasRelay: more.options.relay,
        hasLan: more.options.lan,
      },
      threads: more.options.threads ?? null,
      attached: attachedWishOf(more.options),
      gpuSplit: gpuSplitOf(more.options),
      speculates: more.options.speculation,
      logLevel: more.options.logLevel,
    };
  };
  return { ...startLocalAgent({ order, onNews, log: more.log }), failure: () => failure };
}

function gridOf(host: CoordinatorHost): GridClient {
  return clientFor({ url: host.localUrl, key: host.apiKey, certificateSha256: null });
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
