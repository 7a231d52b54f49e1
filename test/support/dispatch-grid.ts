/** The real registry, dispatcher and replica pool with real agents on scripted engines, in virtual time. */
import { type Agent, createAgent } from "../../src/agent/agent.ts";
import type { DispatchOptions } from "../../src/coordinator/dispatch/dispatch-options.ts";
import { Dispatcher } from "../../src/coordinator/dispatch/dispatcher.ts";
import type { ServedModel } from "../../src/coordinator/dispatch/served-models.ts";
import { assert } from "../../src/domain/assert.ts";
import type { AttemptRecord } from "../../src/domain/attempt.ts";
import type { Generation, GenerationEvent, GenerationRequest, RequestTerms } from "../../src/domain/generation.ts";
import type { NodeCapabilities } from "../../src/domain/hardware.ts";
import { type NodeId, nodeId, requestId, sha256Hex } from "../../src/domain/ids.ts";
import { DEFAULT_SAMPLING } from "../../src/domain/sampling.ts";
import type { KeyPair } from "../../src/ports/crypto.ts";
import { manifestOf } from "../../src/sim/draw-grid.ts";
import { SCRIPTED_PACE, ScriptedEngines, type ScriptedPace } from "../../src/sim/engine/scripted-engine.ts";
import { SCRIPTED_STOP_TOKEN, SCRIPTED_VOCAB_SIZE, ScriptedText } from "../../src/sim/engine/scripted-model.ts";
import { SimDisk, simWeights } from "../../src/sim/engine/sim-weights.ts";
import { SimIds } from "../../src/sim/sim-ids.ts";
import { SimClock } from "../../src/sim/time/clock.ts";
import type { Host } from "../../src/sim/time/host.ts";
import { type AttemptStart, coordinatorMessageSchema, type ReplicaReport } from "../../src/wire/agent-link.ts";
import { CAPABILITIES, GRID_ID, type HandDrivenPeer, MembershipGrid, replica, TARGET } from "./membership-grid.ts";

export const PROMPT = Array.from({ length: 40 }, (_, at) => (at * 7) % SCRIPTED_VOCAB_SIZE);
/** 2 Gbit/s: the test model of a megabyte is there at once. */
const FETCH_BYTES_PER_MS = 250_000;

export interface GridAgent {
  readonly host: Host;
  readonly agent: Agent;
  readonly engines: ScriptedEngines;
  readonly nodeId: NodeId;
}

export interface Asked {
  readonly request: GenerationRequest;
  readonly generation: Generation;
  readonly events: GenerationEvent[];
  /** Each event's time, in the order of `events`. */
  readonly atMs: number[];
  tokenIds(): readonly number[];
  /** `end` or `failed`, when it came. */
  outcome(): Extract<GenerationEvent, { kind: "end" | "failed" }> | null;
  /** Nodes in the order in which they served. */
  servedBy(): readonly NodeId[];
}

export class DispatchGrid extends MembershipGrid {
  readonly model: ServedModel;
  readonly dispatcher: Dispatcher;
  #agents = 0;
  #asked = 0;

  constructor(options: { dispatch?: Partial<DispatchOptions>; warmReplicas?: number } = {}) {
    super();
    const draw = {
      name: "scripted",
      fileBytes: 1_000_000,
      kvBytesPerToken: 1_024,
      inputMicroUsdPerMtok: 50_000,
      outputMicroUsdPerMtok: 200_000,
      warmReplicas: options.warmReplicas ?? 0,
    };
    this.model = {
      manifest: { ...manifestOf(draw, this.crypto, 0), contextTokensMax: 1_024 },
      tokenizer: { vocabSize: SCRIPTED_VOCAB_SIZE, stopTokenIds: [SCRIPTED_STOP_TOKEN] },
    };
    const { clock, crypto, log, model } = this;
    this.dispatcher = new Dispatcher(
      {
        gridId: GRID_ID,
        boot: 1,
        clock,
        crypto,
        log,
        ids: new SimIds(clock, this.random.fork("ids")),
        roster: this.registry,
        models: {
          get: (modelId) => (modelId === model.manifest.modelId ? model : null),
          byWeights: (digest) => (digest === model.manifest.weightsSha256 ? model : null),
          list: () => [model],
        },
      },
      options.dispatch,
    );
  }

  override async start(): Promise<void> {
    await super.start();
    this.dispatcher.start();
  }

  /** A machine that is online when this resolves. */
  async addAgent(
    options: { pace?: ScriptedPace; capabilities?: NodeCapabilities; holdsBack?: boolean } = {},
  ): Promise<GridAgent> {
    const joinToken = await this.token();
    const host = this.host(`agent-${this.#agents++}`);
    const clock = new SimClock(host);
    const random = this.random.fork(host.name);
    const { holdsBack = false } = options;
    const engines = new ScriptedEngines({ clock, pace: options.pace ?? SCRIPTED_PACE, holdsBack });
    const agent = createAgent(
      {
        clock,
        random,
        crypto: this.crypto,
        log: this.log,
        dialer: this.internet.dialerFrom(host),
        engines,
        weights: simWeights({ host, disk: new SimDisk(), bytesPerMs: FETCH_BYTES_PER_MS, fault: () => null }),
      },
      {
        keyPair: this.crypto.generateKeyPair(),
        target: TARGET,
        joinToken,
        name: host.name,
        agentVersion: "0.0.0-test",
        capabilities: options.capabilities ?? CAPABILITIES,
        threads: 1,
      },
    );
    await this.run(100);
    assert(this.stateOf(agent.nodeId) === "online", `${host.name} is online`);
    return { host, agent, engines, nodeId: agent.nodeId };
  }

