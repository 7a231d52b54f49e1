/** A coordinator's registry and real agents' memberships on simulated machines, for tests of joining and silence. */
import { AgentMembership, type MembershipStatus } from "../../src/agent/membership/agent-membership.ts";
import type { Line, PeerHandler, PeerOrder, WorkHandler, WorkOrder } from "../../src/agent/session.ts";
import { NodeRegistry } from "../../src/coordinator/registry/node-registry.ts";
import { assert } from "../../src/domain/assert.ts";
import type { NodeCapabilities } from "../../src/domain/hardware.ts";
import type { NodeId } from "../../src/domain/ids.ts";
import { toHex } from "../../src/market/hex.ts";
import type { KeyPair } from "../../src/ports/crypto.ts";
import type { Link, LinkTarget } from "../../src/ports/link.ts";
import type { LogFields } from "../../src/ports/log.ts";
import { CALM_NETWORK, PacketNetwork } from "../../src/sim/network/packet-network.ts";
import { SimInternet } from "../../src/sim/network/sim-dialer.ts";
import { simCrypto } from "../../src/sim/sim-crypto.ts";
import { simLog } from "../../src/sim/sim-log.ts";
import type { MemoryDisk } from "../../src/sim/store/memory-disk.ts";
import { MemoryStore } from "../../src/sim/store/memory-store.ts";
import { SimClock } from "../../src/sim/time/clock.ts";
import { Host } from "../../src/sim/time/host.ts";
import { SeededRandom } from "../../src/sim/time/random.ts";
import { Timeline } from "../../src/sim/time/timeline.ts";
import { type Hello, linkProofText, type ReplicaReport } from "../../src/wire/agent-link.ts";

export const GRID_ID = "grid-test";
export const TARGET: LinkTarget = { url: "http://coordinator:8420", certificateSha256: null };

export const CAPABILITIES: NodeCapabilities = {
  platform: "linux-x64",
  cpuModel: "Simulated CPU",
  cpuCores: 4,
  memoryBytes: 8e9,
  diskFreeBytes: 1e11,
  devices: [
    {
      deviceId: "cpu",
      kind: "cpu",
      variant: "cpu",
      name: "Simulated CPU",
      memoryBytes: 8e9,
      memoryFreeBytes: 6e9,
      reserveBytes: 2e9,
    },
  ],
  engineVariant: "cpu",
  engineVersion: "0.0.0-sim",
  referenceSpeed: null,
};

export function replica(fields: Partial<ReplicaReport> = {}): ReplicaReport {
  return {
    replicaId: "rep_01KA0000000000000000000000",
    state: "ready",
    progress: 1,
    slots: 4,
    slotsBusy: 0,
    queued: 0,
    contextTokens: 512,
    numericClass: "sim/cpu/Q8_0",
    memoryBytes: 1e8,
    failure: null,
    ...fields,
  };
}

/** The runner's side of the seam: remembers what it was told. */
export class RecordedWork implements WorkHandler {
  readonly orders: WorkOrder[] = [];
  line: Line | null = null;
  linesUp = 0;
  linesDown = 0;
  reports: readonly ReplicaReport[] = [];
  yielding = false;

  onLineUp(line: Line): void {
    this.linesUp += 1;
    this.line = line;
  }
  onLineDown(): void {
    this.linesDown += 1;
    this.line = null;
  }
  onOrder(order: WorkOrder): void {
    this.orders.push(order);
  }
  replicas(): readonly ReplicaReport[] {
    return this.reports;
  }
  isYielding(): boolean {
    return this.yielding;
  }
  memoryFreeBytes(): number {
    return 1e9;
  }
  stop(): Promise<void> {
    return Promise.resolve();
  }
}

/** The side of the seam that deals with other nodes: remembers what it was told. */
export class RecordedPeers implements PeerHandler {
  readonly orders: PeerOrder[] = [];
  line: Line | null = null;

  onLineUp(line: Line): void {
    this.line = line;
  }
  onLineDown(): void {
    this.line = null;
  }
  onPeerOrder(order: PeerOrder): void {
    this.orders.push(order);
  }
}

export interface AgentUnderTest {
  readonly host: Host;
  readonly clock: SimClock;
  readonly keyPair: KeyPair;
  readonly nodeId: NodeId;
  readonly membership: AgentMembership;
  readonly work: RecordedWork;
  readonly peers: RecordedPeers;
  readonly statuses: MembershipStatus[];
}

