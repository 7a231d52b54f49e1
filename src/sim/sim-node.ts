/**
 * A machine of the grid: the real agent on simulated ports, an owner who comes and goes, and the ways in which machines
 * fail. What lies on its disk (weights, the key) outlives its process.
 */
import { type Agent, type AgentPorts, createAgent } from "../agent/agent.ts";
import { sharePeers } from "../agent/peer-server.ts";
import { openPeerNetwork } from "../agent/peering/peer-network.ts";
import { WayNews } from "../agent/peering/way-news.ts";
import type { NodeCapabilities } from "../domain/hardware.ts";
import { toHex } from "../domain/hex.ts";
import type { NodeId, Sha256Hex } from "../domain/ids.ts";
import { nodeIdOf } from "../domain/node-id.ts";
import type { LayerShare } from "../domain/weights.ts";
import type { Crypto, KeyPair } from "../ports/crypto.ts";
import type { EngineHost, EngineLoadSpec } from "../ports/engine.ts";
import type { Log } from "../ports/log.ts";
import type { StageLoadSpec } from "../ports/stage-engine.ts";
import { ObservedEngines } from "./engine/observed-engine.ts";
import { ObservedStages } from "./engine/observed-stages.ts";
import type { StageSpoiling } from "./engine/scripted-stage.ts";
import type { ScriptedStages } from "./engine/scripted-stage-host.ts";
import { simSpill, simStageFiles } from "./engine/sim-stage-disk.ts";
import { SimDisk, simWeights } from "./engine/sim-weights.ts";
import type { NodeFaults } from "./faults/faults.ts";
import { Forger } from "./faults/lies.ts";
import { observedPeers } from "./network/observed-peers.ts";
import type { SimInternet } from "./network/sim-dialer.ts";
import type { SimPeers } from "./network/sim-peers.ts";
import type { Witness } from "./observation.ts";
import { SimClock } from "./time/clock.ts";
import { Host } from "./time/host.ts";
import type { SeededRandom } from "./time/random.ts";
import type { Timeline } from "./time/timeline.ts";

export const COORDINATOR_URL = "http://coordinator:8420";
/** 2 Gbit/s: the largest model of a run is there in 2.5 s. */
const FETCH_BYTES_PER_MS = 250_000;

export interface SimNodeOptions {
  readonly name: string;
  readonly timeline: Timeline;
  readonly random: SeededRandom;
  readonly crypto: Crypto;
  readonly internet: SimInternet;
  readonly witness: Witness;
  readonly log: Log;
  readonly faults: NodeFaults;
  readonly capabilities: NodeCapabilities;
  readonly vocabSize: number;
  /** Scripted engines that take their time on this clock. */
  readonly engines: (clock: SimClock) => EngineHost;
  readonly engineBytes: (spec: EngineLoadSpec) => number;
  /** Scripted stages that take their time on this clock. */
  readonly stages: (clock: SimClock) => ScriptedStages;
  readonly stageBytes: (spec: StageLoadSpec) => number;
  readonly layerCount: (weightsSha256: string) => number;
  readonly layerBytes: (weightsSha256: string) => number;
  /** The ways to other nodes; null: it knows the coordinator alone. */
  readonly peers: SimPeers | null;
  /** Others reach it straight; else over the coordinator alone. */
  readonly isDirect: boolean;
  /** Hears what stages say to each other; null when nobody reads it. */
  readonly onPeerFrame: ((said: { readonly from: string; readonly to: string; readonly what: string }) => void) | null;
  readonly joinToken: () => string | null;
  /** False once the faults are over. */
  readonly isFaulty: () => boolean;
  /** Sabotage: the agent resumes in its owner's presence. Null in every honest run. */
  readonly resumesAfterMs: number | null;
}

export class SimNode {
  readonly name: string;
  readonly host: Host;
  readonly clock: SimClock;
  readonly keyPair: KeyPair;
  readonly nodeId: NodeId;
  readonly #options: SimNodeOptions;
  readonly #forger: Forger;
  readonly #disk = new SimDisk();
  #engines: ObservedEngines | null = null;
  #stages: ObservedStages | null = null;
  #agent: Agent | null = null;
  #isOwnerPresent = false;

