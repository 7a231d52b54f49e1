/**
 * Puts the agent together with the machine: identity and weights in its home, the hardware probe, engines in processes, a link to
 * the coordinator. Used by `fallow join` in the foreground and by the agent process of `fallow up`.
 */
import { availableParallelism, hostname } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { DiskChunkStore } from "../../adapters/chunk-store-disk/disk-chunk-store.ts";
import { SystemClock } from "../../adapters/clock-system/system-clock.ts";
import { SystemRandom } from "../../adapters/clock-system/system-random.ts";
import { NodeCrypto } from "../../adapters/crypto-node/node-crypto.ts";
import { WebSocketDialer } from "../../adapters/link-websocket/websocket-dialer.ts";
import { keptNodeIdentity } from "../../adapters/node-identity/node-identity.ts";
import { DiskSpill, emptySpillFolder } from "../../adapters/stage-files-disk/disk-spill.ts";
import { DiskStageFiles } from "../../adapters/stage-files-disk/disk-stage-files.ts";
import { HttpWeightsSource } from "../../adapters/weights-http/http-weights-source.ts";
import { type Agent, createAgent } from "../../agent/agent.ts";
import { Scrubber, type ScrubberPorts } from "../../agent/cache/scrubber.ts";
import { WeightsSwarm } from "../../agent/cache/swarm/weights-swarm.ts";
import type { EngineWish } from "../../agent/devices/choose-variant.ts";
import type { MembershipStatus } from "../../agent/membership/agent-membership.ts";
import { PeerDuties } from "../../agent/peer-duties.ts";
import { type SharedPeers, sharePeers } from "../../agent/peer-server.ts";
import type { StageParts } from "../../agent/stages/stage-parts.ts";
import { FallowError } from "../../domain/fault.ts";
import type { GpuSplit } from "../../ports/engine.ts";
import type { LinkTarget } from "../../ports/link.ts";
import type { Log } from "../../ports/log.ts";
import type { StageEngineHost } from "../../ports/stage-engine.ts";
import type { AttachedWish } from "../attached-flags.ts";
import { type HomeFolder, makeFolder } from "../home/home-folder.ts";
import { takeAgentHome } from "../home/take-home.ts";
import { keptTransferSettings, limitsOf, type TransferFlags } from "../home/transfer-settings.ts";
import { packageVersion } from "../version.ts";
import type { AgentEvent } from "./agent-events.ts";
import { openAttachedServer, withAttached } from "./attached-server.ts";
import { FetchWatch, tellFetched } from "./fetch-watch.ts";
import { measureMachine } from "./measure-machine.ts";
import { openPeerWays, type PeerWays, type PeerWaysOptions } from "./peer-ways.ts";
import { ReplicaWatch } from "./replica-watch.ts";

export interface AgentHostOptions {
  readonly home: HomeFolder;
  /** Where engine variants are installed: the same folder for every agent below one home. */
  readonly enginesFolder: string;
  /** Which engine the owner wants. */
  readonly engine: EngineWish;
  /** How long another agent that works in this home may take to end. */
  readonly homeWaitMs: number;
  readonly target: LinkTarget;
  /** The grid that the join code names; null to take the one that answers. */
  readonly gridId: string | null;
  /** What that grid signs with, as this home knows it from before; absent or null where it does not. */
  readonly gridPublicKeyHex?: string | null;
  readonly joinToken: string | null;
  /** Null: the machine's host name. */
  readonly name: string | null;
  /** Where the machine stands, as its owner names it. */
  readonly region: string | null;
  /** What its owner wants for an hour of it while it serves. */
  readonly priceMicroUsdPerHour: number | null;
  /** Null: all that the machine has, less the owner's reserve. */
  readonly memoryBytesMax: number | null;
  /** Of all files of weights together; null: what the disk takes. */
  readonly weightsBytesMax: number | null;
  /** Where they lie, for several agents of this machine to share; null: in its own home. */
  readonly weightsFolder: string | null;
  /** How much of its line the owner lends; what is given is kept in the home. */
  readonly transfers: TransferFlags;
  /** How other nodes reach this one; null keeps it apart from them. */
  readonly peers: PeerWaysOptions | null;
  /** CPU threads of each engine; null: half of the logical cores. */
  readonly threads: number | null;
  /** A server that serves as an engine; null or absent: none. */
  readonly attached?: AttachedWish | null;
  /** How models lie on several GPUs of the machine; null or absent: the engine's own way. */
  readonly gpuSplit?: GpuSplit | null;
  /** False: no drafts around chains whose first stage is here. True where it is absent. */
  readonly speculates?: boolean;
  readonly log: Log;
  /** Ends the agent. */
  readonly signal: AbortSignal;
  /** Running attempts may finish for so long; 0 ends at once. */
  readonly drainMs: number;
  readonly onEvent: (event: AgentEvent) => void;
}

