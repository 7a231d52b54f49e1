/**
 * A whole grid in one process and in virtual time: the real coordinator and the real agents on simulated ports, load and
 * faults drawn from a seed, and checkers that look at it from outside after every event. One seed, one history.
 */

import type { ServedModel } from "../coordinator/dispatch/served-models.ts";
import { assert } from "../domain/assert.ts";
import { usableBytes } from "../domain/hardware.ts";
import type { ModelManifest } from "../domain/model.ts";
import type { Crypto } from "../ports/crypto.ts";
import type { EngineLoadSpec } from "../ports/engine.ts";
import { FAULT_AT_LINK } from "../ports/log.ts";
import type { StageLoadSpec } from "../ports/stage-engine.ts";
import type { Store } from "../ports/store.ts";
import { agentMessageSchema, coordinatorMessageSchema } from "../wire/agent-link.ts";
import type { ChainGrid } from "./chains/draw-chains.ts";
import { chainCapabilities } from "./chains/draw-chains.ts";
import { AnswerChecker } from "./checkers/answers.ts";
import { BoundChecker, type Gauge } from "./checkers/bounds.ts";
import { CapacityChecker } from "./checkers/capacity.ts";
import { ChainChecker } from "./checkers/chains.ts";
import { MoneyChecker } from "./checkers/money.ts";
import { OwnerChecker } from "./checkers/owner.ts";
import { RuleChecker } from "./checkers/rules.ts";
import { StreamChecker } from "./checkers/streams.ts";
import { drawCapabilities, drawPace, manifestOf } from "./draw-grid.ts";
import { ScriptedEngines } from "./engine/scripted-engine.ts";
import { SCRIPTED_STOP_TOKEN, SCRIPTED_VOCAB_SIZE } from "./engine/scripted-model.ts";
import { ScriptedStages } from "./engine/scripted-stage-host.ts";
import { FaultDriver } from "./faults/fault-driver.ts";
import type { FaultPlan } from "./faults/faults.ts";
import { NOWHERE, type Place } from "./faults/places.ts";
import type { Saboteur } from "./faults/sabotage.ts";
import type { LoadPlan } from "./load/load.ts";
import { LoadDriver } from "./load/load-driver.ts";
import { PacketNetwork } from "./network/packet-network.ts";
import { SimInternet } from "./network/sim-dialer.ts";
import type { LinkTap } from "./network/sim-link.ts";
import { SimPeers } from "./network/sim-peers.ts";
import type { Checker, Observation, Violation } from "./observation.ts";
import { COORDINATOR, SimCoordinator } from "./sim-coordinator.ts";
import { simCrypto } from "./sim-crypto.ts";
import { simLog } from "./sim-log.ts";
import { SimNode } from "./sim-node.ts";
import { witnessedStore } from "./store/chaotic-store.ts";
import { MemoryStore } from "./store/memory-store.ts";
import { EPOCH_WALL_MS, SimClock } from "./time/clock.ts";
import { Host } from "./time/host.ts";
import type { SeededRandom } from "./time/random.ts";
import { Timeline } from "./time/timeline.ts";
import type { Trace } from "./trace.ts";

/** Law 4's bound, and the share by which a node's own clock may be slow. */
const OWNER_YIELD_MS_MAX = 500 * 1.02;
/** Nodes come up within this. */
const START_SPREAD_MS = 2_000;
/** What may wait for one node before it is cut (coordinator/registry), and a frame more. */
const LINK_BUFFER_BYTES_MAX = 80 * 1024 * 1024;

export interface WorldOptions {
  readonly random: SeededRandom;
  readonly load: LoadPlan;
  readonly faults: FaultPlan;
  readonly trace: Trace;
  readonly saboteur: Saboteur | null;
  /** The machines of a grid with a model that fits on none of them; null draws machines of all sizes that know the coordinator alone. */
  readonly chains?: ChainGrid | null;
}

export class World {
  readonly timeline = new Timeline();
  readonly network: PacketNetwork;
  readonly nodes: readonly SimNode[];
  readonly coordinator: SimCoordinator;
  readonly load: LoadDriver;
  readonly #options: WorldOptions;
  readonly #crypto: Crypto;
  readonly #internet: SimInternet;
  readonly #peers: SimPeers | null;
  readonly #chains: ChainChecker;
  readonly #coordinatorHost: Host;
  readonly #disk: Store;
  readonly #models: readonly ServedModel[];
  readonly #faults: FaultDriver;
  readonly #checkers: readonly Checker[];
  readonly #answers: AnswerChecker;
  readonly #violations: Violation[] = [];