export class MembershipGrid {
  readonly timeline = new Timeline();
  readonly random: SeededRandom;
  readonly network: PacketNetwork;
  readonly coordinator: Host;
  readonly clock: SimClock;
  readonly internet: SimInternet;
  readonly crypto;
  /** Errors that the code under test logged, in order. */
  readonly errors: { readonly event: string; readonly fields: LogFields }[] = [];
  readonly log = simLog(({ level, event, fields }) => {
    if (level === "error") this.errors.push({ event, fields });
  });
  /** What the roster told its subscriber, in order, with the time at which it did. */
  readonly events: { readonly atMs: number; readonly text: string }[] = [];
  store: MemoryStore;
  registry: NodeRegistry;
  /** What the coordinator says from its next start on that it signs with. */
  gridPublicKeyHex: string | null = null;
  #hosts = 0;
  #receivedBytes = 0;
  #boot = 0;

  constructor(seed = "1", writeLatencyMs = 1) {
    this.random = new SeededRandom(seed);
    this.network = new PacketNetwork({
      timeline: this.timeline,
      random: this.random.fork("network"),
      conditions: CALM_NETWORK,
    });
    this.coordinator = new Host("coordinator", this.timeline);
    this.clock = new SimClock(this.coordinator);
    this.crypto = simCrypto(this.random.fork("crypto"));
    this.internet = new SimInternet({
      network: this.network,
      coordinator: this.coordinator,
      tap: { onFrame: () => undefined, onSent: () => undefined, onClosed: () => undefined },
    });
    this.store = new MemoryStore({ writeLatencyMs }, { clock: this.clock });
    this.registry = this.#makeRegistry();
  }

  async start(): Promise<void> {
    await this.registry.start();
    this.internet.listen({ host: this.coordinator, onLink: (link) => this.registry.accept(link) });
    this.registry.subscribe({
      onOnline: (nodeId) => this.#note(`online ${nodeId}`),
      onSuspect: (nodeId) => this.#note(`suspect ${nodeId}`),
      onWithdrawn: (nodeId, why) => this.#note(`withdrawn ${nodeId} ${why}`),
      onGone: (nodeId, cause) => this.#note(`gone ${nodeId}: ${cause}`),
      onWork: (nodeId, message) => this.#note(`work ${nodeId} ${message.type}`),
      onReplicas: (nodeId) => this.#note(`replicas ${nodeId}`),
    });
  }

  /** Its link counts bytes like a socket, at the coordinator's end; they come in by `addReceivedBytes`. */
  async agentOnSlowLine(): Promise<AgentUnderTest> {
    this.internet.listen({
      host: this.coordinator,
      onLink: (link) => {
        const counted: Link = {
          remote: link.remote,
          channelBinding: link.channelBinding,
          listen: (handlers) => link.listen(handlers),
          send: (frame) => link.send(frame),
          bufferedBytes: () => link.bufferedBytes(),
          receivedBytes: () => this.#receivedBytes,
          close: (code, reason) => link.close(code, reason),
          destroy: () => link.destroy(),
        };
        this.registry.accept(counted);
      },
    });
    return this.agent({ joinToken: await this.token() });
  }

  addReceivedBytes(bytes: number): void {
    this.#receivedBytes += bytes;
  }

  /** The coordinator's process is killed and starts again over what its disk holds. */
  async restart(options: { downMs: number }): Promise<void> {
    const disk: MemoryDisk = this.store.disk;
    this.store.crash();
    this.internet.listen(null);
    this.internet.drop(this.coordinator.name, { isPowerLoss: false });
    this.coordinator.kill({ isPowerLoss: false });
    await this.run(options.downMs);
    this.coordinator.restart();
    this.store = new MemoryStore({ writeLatencyMs: 1 }, { clock: this.clock, disk });
    this.registry = this.#makeRegistry();
    await this.start();
  }

  async run(forMs: number): Promise<void> {
    await this.timeline.run(this.timeline.nowMs + forMs, () => true);
  }

  /** A promise that needs the grid's time to go on. */
  async settled<T>(promise: Promise<T>, withinMs = 10_000): Promise<T> {
    const waiting = { value: null as { got: T } | null, thrown: null as { error: unknown } | null };
    promise.then(
      (got) => {
        waiting.value = { got };
      },
      (error: unknown) => {
        waiting.thrown = { error };
      },
    );
    for (let spentMs = 0; spentMs <= withinMs; spentMs += 10) {
      await this.run(10);
      if (waiting.value !== null) return waiting.value.got;
      if (waiting.thrown !== null) throw waiting.thrown.error;
    }
    throw new Error(`not settled within ${withinMs} ms of virtual time`);
  }

  async token(options: { usesMax?: number; ttlMs?: number } = {}): Promise<string> {
    const issued = this.registry.issueJoinToken({ usesMax: options.usesMax ?? 100, ttlMs: options.ttlMs ?? 3_600_000 });
    return (await this.settled(issued)).token;
  }

  host(name = `node-${this.#hosts++}`): Host {
    return new Host(name, this.timeline);
  }