  terms(change: Partial<RequestTerms> = {}): RequestTerms {
    const { modelId, weightsSha256, price } = this.model.manifest;
    const ids = new SimIds(this.clock, this.random.fork(`request-${this.#asked++}`));
    return {
      requestId: requestId(ids.make("req")),
      requestSha256: sha256Hex("11".repeat(32)),
      modelId,
      weightsSha256,
      tier: "default",
      price,
      deadlineMs: 60_000,
      ...change,
    };
  }

  ask(change: Partial<Omit<GenerationRequest, "terms">> & { terms?: Partial<RequestTerms> } = {}): Asked {
    const { terms, ...rest } = change;
    const request: GenerationRequest = {
      terms: this.terms(terms),
      choice: 0,
      promptTokenIds: PROMPT,
      tokensMax: 100,
      sampling: DEFAULT_SAMPLING,
      seed: sha256Hex("22".repeat(32)),
      stopStrings: [],
      grammar: null,
      cacheScope: "33".repeat(16),
      ignoreStopTokens: true,
      topLogprobs: null,
      ...rest,
    };
    const events: GenerationEvent[] = [];
    const atMs: number[] = [];
    const generation = this.dispatcher.generate(request, (event) => {
      events.push(event);
      atMs.push(this.timeline.nowMs);
    });
    return {
      request,
      generation,
      events,
      atMs,
      tokenIds: () =>
        events.flatMap((event) => (event.kind === "tokens" ? event.tokens.map((token) => token.tokenId) : [])),
      outcome: () => events.find((event) => event.kind === "end" || event.kind === "failed") ?? null,
      servedBy: () => events.flatMap((event) => (event.kind === "started" ? [event.nodeId] : [])),
    };
  }

  /** Until the choice has this many tokens. */
  async untilTokens(asked: Asked, count: number): Promise<void> {
    await this.until(() => asked.tokenIds().length >= count, `${count} tokens`);
  }

  async untilOver(asked: Asked): Promise<void> {
    await this.until(() => asked.outcome() !== null, "the answer's end");
  }

  async until(isTrue: () => boolean, what: string, withinMs = 120_000): Promise<void> {
    const endMs = this.timeline.nowMs + withinMs;
    await this.timeline.run(endMs, () => !isTrue());
    assert(isTrue(), `${what} within ${withinMs} ms of virtual time`);
  }

  serving(asked: Asked, agents: readonly GridAgent[]): GridAgent {
    const nodeId = asked.servedBy().at(-1);
    const found = agents.find((agent) => agent.nodeId === nodeId);
    assert(found !== undefined, "one of the agents serves");
    return found;
  }

  /** As `kill -9` of the agent and all its engines. */
  kill(agent: GridAgent): void {
    this.internet.drop(agent.host.name, { isPowerLoss: false });
    agent.host.kill({ isPowerLoss: false });
  }

  /** What the answer is when nothing disturbs it. */
  undisturbed(request: GenerationRequest): readonly number[] {
    const { promptTokenIds: tokenIds, sampling, seed, choice, tokensMax } = request;
    const text = new ScriptedText({ tokenIds, generatedCount: 0, sampling, seed, choice });
    const answer: number[] = [];
    while (answer.length < tokensMax) {
      const tokenId = text.next();
      answer.push(tokenId);
      if (tokenId === SCRIPTED_STOP_TOKEN && !request.ignoreStopTokens) break;
    }
    return answer;
  }

  /** A node driven by hand that says it runs the model; the coordinator adopts its replica. */
  async handDrivenNode(report: Partial<ReplicaReport> = {}): Promise<HandDrivenNode> {
    const keyPair = this.crypto.generateKeyPair();
    const peer = await this.peer();
    const { weightsSha256 } = this.model.manifest;
    const reported = replica({ weightsSha256, deviceId: "cpu", ...report });
    await peer.say({ ...peer.hello({ keyPair, joinToken: await this.token() }), replicas: [reported] });
    const welcome = peer.frames.find((frame) => frame["type"] === "welcome");
    return { peer, keyPair, nodeId: nodeId(String(welcome?.["nodeId"])), replica: reported };
  }
}

export interface HandDrivenNode {
  readonly peer: HandDrivenPeer;
  readonly keyPair: KeyPair;
  readonly nodeId: NodeId;
  readonly replica: ReplicaReport;
}

/** The attempts that a hand-driven node was given, in order. */
export function startsAt(node: HandDrivenNode): readonly AttemptStart[] {
  return node.peer.frames.flatMap((frame) => {
    const parsed = coordinatorMessageSchema.parse(frame);
    return parsed.type === "attempt.start" ? [parsed] : [];
  });
}

export function chunk(
  start: AttemptStart,
  change: { seq?: number; tokenIds?: number[]; epoch?: number; leaseId?: string },
) {
  const { leaseId, epoch } = start;
  return { type: "attempt.chunks", chunks: [{ leaseId, epoch, seq: 0, tokenIds: [1], details: null, ...change }] };
}

export function endings(records: readonly AttemptRecord[]): readonly string[] {
  return records.map(({ ending }) => ending);
}
