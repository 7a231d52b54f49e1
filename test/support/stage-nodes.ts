/**
 * Nodes that hold stages of one chain, over carriers in memory, with the engines that a test gives them; the test plays the coordinator. Time is the
 * test's: virtual for scripted engines, real for real ones.
 */

import { sharePeers } from "../../src/agent/peer-server.ts";
import { openPeerNetwork } from "../../src/agent/peering/peer-network.ts";
import type { ChainStage } from "../../src/agent/stages/chain-stage.ts";
import { StageRoom } from "../../src/agent/stages/stage-room.ts";
import type { WireFormat } from "../../src/domain/chain.ts";
import { type NodeId, nodeId, sha256Hex } from "../../src/domain/ids.ts";
import type { PeerTarget } from "../../src/domain/peer.ts";
import { DEFAULT_SAMPLING, type SamplingOptions } from "../../src/domain/sampling.ts";
import type { ActivationSpill } from "../../src/ports/activation-spill.ts";
import type { Clock } from "../../src/ports/clock.ts";
import type { EngineUsage } from "../../src/ports/engine.ts";
import type { PeerLink, PeerNetwork } from "../../src/ports/peer-link.ts";
import type { Random } from "../../src/ports/random.ts";
import type { StageEngine, StageEvent } from "../../src/ports/stage-engine.ts";
import { simCrypto } from "../../src/sim/sim-crypto.ts";
import { simLog } from "../../src/sim/sim-log.ts";
import type { AgentMessage, AttemptStart } from "../../src/wire/agent-link.ts";
import type { ChainSet, ChainTrouble, FingerprintAsk, FingerprintReport } from "../../src/wire/chain-link.ts";
import { decodeStageFrame } from "../../src/wire/stage-frame-codec.ts";
import type { StageFrame } from "../../src/wire/stage-frames.ts";
import { hostileLinks } from "./hostile-links.ts";
import type { MemoryNet } from "./memory-carrier.ts";

export interface StageNodesOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly net: MemoryNet;
  readonly layerCount: number;
  readonly wire?: WireFormat;
  load(
    layers: { first: number; count: number },
    onEvents: (events: readonly StageEvent[]) => void,
  ): Promise<StageEngine>;
  until(isReached: () => boolean): Promise<void>;
  /** `CONTEXT_TOKENS` when nothing is said. */
  readonly contextTokens?: number;
  readonly activationBytesMax?: number;
  readonly spill?: () => ActivationSpill | null;
}

export const CONTEXT_TOKENS = 1_024;
export const CHAIN_ID = "c0ffee00".repeat(4);

/** A node with one stage. */
export class StageNode {
  readonly index: number;
  readonly keyHex: string;
  readonly network: PeerNetwork;
  readonly chain: ChainStage;
  readonly replicaId: string;
  readonly layers: { readonly first: number; readonly count: number };
  readonly told: AgentMessage[] = [];
  /** Frames that came, those that are none as null. */
  readonly frames: (StageFrame | null)[] = [];
  /** Links over which they came. */
  readonly links = new Set<PeerLink>();
  /** Changes what the engine reports. */
  spoil: (events: readonly StageEvent[]) => readonly StageEvent[] = (events) => events;
  /** False: the frame does not leave the node, and nobody misses it. */
  mayGo: (frame: StageFrame) => boolean = () => true;
  engine: StageEngine | null = null;
  readonly #room: StageRoom;