  agent(
    options: {
      joinToken?: string | null;
      keyPair?: KeyPair;
      gridId?: string | null;
      gridPublicKeyHex?: string;
      host?: Host;
    } = {},
  ): AgentUnderTest {
    const host = options.host ?? this.host();
    const clock = new SimClock(host);
    const keyPair = options.keyPair ?? this.crypto.generateKeyPair();
    const work = new RecordedWork();
    const peers = new RecordedPeers();
    const statuses: MembershipStatus[] = [];
    const membership = new AgentMembership(
      {
        name: host.name,
        target: TARGET,
        gridId: options.gridId === undefined ? GRID_ID : options.gridId,
        gridPublicKeyHex: options.gridPublicKeyHex ?? null,
        joinToken: options.joinToken ?? null,
        version: "0.0.0-test",
        onStatus: (status) => statuses.push(status),
      },
      {
        dialer: this.internet.dialerFrom(host),
        clock,
        crypto: this.crypto,
        random: this.random.fork(host.name),
        log: this.log,
        keyPair,
        capabilities: () => CAPABILITIES,
        work,
        peers,
      },
    );
    return { host, clock, keyPair, nodeId: membership.nodeId, membership, work, peers, statuses };
  }

  /** Agents that are online. */
  async onlineAgents(count: number): Promise<readonly AgentUnderTest[]> {
    const joinToken = await this.token();
    const agents = Array.from({ length: count }, () => this.agent({ joinToken }));
    for (const { membership } of agents) membership.start();
    await this.run(1_000);
    for (const { nodeId } of agents) assert(this.stateOf(nodeId) === "online", `${nodeId} is online`);
    return agents;
  }

  async onlineAgent(): Promise<AgentUnderTest> {
    const [agent] = await this.onlineAgents(1);
    assert(agent !== undefined, "one agent was asked for");
    return agent;
  }

  stateOf(nodeId: NodeId): string | null {
    return this.registry.node(nodeId)?.state ?? null;
  }

  eventsOf(nodeId: NodeId): readonly string[] {
    return this.events.filter(({ text }) => text.includes(nodeId)).map(({ text }) => text.replace(` ${nodeId}`, ""));
  }

  /** A link driven by hand. */
  async peer(host = this.host()): Promise<HandDrivenPeer> {
    const link = await this.settled(this.internet.dialerFrom(host).dial(TARGET, new AbortController().signal));
    const peer = new HandDrivenPeer(link, this);
    await this.run(10);
    return peer;
  }

  #makeRegistry(): NodeRegistry {
    const { store, clock, crypto, log } = this;
    const boot = ++this.#boot;
    const random = this.random.fork(`coordinator-${boot}`);
    const key = this.gridPublicKeyHex;
    const told = { gridId: GRID_ID, boot, ...(key === null ? {} : { gridPublicKeyHex: key }) };
    return new NodeRegistry(told, { store, clock, crypto, random, log });
  }

  #note(text: string): void {
    this.events.push({ atMs: this.timeline.nowMs, text });
  }
}

export class HandDrivenPeer {
  readonly link: Link;
  readonly frames: { readonly [key: string]: unknown }[] = [];
  closed: { readonly code: number; readonly reason: string } | null = null;
  readonly #grid: MembershipGrid;

  constructor(link: Link, grid: MembershipGrid) {
    this.link = link;
    this.#grid = grid;
    link.listen({
      onFrame: (frame) => this.frames.push(JSON.parse(frame)),
      onClose: (code, reason) => {
        this.closed = { code, reason };
      },
    });
  }

  get last(): { readonly [key: string]: unknown } | null {
    return this.frames.at(-1) ?? null;
  }

  /** A hello that is right unless `change` says otherwise. */
  hello(options: { keyPair: KeyPair; joinToken: string | null; signedBinding?: string }): Hello {
    const { keyPair, joinToken } = options;
    const nonce = String(this.frames[0]?.["nonce"]);
    const publicKey = toHex(keyPair.publicKey);
    const channelBinding = options.signedBinding ?? this.link.channelBinding;
    const proof = new TextEncoder().encode(linkProofText({ gridId: GRID_ID, nonce, publicKey, channelBinding }));
    return {
      type: "hello",
      protocolVersion: 1,
      publicKey,
      signature: toHex(keyPair.sign(proof)),
      joinToken,
      name: "by hand",
      agentVersion: "0.0.0-test",
      capabilities: { ...CAPABILITIES, devices: [...CAPABILITIES.devices] },
      replicas: [],
    };
  }

  async say(message: unknown): Promise<void> {
    this.link.send(typeof message === "string" ? message : JSON.stringify(message));
    await this.#grid.run(50);
  }
}