type ScrubberParts = Pick<ScrubberPorts, "clock" | "random" | "log"> & {
  readonly store: DiskChunkStore;
  readonly weights: WeightsSwarm;
};

export interface AgentHost {
  readonly agent: Agent;
  /** Resolves when the agent ended: by the signal, or because the grid refused it for good. */
  readonly ended: Promise<void>;
}

/**
 * Half of the logical cores: about the physical ones, beyond which decoding gains nothing. An engine whose threads outnumber the
 * free cores is many times slower, since each of its threads waits busily for the slowest one, so the owner's programs need room.
 */
function defaultThreads(): number {
  return Math.max(1, Math.floor(availableParallelism() / 2));
}

/** How often replicas are looked at to tell their owner. */
const LOOK_MS = 250;
/** Removing some hundred MB of files takes a few ms. */
const CLEAN_UP_MS = 500;
const NAME_CHARS_MAX = 128;
/** What stages keep of what they sent: of tenants' requests, so nothing of it outlives the agent. */
const SPILL_FOLDER = "spill";

export async function startAgentHost(options: AgentHostOptions): Promise<AgentHost> {
  const { home, log, onEvent, target } = options;
  makeFolder(home.path);
  const lock = await takeAgentHome(home, { waitMs: options.homeWaitMs, signal: options.signal });
  const undo: (() => Promise<void> | void)[] = [() => lock.release()];
  const stopAll = async () => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  try {
    const crypto = new NodeCrypto();
    const keyPair = await keptNodeIdentity(home.path, crypto);
    const threads = options.threads ?? defaultThreads();
    const { lent, engines, stages, attached } = await whatIsLent(options, threads);
    undo.push(() => attached?.close());
    onEvent({ event: "connecting", url: target.url });
    const name = (options.name ?? hostname()).slice(0, NAME_CHARS_MAX) || "node";
    const refused = new AbortController();
    const ports = { clock: new SystemClock(), random: new SystemRandom(), crypto, log };
    const ways = options.peers === null ? null : await openPeerWays(options.peers, { ...ports, keyPair, target });
    undo.push(() => ways?.close());
    const shared = ways === null ? null : sharePeers(ways.network);
    const { speculates = true } = options;
    const source = new HttpWeightsSource({ target });
    undo.push(() => source.close());
    const store = new DiskChunkStore({ folder: options.weightsFolder ?? home.at("weights") });
    const { upload: uploadLimits, download: downloadLimits } = limitsOf(keptTransferSettings(home, options.transfers));
    const weights = new WeightsSwarm(
      { ...ports, store, source, network: shared?.weights ?? null },
      { keyPair, uploadLimits, downloadLimits, onFetched: (fetched) => tellFetched(fetched, onEvent) },
    );
    undo.push(() => weights.close());
    await emptySpillFolder(home.at(SPILL_FOLDER));
    const { relay = null, news = null } = ways ?? {};
    const peers = new PeerDuties({ weights, relay, news, idle: () => scrubber });
    const agent = createAgent(
      {
        ...ports,
        dialer: new WebSocketDialer(),
        engines,
        attached: attached?.engines ?? null,
        weights,
        peers,
        stages: ways === null || shared === null ? null : stageParts({ home, log, stages, ways, shared, speculates }),
      },
      {
        keyPair,
        target,
        gridId: options.gridId,
        gridPublicKeyHex: options.gridPublicKeyHex ?? null,
        joinToken: options.joinToken,
        name,
        region: options.region,
        priceMicroUsdPerHour: options.priceMicroUsdPerHour,
        agentVersion: packageVersion(),
        capabilities: { ...lent, servesStages: ways !== null },
        threads,
        weightsBudgetBytes: options.weightsBytesMax,
        onStatus: (status) => {
          tellStatus(status, { name, onEvent });
          if (status.kind === "refused") refused.abort();
        },
      },
    );
    const scrubber = startScrubber(agent, { ...ports, store, weights });
    undo.push(() => scrubber.stop());
    const watch = new ReplicaWatch(onEvent);
    const fetches = new FetchWatch(onEvent);
    const timer = setInterval(() => {
      watch.look(agent.replicas());
      fetches.look(weights.transfers(), ports.clock.monoMs());
    }, LOOK_MS);
    const ended = untilAborted(AbortSignal.any([options.signal, refused.signal])).then(async () => {
      clearInterval(timer);
      await agent.stop({ drainMs: refused.signal.aborted ? 0 : options.drainMs });
      await stopAll();
      onEvent({ event: "stopped" });
    });
    return { agent, ended };
  } catch (thrown) {
    await stopAll();
    throw thrown;
  }
}

