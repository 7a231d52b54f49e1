/**
 * The real registry, dispatcher, planner and chain desk with scripted nodes that hold stages, in virtual time: each loads and links as it is told, and
 * the last stage of a chain counts upwards as its answer. What a node is told to do wrong it does.
 */
import { AgentMembership } from "../../src/agent/membership/agent-membership.ts";
import type { DispatchOptions } from "../../src/coordinator/dispatch/dispatch-options.ts";
import { Dispatcher } from "../../src/coordinator/dispatch/dispatcher.ts";
import { assert } from "../../src/domain/assert.ts";
import { type SequenceId, sequenceIdOf } from "../../src/domain/chain.ts";
import type { Generation, GenerationEvent, RequestTerms } from "../../src/domain/generation.ts";
import { type NodeId, requestId, sha256Hex } from "../../src/domain/ids.ts";
import { DEFAULT_SAMPLING } from "../../src/domain/sampling.ts";
import { manifestOf } from "../../src/sim/draw-grid.ts";
import { SCRIPTED_VOCAB_SIZE } from "../../src/sim/engine/scripted-model.ts";
import { SimIds } from "../../src/sim/sim-ids.ts";
import { SimClock } from "../../src/sim/time/clock.ts";
import type { Host } from "../../src/sim/time/host.ts";
import { ScriptedStages } from "./chain-desk-stages.ts";
import { CAPABILITIES, GRID_ID, MembershipGrid, TARGET } from "./membership-grid.ts";

export const LAYERS = 12;
/** A model of 12 layers on nodes that have room for four or five of them. */
const MODEL_BYTES = 12e9;
const NODE_BYTES = 5.6e9;

export interface StageNode {
  readonly host: Host;
  readonly nodeId: NodeId;
  readonly work: ScriptedStages;
  readonly membership: AgentMembership;
}

export interface StageAsked {
  readonly generation: Generation;
  /** Its name on the stages. */
  readonly sequence: SequenceId;
  readonly events: GenerationEvent[];
  tokenIds(): readonly number[];
  outcome(): Extract<GenerationEvent, { kind: "end" | "failed" }> | null;
}

export class StageGrid extends MembershipGrid {
  readonly nodes: StageNode[] = [];
  readonly model;
  dispatcher: Dispatcher;
  readonly #options: Partial<DispatchOptions>;
  #boots = 1;
  #asked = 0;

  constructor(options: Partial<DispatchOptions> = {}) {
    super();
    const draw = {
      name: "large",
      fileBytes: MODEL_BYTES,
      layerCount: LAYERS,
      kvBytesPerToken: 1_200,
      inputMicroUsdPerMtok: 50_000,
      outputMicroUsdPerMtok: 200_000,
      warmReplicas: 1,
    };
    const manifest = { ...manifestOf(draw, this.crypto, 0), contextTokensMax: 4_096 };
    this.model = { manifest, tokenizer: { vocabSize: SCRIPTED_VOCAB_SIZE, stopTokenIds: [] } };
    this.#options = options;
    this.dispatcher = this.#makeDispatcher();
  }

  get chains() {
    return this.dispatcher.pool.chains;
  }

  override async start(): Promise<void> {
    await super.start();
    this.dispatcher.start();
  }

  /** The coordinator's process is killed; what it knew of chains is gone. */
  override async restart(options: { downMs: number }): Promise<void> {
    this.dispatcher.stop();
    await super.restart(options);
  }

  /** Over the registry of a coordinator that restarted. */
  openDispatcher(): void {
    this.dispatcher = this.#makeDispatcher();
    this.dispatcher.start();
  }