  constructor(options: WorldOptions) {
    const { random, faults } = options;
    const { timeline } = this;
    this.#options = options;
    this.#crypto = simCrypto(random.fork("crypto"));
    this.network = new PacketNetwork({
      timeline,
      random: random.fork("network"),
      conditions: faults.network,
      distanceMs: (from, to) => placeOf(faults, from).delayMs + placeOf(faults, to).delayMs,
    });
    this.#coordinatorHost = new Host(COORDINATOR, timeline);
    this.#internet = new SimInternet({ network: this.network, tap: this.#tap(), coordinator: this.#coordinatorHost });
    this.#peers = (options.chains ?? null) === null ? null : this.#makePeers();
    this.#chains = new ChainChecker({ report: this.#report });
    const diskClock = new SimClock(new Host("disk", timeline));
    const witness = (observation: Observation) => this.#witness(observation);
    this.#disk = witnessedStore(new MemoryStore({ writeLatencyMs: 0 }, { clock: diskClock }), witness);
    this.#models = options.load.models.map((draw) => ({
      manifest: manifestOf(draw, this.#crypto, EPOCH_WALL_MS),
      tokenizer: { vocabSize: SCRIPTED_VOCAB_SIZE, stopTokenIds: [SCRIPTED_STOP_TOKEN] },
    }));
    this.coordinator = this.#makeCoordinator();
    this.nodes = faults.nodes.map((_, index) => this.#makeNode(index));
    this.#faults = new FaultDriver({
      plan: faults,
      timeline,
      network: this.network,
      coordinator: this.coordinator,
      coordinatorHost: this.#coordinatorHost,
      nodes: this.nodes,
      peers: this.#peers,
      witness,
    });
    this.load = this.#makeLoad();
    this.#answers = new AnswerChecker({
      report: this.#report,
      isProbe: (id) => this.load.isProbe(id),
      isCalm: faults.kinds.length === 0,
    });
    this.#checkers = [...this.#makeCheckers(), this.#answers];
  }

  get violations(): readonly Violation[] {
    return this.#violations;
  }

  counts(): ReturnType<AnswerChecker["counts"]> & ReturnType<ChainChecker["counts"]> {
    return { ...this.#answers.counts(), ...this.#chains.counts() };
  }

  /** Founds the grid on its disk, and lets the machines start. */
  async found(): Promise<void> {
    const { random } = this.#options;
    await this.load.found(this.#disk);
    this.coordinator.start();
    const starts = random.fork("starts");
    for (const node of this.nodes) this.timeline.at(starts.between(0, START_SPREAD_MS), () => node.start());
    this.#faults.start();
    this.load.start();
  }

  /** Runs to a time, or to the first event that broke a law. */
  async run(untilMs: number): Promise<void> {
    if (this.#violations.length > 0) return;
    await this.timeline.run(untilMs, async () => {
      for (const checker of this.#checkers) await checker.afterEvent?.(this.timeline.nowMs);
      return this.#violations.length === 0;
    });
  }

  async end(): Promise<void> {
    if (this.#violations.length > 0) return;
    for (const checker of this.#checkers) await checker.atEnd?.(this.timeline.nowMs);
  }

  /** True when nothing is on its way any more that a checker would wait for. */
  async isQuiet(): Promise<boolean> {
    return this.load.isQuiet() && (await this.#disk.ledger.openHolds()).length === 0;
  }

  readonly #report = (violation: Omit<Violation, "atMs">): void => {
    this.#violations.push({ ...violation, atMs: this.timeline.nowMs });
  };

  #witness(observation: Observation): void {
    const { nowMs } = this.timeline;
    this.#options.trace.observe(observation, nowMs);
    for (const checker of this.#checkers) checker.observe(observation, nowMs);
    if (observation.kind === "host" && observation.host === COORDINATOR && observation.change !== "started") {
      if (observation.change !== "frozen" && observation.change !== "thawed") this.load.cutOff();
    }
  }

  #tap(): LinkTap {
    const fromCoordinator = (text: string) => coordinatorMessageSchema.parse(JSON.parse(text));
    return {
      onSent: ({ from, to, text, link }) => {
        if (from !== COORDINATOR) return;
        const message = fromCoordinator(text);
        this.#witness({ kind: "order", node: to, connection: link.connection, message });
      },
      onFrame: ({ from, to, text, link }) => {
        this.#options.trace.frame({ nowMs: this.timeline.nowMs, from, to, text });
        if (to !== COORDINATOR) return;
        const message = agentMessageIn(text);
        const at = { node: from, connection: link.connection };
        this.#witness(message === null ? { kind: "noise", ...at } : { kind: "message", ...at, message });
      },
      onClosed: ({ host, peer, code, link }) =>
        this.#witness({ kind: "link-closed", at: host, peer, connection: link.connection, code }),
    };
  }

  /** What peers say to each other is in the trace, and no checker reads it. */
  #makePeers(): SimPeers {
    const { trace } = this.#options;
    const onFrame = ({ from, to, text }: { from: string; to: string; text: string }) =>
      trace.bytes({ nowMs: this.timeline.nowMs, from, to, text });
    const tap = { onSent: () => undefined, onFrame, onClosed: () => undefined };
    return new SimPeers({ network: this.network, coordinator: this.#coordinatorHost, tap });
  }

  #makeCoordinator(): SimCoordinator {
    const { random, faults, saboteur } = this.#options;
    return new SimCoordinator({
      host: this.#coordinatorHost,
      random: random.fork(COORDINATOR),
      crypto: this.#crypto,
      gridId: "grid-sim",
      gridKey: this.#crypto.keyPairFrom(random.fork("grid-key").bytes(32)),
      clockFaults: faults.coordinatorClock,
      disk: this.#disk,
      storeConditions: () => this.#faults.storeConditions(),
      internet: this.#internet,
      models: this.#models,
      witness: (observation) => this.#witness(observation),
      log: this.#log(COORDINATOR),
      shareOn:
        this.#peers === null
          ? null
          : (nodeId, weightsSha256, share) =>
              this.nodes.find((node) => node.nodeId === nodeId)?.shareOn(weightsSha256, share) ?? null,
      saboteur,
    });
  }

  #makeNode(index: number): SimNode {
    const { random, faults, saboteur, chains = null } = this.#options;
    const name = `node-${index}`;
    const mine = random.fork(name);
    const nodeFaults = faults.nodes[index];
    assert(nodeFaults !== undefined, `${name} has its faults drawn`);
    const pace = drawPace(mine.fork("pace"), nodeFaults.slowness);
    return new SimNode({
      name,
      timeline: this.timeline,
      random: mine,
      crypto: this.#crypto,
      internet: this.#internet,
      witness: (observation) => this.#witness(observation),
      log: this.#log(name),
      faults: nodeFaults,
      capabilities:
        chains === null
          ? drawCapabilities(mine.fork("capabilities"), index, nodeFaults.diskBytes)
          : chainCapabilities(chains, mine.fork("capabilities")),
      vocabSize: SCRIPTED_VOCAB_SIZE,
      engines: (clock) => {
        const layerCount = (spec: EngineLoadSpec) => this.#modelOf(spec.weightsSha256).layerCount;
        return new ScriptedEngines({ clock, pace, memoryBytes: (spec) => this.#engineBytes(spec), layerCount });
      },
      stages: (clock) =>
        new ScriptedStages({
          clock,
          pace,
          memoryBytes: (spec) => this.#stageBytes(spec),
          broken: saboteur?.stageBreak ?? null,
        }),
      engineBytes: (spec) => this.#engineBytes(spec),
      stageBytes: (spec) => this.#stageBytes(spec),
      isDirect: chains?.isDirect ?? true,
      layerCount: (weightsSha256) => this.#modelOf(weightsSha256).layerCount,
      layerBytes: (weightsSha256) => {
        const { fileBytes, layerCount } = this.#modelOf(weightsSha256);
        return Math.ceil(fileBytes / layerCount);
      },
      peers: this.#peers,
      onPeerFrame: this.#options.trace.isFull
        ? ({ from, to, what }) => this.#options.trace.log(this.timeline.nowMs, `${from}>${to} ${what}`)
        : null,
      joinToken: () => this.load.joinToken,
      isFaulty: () => this.#faults.isFaulty(),
      resumesAfterMs: saboteur?.resumesAfterMs ?? null,
    });
  }

  #makeLoad(): LoadDriver {
    return new LoadDriver({
      plan: this.#options.load,
      random: this.#options.random.fork("load"),
      timeline: this.timeline,
      host: this.#coordinatorHost,
      coordinator: this.coordinator,
      models: this.#models,
      crypto: this.#crypto,
      witness: (observation) => this.#witness(observation),
    });
  }

  #makeCheckers(): readonly Checker[] {
    const report = this.#report;
    return [
      new MoneyChecker({ report, store: this.#disk }),
      this.#chains,
      new StreamChecker({ report, chains: this.#chains }),
      new CapacityChecker({
        report,
        usableBytes: (name) => {
          const device = this.nodes.find((node) => node.name === name)?.capabilities.devices[0];
          assert(device !== undefined, `${name} has a device`);
          return usableBytes(device);
        },
        sizeOf: (modelId) => {
          const model = this.#models.find(({ manifest }) => manifest.modelId === modelId);
          assert(model !== undefined, `${modelId} is a model of the grid`);
          return model.manifest;
        },
      }),
      new RuleChecker({ report, regionOf: (name) => placeOf(this.#options.faults, name).region }),
      new OwnerChecker({ report, ownerYieldMsMax: OWNER_YIELD_MS_MAX }),
      new BoundChecker({ report, gauges: this.#gauges() }),
    ];
  }

  #gauges(): readonly Gauge[] {
    const grid = () => this.coordinator.grid;
    const nodes = this.#options.faults.nodes.length;
    return [
      { name: "requests waiting", read: () => grid()?.dispatcher.stats().waiting ?? null, most: 200 },
      { name: "attempts running", read: () => grid()?.dispatcher.stats().running ?? null, most: 200 },
      // A node that knocks again while its former links are not yet given up.
      { name: "links open", read: () => grid()?.registry.stats().linksOpen ?? null, most: nodes * 5 },
      { name: "bytes queued on a link", read: () => this.#internet.bufferedBytesMost(), most: LINK_BUFFER_BYTES_MAX },
      { name: "bytes on a disk beyond its size", read: () => this.#bytesOverDisk(), most: 0 },
      { name: "events waiting", read: () => this.timeline.waiting, most: 20_000 },
    ];
  }

  #bytesOverDisk(): number {
    return Math.max(0, ...this.nodes.map(({ bytesOverDisk }) => bytesOverDisk));
  }

  #engineBytes(spec: Pick<EngineLoadSpec, "weightsSha256" | "contextTokens" | "sequencesMax">): number {
    const { fileBytes, kvBytesPerToken } = this.#modelOf(spec.weightsSha256);
    return fileBytes + kvBytesPerToken * spec.contextTokens * spec.sequencesMax;
  }

  #stageBytes(spec: StageLoadSpec): number {
    return Math.floor((this.#engineBytes(spec) * spec.share.count) / this.#modelOf(spec.weightsSha256).layerCount);
  }

  #modelOf(weightsSha256: string): ModelManifest {
    const model = this.#models.find(({ manifest }) => manifest.weightsSha256 === weightsSha256);
    assert(model !== undefined, `${weightsSha256} are weights of the grid`);
    return model.manifest;
  }

  #log(host: string): ReturnType<typeof simLog> {
    const { trace } = this.#options;
    return simLog(({ level, fields, event }) => {
      // The code under test contains a bug at the link that met it; here it is one all the same.
      if (event === FAULT_AT_LINK) this.#report({ law: "bug", what: `${host}: ${fields["stack"] ?? fields["cause"]}` });
      if (trace.isKept) trace.log(this.timeline.nowMs, `${host} ${level} ${event} ${JSON.stringify(fields)}`);
    });
  }
}

/** A host is named for the place of its faults; the coordinator stands in the middle. */
function placeOf({ nodes }: FaultPlan, host: string): Place {
  return nodes[Number(host.replace("node-", ""))]?.place ?? NOWHERE;
}

function agentMessageIn(text: string): ReturnType<typeof agentMessageSchema.parse> | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null; // what is no JSON is no message either
  }
  const parsed = agentMessageSchema.safeParse(value);
  return parsed.success ? parsed.data : null;
}