  constructor(index: number, layers: { readonly first: number; readonly count: number }, options: StageNodesOptions) {
    const { clock, random, net } = options;
    this.index = index;
    this.layers = layers;
    this.keyHex = (index + 10).toString(16).padStart(2, "0").repeat(32);
    this.replicaId = `rep_01KA00000000000000000000${String(index).padStart(2, "0")}`;
    const crypto = simCrypto(random);
    const log = simLog(() => undefined);
    const carriers = [net.carrier("tcp", this.keyHex)];
    const network = openPeerNetwork({ clock, random, crypto, log, carriers });
    this.network = hostileLinks(network, (frame) => this.mayGo(frame));
    const shared = sharePeers(this.network);
    this.#room = new StageRoom({
      clock,
      crypto,
      log,
      tell: (message) => this.told.push(message),
      stages: {
        engines: { loadStage: () => Promise.reject(new Error("not asked")) },
        files: { ensure: () => Promise.reject(new Error("not asked")), rest: () => undefined },
        network: this.network,
        serveChains: (server) =>
          shared.serveChains({
            admit: (credential, key) => server.admit(credential, key),
            onFetch: (request, key) => server.onFetch(request, key),
            needs: (key) => server.needs(key),
            onMessage: (message, link) => {
              const decoded = decodeStageFrame(Uint8Array.from(message));
              this.frames.push(decoded.ok ? decoded.frame : null);
              this.links.add(link);
              server.onMessage(message, link);
            },
          }),
        spill: () => options.spill?.() ?? null,
        ...(options.activationBytesMax === undefined ? {} : { activationBytesMax: options.activationBytesMax }),
      },
    });
    const { first, count } = layers;
    this.chain = this.#room.open(
      {
        type: "replica.load",
        replicaId: this.replicaId,
        modelId: "tiny",
        weightsSha256: "ab".repeat(32),
        fileBytes: 1,
        contextTokens: options.contextTokens ?? CONTEXT_TOKENS,
        sequencesMax: 4,
        deviceId: "cpu0",
        stage: { first, count, layerCount: options.layerCount, wire: options.wire ?? "f32" },
      },
      () => null,
    );
  }

  onEvents(events: readonly StageEvent[]): void {
    this.chain.onEvents(this.spoil(events));
  }

  set(message: ChainSet): void {
    const problem = this.#room.order(message);
    if (problem !== null) throw new Error(problem);
  }

  askFingerprint(ask: FingerprintAsk): FingerprintReport | null {
    this.#room.tellFingerprint(ask);
    return this.told.findLast((message) => message.type === "chain.fingerprint") ?? null;
  }

  get nodeId(): NodeId {
    return nodeId(placeOf(this).nodeId);
  }

  get troubles(): readonly ChainTrouble[] {
    return this.told.filter((message) => message.type === "chain.trouble");
  }

  get isLinked(): boolean {
    const last = this.told.findLast((message) => message.type === "chain.state");
    return last?.isLinked === true && last.chainEpoch === this.chain.chainEpoch;
  }

  get hasTakenOver(): boolean {
    const last = this.told.findLast((message) => message.type === "chain.state");
    return last?.hasTakenOver === true;
  }

  /** Frames of a type that came in an epoch. */
  came<T extends StageFrame["type"]>(type: T, chainEpoch?: number): readonly Extract<StageFrame, { type: T }>[] {
    return this.frames.filter((frame): frame is Extract<StageFrame, { type: T }> => {
      return frame?.type === type && (chainEpoch === undefined || frame.chainEpoch === chainEpoch);
    });
  }

  async stop(): Promise<void> {
    await this.#room.close(this.replicaId);
    await this.engine?.close();
    await this.network.close();
  }
}

export interface Answer {
  readonly tokenIds: number[];
  end: string | null;
  failed: string | null;
  usage: EngineUsage | null;
}

export interface Ask {
  readonly request: number;
  readonly prompt: readonly number[];
  readonly tokensMax: number;
  readonly sampling?: SamplingOptions;
  /** Goes on to `tokensMax`. */
  readonly isEndless?: boolean;
}

export class StageNodes {
  readonly nodes: StageNode[] = [];
  readonly #options: StageNodesOptions;
  readonly #answers = new Map<number, Answer>();
  /** Those that are in the chain now. */
  members: readonly StageNode[] = [];
  epoch = 0;
  #lease = 0;

  constructor(options: StageNodesOptions) {
    this.#options = options;
  }