  constructor(options: SimNodeOptions) {
    const { name, timeline, crypto, random, faults, vocabSize, witness, isFaulty } = options;
    this.#options = options;
    this.name = name;
    this.host = new Host(name, timeline);
    this.clock = new SimClock(this.host, faults.clock);
    this.keyPair = crypto.keyPairFrom(random.fork("key").bytes(32));
    this.nodeId = nodeIdOf(crypto.sha256(this.keyPair.publicKey));
    this.#forger = new Forger({
      keyPair: this.keyPair,
      random: random.fork("lies"),
      lies: faults.lies,
      vocabSize,
      isLying: isFaulty,
      onLie: (lie) => witness({ kind: "fault", fault: `lie ${lie}`, target: name, isOn: true }),
    });
  }

  /** What lies on its disk beyond its size. */
  get bytesOverDisk(): number {
    const { diskBytes } = this.#options.faults;
    if (diskBytes === null) return 0;
    return this.#disk.usedBytes() - diskBytes;
  }

  /** Bytes of some layers, and those of them that lie on its disk: as a coordinator hears from who has what. */
  shareOn(
    weightsSha256: Sha256Hex,
    share: LayerShare,
  ): { readonly bytes: number; readonly storedBytes: number } | null {
    const { layerBytes } = this.#options;
    const one = layerBytes(weightsSha256);
    const own = this.#disk.parts.get(weightsSha256)?.layers ?? new Set();
    const stored = Array.from({ length: share.count }, (_, at) => own.has(share.first + at)).filter(Boolean).length;
    return { bytes: share.count * one, storedBytes: stored * one };
  }

  get agent(): Agent | null {
    return this.#agent;
  }

  get isLiar(): boolean {
    return this.#options.faults.lies.length > 0;
  }

  get capabilities(): NodeCapabilities {
    return this.#options.capabilities;
  }

  /** The agent's process begins; also after `crash`. */
  start(): void {
    const { internet, random, crypto, log, capabilities, witness, joinToken, faults } = this.#options;
    if (this.host.state === "dead") this.host.restart();
    const life = random.fork(`life/${this.host.life}`);
    this.#engines = this.#makeEngines(life);
    this.#stages = this.#options.peers === null ? null : this.#makeStages(life);
    this.#agent = createAgent(
      {
        clock: this.clock,
        random: life.fork("agent"),
        crypto,
        log,
        dialer: this.#forger.dialer(internet.dialerFrom(this.host)),
        engines: this.#engines,
        weights: this.#makeCache(life),
        ...this.#peering(life),
      },
      {
        keyPair: this.keyPair,
        target: { url: COORDINATOR_URL, certificateSha256: null },
        joinToken: joinToken(),
        name: this.name,
        region: faults.place.region,
        agentVersion: "0.0.0-sim",
        capabilities,
        threads: 1,
      },
    );
    witness({ kind: "host", host: this.name, change: "started" });
    witness({ kind: "node-known", node: this.name, nodeId: this.nodeId });
    if (this.#isOwnerPresent) this.#yield();
    else witness({ kind: "owner", node: this.name, isPresent: false });
  }

  crash(how: { isPowerLoss: boolean; isDiskLost: boolean }): void {
    if (this.host.state === "dead") return;
    const { internet, witness } = this.#options;
    this.#engines?.abandon();
    this.#stages?.abandon();
    internet.drop(this.name, how);
    this.#options.peers?.drop(this.name, how);
    this.host.kill(how);
    this.#agent = null;
    if (how.isDiskLost) {
      this.#disk.clear();
      if (this.#options.peers !== null) witness({ kind: "disk-lost", node: this.name });
    }
    witness({ kind: "host", host: this.name, change: how.isPowerLoss ? "lost-power" : "killed" });
  }

  freeze(): void {
    if (this.host.state !== "running") return;
    this.host.freeze();
    this.#options.witness({ kind: "host", host: this.name, change: "frozen" });
  }

  thaw(): void {
    if (this.host.state !== "frozen") return;
    this.host.thaw();
    this.#options.witness({ kind: "host", host: this.name, change: "thawed" });
  }

  crashEngines(): void {
    if (this.host.state !== "running") return;
    this.#engines?.crashAll();
    this.#stages?.crashAll();
  }

  hangEngines(): void {
    if (this.host.state !== "running") return;
    this.#engines?.hangAll();
    this.#stages?.hangAll();
  }

  slowStages(factor: number): void {
    this.#stages?.slowDownAll(factor);
  }

  stallStages(isStalled: boolean): void {
    this.#stages?.stallAll(isStalled);
  }

  spoilStages(how: StageSpoiling | null): void {
    this.#stages?.spoilAll(how);
  }

  /** The owner's sensor speaks in an event of the machine: a frozen one hears it when it is thawed. */
  ownerArrives(): void {
    this.#isOwnerPresent = true;
    this.host.after(0, () => this.#yield());
  }

  ownerLeaves(): void {
    this.#isOwnerPresent = false;
    this.host.after(0, () => {
      if (this.#isOwnerPresent || this.#agent === null) return;
      this.#options.witness({ kind: "owner", node: this.name, isPresent: false });
      this.#agent.resume();
    });
  }

  #yield(): void {
    if (!this.#isOwnerPresent || this.#agent === null) return;
    this.#options.witness({ kind: "owner", node: this.name, isPresent: true });
    void this.#agent.yieldNow("the owner is back");
    const { resumesAfterMs } = this.#options;
    if (resumesAfterMs !== null) this.host.after(resumesAfterMs, () => this.#agent?.resume());
  }

  #makeEngines(life: SeededRandom): ObservedEngines {
    const { faults, witness, engines, engineBytes, isFaulty } = this.#options;
    const random = life.fork("engines");
    return new ObservedEngines({
      host: this.host,
      inner: engines(this.clock),
      witness,
      memoryBytes: engineBytes,
      loadFault: () => {
        const isFailing = random.chance(faults.loadFailureProbability) && isFaulty();
        return isFailing ? random.pick(["engine-load-failed", "engine-crashed", "engine-out-of-memory"]) : null;
      },
    });
  }

  /** The real peer network over simulated carriers, and the stages that use it. */
  #peering(life: SeededRandom): Pick<AgentPorts, "peers" | "stages"> {
    const { peers, crypto, log, faults, isDirect } = this.#options;
    if (peers === null || this.#stages === null) return {};
    const own = { host: this.host, keyHex: toHex(this.keyPair.publicKey) };
    const tcp = peers.carrier("tcp", own);
    const relay = peers.carrier("relay", own);
    const carriers = isDirect ? [tcp, relay] : [relay];
    const linked = openPeerNetwork({ clock: this.clock, random: life.fork("peers"), crypto, log, carriers });
    const { onPeerFrame } = this.#options;
    const network =
      onPeerFrame === null
        ? linked
        : observedPeers(linked, (from, what) => onPeerFrame({ from: from.slice(0, 8), to: this.name, what }));
    const shared = sharePeers(network);
    const news = new WayNews({
      clock: this.clock,
      crypto,
      network,
      endpoints: () => (isDirect ? tcp : relay).endpoints(),
    });
    return {
      peers: {
        onLineUp: (line) => news.onLineUp(line),
        onLineDown: () => news.onLineDown(),
        // Weights come from nowhere in particular here, and nobody is relayed by order.
        onPeerOrder: () => undefined,
      },
      stages: {
        engines: this.#stages,
        files: simStageFiles(this.host),
        network,
        serveChains: (server) => shared.serveChains(server),
        spill: () => (faults.spills ? simSpill(this.host) : null),
        ...(faults.activationBytesMax === null ? {} : { activationBytesMax: faults.activationBytesMax }),
      },
    };
  }

  #makeStages(life: SeededRandom): ObservedStages {
    const { faults, witness, stages, stageBytes, isFaulty } = this.#options;
    const random = life.fork("stages");
    return new ObservedStages({
      host: this.host,
      inner: stages(this.clock),
      witness,
      memoryBytes: stageBytes,
      loadFault: () => {
        const isFailing = random.chance(faults.loadFailureProbability) && isFaulty();
        return isFailing ? random.pick(["engine-load-failed", "engine-crashed"]) : null;
      },
    });
  }

  #makeCache(life: SeededRandom): ReturnType<typeof simWeights> {
    const { faults, isFaulty, layerCount, peers, witness } = this.#options;
    const random = life.fork("weights");
    return simWeights({
      layerCount,
      onFetched: (fetched) => {
        if (peers !== null) witness({ kind: "fetched", node: this.name, ...fetched });
      },
      host: this.host,
      disk: this.#disk,
      bytesPerMs: FETCH_BYTES_PER_MS,
      ...(faults.diskBytes === null ? {} : { diskBytes: faults.diskBytes }),
      fault: () => {
        const isFailing = random.chance(faults.weightsFaults.probability) && isFaulty();
        return isFailing ? random.pick(faults.weightsFaults.kinds) : null;
      },
    });
  }
}