  #makeDispatcher(): Dispatcher {
    const { clock, crypto, log, model } = this;
    const boot = this.#boots++;
    const models = {
      get: (modelId: string) => (modelId === model.manifest.modelId ? model : null),
      byWeights: (digest: string) => (digest === model.manifest.weightsSha256 ? model : null),
      list: () => [model],
    };
    const ids = new SimIds(clock, this.random.fork(`ids-${boot}`));
    return new Dispatcher(
      { gridId: GRID_ID, boot, clock, crypto, log, ids, roster: this.registry, models },
      this.#options,
    );
  }

  async addNode(options: { region?: string; memoryBytes?: number } = {}): Promise<StageNode> {
    const host = this.host();
    const clock = new SimClock(host);
    const work = new ScriptedStages(clock, 7_000 + this.nodes.length);
    const [device] = CAPABILITIES.devices;
    assert(device !== undefined, "the sample has a device");
    const memoryBytes = options.memoryBytes ?? NODE_BYTES;
    const devices = [{ ...device, memoryBytes, memoryFreeBytes: memoryBytes, reserveBytes: 0 }];
    const capabilities = { ...CAPABILITIES, devices, memoryBytes, servesStages: true };
    const membership = new AgentMembership(
      {
        name: host.name,
        target: TARGET,
        gridId: GRID_ID,
        gridPublicKeyHex: null,
        joinToken: await this.token(),
        version: "0.0.0-test",
        onStatus: () => undefined,
        ...(options.region === undefined ? {} : { region: options.region }),
      },
      {
        dialer: this.internet.dialerFrom(host),
        clock,
        crypto: this.crypto,
        random: this.random.fork(host.name),
        log: this.log,
        keyPair: this.crypto.generateKeyPair(),
        capabilities: () => capabilities,
        work,
        peers: { onLineUp: () => undefined, onLineDown: () => undefined, onPeerOrder: () => undefined },
      },
    );
    const node = { host, nodeId: membership.nodeId, work, membership };
    membership.start();
    this.nodes.push(node);
    await this.run(100);
    return node;
  }

  async addNodes(count: number): Promise<void> {
    for (let at = 0; at < count; at++) await this.addNode();
  }

  /** As `kill -9` of the agent. */
  kill({ host }: StageNode): void {
    this.internet.drop(host.name, { isPowerLoss: false });
    host.kill({ isPowerLoss: false });
  }

  ask(change: { tokensMax?: number; deadlineMs?: number; constraints?: RequestTerms["constraints"] } = {}): StageAsked {
    const { modelId, weightsSha256, price } = this.model.manifest;
    const { tokensMax = 60, deadlineMs = 60_000, constraints } = change;
    const ids = new SimIds(this.clock, this.random.fork(`request-${this.#asked++}`));
    const terms: RequestTerms = {
      requestId: requestId(ids.make("req")),
      requestSha256: sha256Hex("11".repeat(32)),
      modelId,
      weightsSha256,
      tier: "default",
      price,
      deadlineMs,
      ...(constraints === undefined ? {} : { constraints }),
    };
    const events: GenerationEvent[] = [];
    const generation = this.dispatcher.generate(
      {
        terms,
        choice: 0,
        promptTokenIds: [1, 2, 3],
        tokensMax,
        sampling: DEFAULT_SAMPLING,
        seed: sha256Hex("22".repeat(32)),
        stopStrings: [],
        grammar: null,
        cacheScope: "33".repeat(16),
        ignoreStopTokens: true,
        topLogprobs: null,
      },
      (event) => events.push(event),
    );
    return {
      generation,
      sequence: sequenceIdOf({ requestId: terms.requestId, choice: 0 }, (data) => this.crypto.sha256(data)),
      events,
      tokenIds: () =>
        events.flatMap((event) => (event.kind === "tokens" ? event.tokens.map(({ tokenId }) => tokenId) : [])),
      outcome: () => events.find((event) => event.kind === "end" || event.kind === "failed") ?? null,
    };
  }

  async until(isTrue: () => boolean, what: string, withinMs = 60_000): Promise<void> {
    const endMs = this.timeline.nowMs + withinMs;
    await this.timeline.run(endMs, () => !isTrue());
    assert(isTrue(), `${what} within ${withinMs} ms of virtual time`);
  }

  async untilServing(): Promise<void> {
    await this.until(() => this.chain()?.state === "serving", "a chain that serves");
  }

  /** The first. */
  chain() {
    return this.chains.chains()[0] ?? null;
  }

  /** Who holds the place, counted from the front. */
  holder(at: number): StageNode {
    const found = this.maybeHolder(at);
    assert(found !== null, `place ${at} has a holder`);
    return found;
  }

  maybeHolder(at: number): StageNode | null {
    const nodeId = this.chain()?.stages.at(at)?.holder?.nodeId;
    return this.nodes.find((node) => node.nodeId === nodeId) ?? null;
  }

  replicaAt(at: number): string {
    const replicaId = this.chain()?.stages.at(at)?.holder?.replicaId;
    assert(replicaId !== undefined, `place ${at} has a holder`);
    return replicaId;
  }
}

/** The whole answer, whatever happened on the way. */
export function counted(tokens: number): readonly number[] {
  return Array.from({ length: tokens }, (_, at) => at % SCRIPTED_VOCAB_SIZE);
}