  async add(layers: { readonly first: number; readonly count: number }): Promise<StageNode> {
    const node = new StageNode(this.nodes.length, layers, this.#options);
    this.nodes.push(node);
    await this.startEngine(node);
    return node;
  }

  async startEngine(node: StageNode): Promise<void> {
    node.engine = await this.#options.load(node.layers, (events) => node.onEvents(events));
    node.chain.setEngine(node.engine);
  }

  message(node: StageNode, members: readonly StageNode[], chainEpoch: number): ChainSet {
    return {
      type: "chain.set",
      replicaId: node.replicaId,
      chainId: CHAIN_ID,
      chainEpoch,
      stages: members.map((member) => ({ ...placeOf(member), ...member.layers })),
    };
  }

  /** A new epoch with these members, and waits until they are linked. */
  async link(members: readonly StageNode[]): Promise<void> {
    this.epoch += 1;
    this.members = members;
    for (const member of members) member.set(this.message(member, members, this.epoch));
    await this.#options.until(() => members.every(({ isLinked }) => isLinked));
  }

  /** The place of a stage goes to another, as a planned move has it. */
  async move(from: StageNode, to: StageNode): Promise<void> {
    const members = this.members.map((member) => (member === from ? to : member));
    from.set({ ...this.message(from, this.members, this.epoch), handOver: { publicKey: to.keyHex } });
    to.set({ ...this.message(to, members, this.epoch + 1), takeOver: placeOf(from) });
    await this.#options.until(() => to.hasTakenOver);
    this.epoch += 1;
    this.members = members;
    for (const member of members) if (member !== to) member.set(this.message(member, members, this.epoch));
    await this.#options.until(() => members.every(({ isLinked }) => isLinked));
  }

  /** Begins an attempt with what the request has got so far. */
  start(ask: Ask, { tailDelay }: { readonly tailDelay?: () => Promise<void> } = {}): Answer {
    const answer = this.#answers.get(ask.request) ?? { tokenIds: [], end: null, failed: null, usage: null };
    this.#answers.set(ask.request, answer);
    answer.failed = null;
    const order = this.#order(ask, answer);
    const [head, tail] = [this.members[0], this.members.at(-1)];
    const { work } = order;
    const engine = tail?.chain.engineFor(order) ?? null;
    if (head === undefined || engine === null || work.kind !== "generate") throw new Error("no chain serves");
    const lease = this.#lease;
    head.chain.startHead(order);
    const generate = () =>
      engine.generate({ ...work, seed: sha256Hex(work.seed) }, (event) => {
        if (lease !== leases.get(answer)) return;
        if (event.kind === "tokens") answer.tokenIds.push(...event.tokens.map(({ tokenId }) => tokenId));
        else if (event.kind === "end") Object.assign(answer, { end: event.reason, usage: event.usage });
        else answer.failed = `${event.code}: ${event.message}`;
      });
    leases.set(answer, lease);
    if (tailDelay === undefined) generate();
    else void tailDelay().then(generate);
    return answer;
  }

  targetOf(node: StageNode): PeerTarget {
    const { nodeId: id, publicKey: publicKeyHex, endpoints } = placeOf(node);
    return { nodeId: nodeId(id), publicKeyHex, endpoints };
  }

  /** Of a stage that is accused; -1 when it is in no place. */
  placeOf(replicaId: string): number {
    return this.members.findIndex((member) => member.replicaId === replicaId);
  }

  until(isReached: () => boolean): Promise<void> {
    return this.#options.until(isReached);
  }

  async stop(): Promise<void> {
    for (const node of this.nodes) await node.stop();
  }

  #order(
    { request, prompt, tokensMax, sampling = DEFAULT_SAMPLING, isEndless = false }: Ask,
    answer: Answer,
  ): AttemptStart {
    this.#lease += 1;
    const id = String(request).padStart(4, "0");
    return {
      type: "attempt.start",
      leaseId: `lease_01KA0000000000000000${String(this.#lease).padStart(6, "0")}`,
      epoch: this.#lease,
      attemptId: `att_01KA0000000000000000${String(this.#lease).padStart(6, "0")}`,
      replicaId: this.members.at(-1)?.replicaId ?? "",
      deadlineMs: 600_000,
      terms: {
        requestId: `req_01KA0000000000000000${"0".repeat(2)}${id}`,
        requestSha256: "cd".repeat(32),
        weightsSha256: "ab".repeat(32),
        tier: "default",
        inputMicroUsdPerMtok: 0,
        outputMicroUsdPerMtok: 0,
      },
      work: {
        kind: "generate",
        tokenIds: [...prompt, ...answer.tokenIds],
        generatedCount: answer.tokenIds.length,
        tokensMax: tokensMax - answer.tokenIds.length,
        sampling: { ...sampling, logitBias: sampling.logitBias.map(([id, bias]) => [id, bias]) },
        seed: seedOf(request),
        choice: 0,
        stopStrings: [],
        grammar: null,
        cacheScope: "00".repeat(16),
        ignoreStopTokens: isEndless,
        topLogprobs: null,
      },
    };
  }
}

/** The lease under which an answer goes on: what an older one gives is nobody's. */
const leases = new WeakMap<Answer, number>();

export function seedOf(request: number): string {
  return request.toString(16).padStart(2, "0").repeat(32);
}

function placeOf(node: StageNode) {
  return {
    replicaId: node.replicaId,
    nodeId: `node_${node.index.toString(16).padStart(32, "0")}`,
    publicKey: node.keyHex,
    endpoints: { tcp: [{ host: "192.0.2.1", port: 1 }], hasUdp: false },
  };
}