/** What the machine has, and the server that its owner lends with it. */
async function whatIsLent(options: AgentHostOptions, threads: number) {
  options.onEvent({ event: "measuring" });
  const { capabilities, engines, stages } = await abortable(measureMachine({ ...options, threads }), options.signal);
  options.signal.throwIfAborted();
  const { attached: wish = null } = options;
  if (wish === null) return { lent: capabilities, engines, stages, attached: null };
  const attached = await openAttachedServer(wish, options);
  return { lent: withAttached(capabilities, attached.described, wish), engines, stages, attached };
}

function tellStatus(status: MembershipStatus, to: { readonly name: string; onEvent(event: AgentEvent): void }): void {
  const { name, onEvent } = to;
  switch (status.kind) {
    case "online": {
      const { nodeId, gridId, gridPublicKeyHex = null } = status;
      onEvent({ event: "online", nodeId, gridId, gridPublicKeyHex, name });
      return;
    }
    case "waiting":
      onEvent({ event: "waiting", retryInMs: Math.round(status.retryInMs), cause: status.cause });
      return;
    case "refused":
      onEvent({ event: "refused", code: status.code, message: status.message });
      return;
    case "connecting":
    case "stopped":
      return;
  }
}

/** What a node needs to hold stages: only one with a way to others does. */
function stageParts(parts: {
  readonly home: HomeFolder;
  readonly log: Log;
  readonly stages: StageEngineHost;
  readonly ways: PeerWays;
  readonly shared: SharedPeers;
  readonly speculates: boolean;
}): StageParts {
  const { home, log, stages, ways, shared, speculates } = parts;
  return {
    speculates,
    engines: stages,
    files: new DiskStageFiles({ folder: home.at("stages"), log }),
    network: ways.network,
    serveChains: (server) => shared.serveChains(server),
    spill: (replicaId) => new DiskSpill(join(home.at(SPILL_FOLDER), replicaId)),
  };
}

function startScrubber(agent: Agent, parts: ScrubberParts): Scrubber {
  const { store, weights, ...ports } = parts;
  const scrubber = new Scrubber({
    ...ports,
    models: () => store.list(),
    open: (weightsSha256, signal) => weights.openKept(weightsSha256, signal),
    isIdle: () => weights.isQuiet && agent.replicas().every(({ state }) => state !== "loading"),
    onDamaged: (weightsSha256) => {
      weights.onDamaged(weightsSha256);
      void agent.lookAtWeights();
    },
  });
  scrubber.start();
  return scrubber;
}

/** Measuring ends between two runs only; whoever stops need not wait for it, since engines end with this process. */
function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return Promise.race([
    work,
    untilAborted(signal).then(async (): Promise<never> => {
      // An installation that was stopped takes its files away first.
      await Promise.race([work.catch(() => undefined), sleep(CLEAN_UP_MS)]);
      throw new FallowError("cancelled", "stopped while measuring this machine");
    }),
  ]);
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
