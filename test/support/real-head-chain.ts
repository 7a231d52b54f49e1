/** A head desk over real stages of the bundled model, each in a process of its own, with ways between them that take as long as they are told to. */
import { NodeCrypto } from "../../src/adapters/crypto-node/node-crypto.ts";
import { createHeadDesk } from "../../src/agent/stages/head/head-desk.ts";
import type { HeadDesk } from "../../src/agent/stages/stage-roles.ts";
import { type SequenceId, sequenceIdOf, type WireFormat } from "../../src/domain/chain.ts";
import { attemptId, leaseId, modelId, replicaId, requestId, sha256Hex } from "../../src/domain/ids.ts";
import type { Engine, GenerateTask } from "../../src/ports/engine.ts";
import type { StageEngine, StageEvent } from "../../src/ports/stage-engine.ts";
import type { AttemptStart } from "../../src/wire/agent-link.ts";
import { passOn } from "./stage-chain.ts";
import { StageFolder, stageHost, TINY_LAYERS } from "./stage-fixture.ts";

export interface RealChainOptions {
  /** Layers at which the model is cut. */
  readonly cuts: readonly number[];
  readonly wire: WireFormat;
  /** One way between neighbours, and from the last to the first. */
  readonly hopMs: number;
  readonly sequencesMax: number;
  readonly draft: Engine | null;
  /** False: no drafts at all. */
  readonly speculates: boolean;
}

export interface RealAnswer {
  readonly tokenIds: readonly number[];
  readonly ms: number;
  /** From the first token to the last. */
  readonly decodeMs: number;
}

interface Waiting {
  readonly startMs: number;
  firstMs: number;
  readonly tokenIds: number[];
  readonly resolve: (answer: RealAnswer) => void;
}

const PASSES_MAX = 64;

export class RealHeadChain {
  readonly #options: RealChainOptions;
  readonly #folder: StageFolder;
  readonly #crypto = new NodeCrypto();
  readonly #waiting = new Map<SequenceId, Waiting>();
  readonly #singleMs: (() => number | null)[] = [];
  #stages: readonly StageEngine[] = [];
  #desk: HeadDesk | null = null;
  #taken = 0;
  #requests = 0;

  private constructor(options: RealChainOptions, folder: StageFolder) {
    this.#options = options;
    this.#folder = folder;
  }

  static async start(options: RealChainOptions): Promise<RealHeadChain> {
    const chain = new RealHeadChain(options, await StageFolder.of());
    await chain.#load();
    return chain;
  }

  get desk(): HeadDesk {
    if (this.#desk === null) throw new Error("the chain is loaded");
    return this.#desk;
  }

  /** One answer, to its end. */
  answer(task: GenerateTask): Promise<RealAnswer> {
    this.#requests += 1;
    const order = orderOf(task, this.#requests);
    const sequence = this.#sequenceOf(order);
    for (const stage of this.#stages) if (!stage.open(sequence)) throw new Error("a stage has a slot");
    this.#stages.at(-1)?.setSampling(sequence, task);
    return new Promise((resolve) => {
      const startMs = performance.now();
      this.#waiting.set(sequence, { startMs, firstMs: startMs, tokenIds: [], resolve });
      this.desk.start(order);
    });
  }

  async close(): Promise<void> {
    this.#desk?.stop();
    await Promise.all(this.#stages.map((stage) => stage.close()));
    await this.#folder.remove();
  }

  async #load(): Promise<void> {
    const { cuts, wire, sequencesMax } = this.#options;
    const host = stageHost();
    const edges = [0, ...cuts, TINY_LAYERS];
    const files = [];
    for (const [index, first] of edges.slice(0, -1).entries()) {
      files.push(await this.#folder.cut(first, (edges[index + 1] ?? first) - first));
    }
    this.#stages = await Promise.all(
      files.map(({ path, share }, index) =>
        host.loadStage(
          {
            modelId: modelId("tiny"),
            stagePath: path,
            weightsSha256: sha256Hex("0".repeat(64)),
            share,
            contextTokens: 1024,
            sequencesMax,
            threads: 1,
            gpuLayers: 0,
            wire,
          },
          { signal: new AbortController().signal, onEvents: (events) => this.#take(index, events) },
        ),
      ),
    );
    for (const stage of this.#stages) this.#singleMs.push(() => stage.stats().singleMs);
    this.#desk = this.#createDesk();
  }

  #createDesk(): HeadDesk {
    const [engine] = this.#stages;
    if (engine === undefined) throw new Error("a chain has a first stage");
    const { draft, speculates } = this.#options;
    return createHeadDesk({
      engine: {
        info: engine.info,
        open: (sequence) => engine.open(sequence),
        submit: (pass) => {
          this.#taken += 1;
          engine.submit(pass);
        },
        held: (sequence) => engine.held(sequence),
        release: (sequence) => engine.release(sequence),
        stats: () => engine.stats(),
      },
      draft: () => draft,
      speculates,
      sequenceOf: (order) => this.#sequenceOf(order),
      stageCount: () => this.#stages.length,
      stageMs: () => {
        const times = this.#singleMs.flatMap((singleMs) => singleMs() ?? []);
        if (times.length < this.#stages.length) return null;
        return { slowestMs: Math.max(...times), sumMs: times.reduce((sum, ms) => sum + ms, 0) };
      },
      room: () => PASSES_MAX - this.#taken,
      announce: () => undefined,
      release: (sequence) => {
        for (const stage of this.#stages.slice(1)) stage.release(sequence);
      },
      nowMs: () => performance.now(),
      setTimer: (delayMs, fire) => {
        const timer = setTimeout(fire, delayMs);
        return { cancel: () => clearTimeout(timer) };
      },
    });
  }

  #sequenceOf({ terms }: AttemptStart): SequenceId {
    return sequenceIdOf({ requestId: requestId(terms.requestId), choice: 0 }, (data) => this.#crypto.sha256(data));
  }

  #take(index: number, events: readonly StageEvent[]): void {
    for (const event of events) {
      if (event.kind === "failed") throw new Error(`a stage gave a sequence up: ${event.code}: ${event.message}`);
      if (event.kind === "output") {
        this.#after(() => {
          if (index === 0) this.#taken -= 1;
          this.#stages[index + 1]?.submit(passOn(event));
          if (index === 0) this.desk.onRoom();
        });
        if (index === 0) this.desk.onOutput(event.sequence, event.tag);
      }
      if (event.kind === "tokens") this.#drawn(event);
    }
  }

  #drawn({ sequence, tokens, position, end }: Extract<StageEvent, { kind: "tokens" }>): void {
    const waiting = this.#waiting.get(sequence);
    const tokenIds = tokens.map(({ tokenId }) => tokenId);
    if (waiting !== undefined) {
      if (waiting.tokenIds.length === 0) waiting.firstMs = performance.now();
      waiting.tokenIds.push(...tokenIds);
    }
    this.#after(() => this.desk.onTokens({ sequence, position, tokenIds, end }));
    if (end === null || waiting === undefined) return;
    this.#waiting.delete(sequence);
    const endMs = performance.now();
    waiting.resolve({
      tokenIds: waiting.tokenIds,
      ms: endMs - waiting.startMs,
      decodeMs: endMs - waiting.firstMs,
    });
  }

  #after(arrive: () => void): void {
    if (this.#options.hopMs === 0) queueMicrotask(arrive);
    else setTimeout(arrive, this.#options.hopMs);
  }
}

function orderOf(task: GenerateTask, index: number): AttemptStart {
  const number = String(index).padStart(26, "0");
  const { sampling, ...work } = task;
  return {
    type: "attempt.start",
    leaseId: leaseId(`lease_${number}`),
    epoch: 1,
    attemptId: attemptId(`att_${number}`),
    replicaId: replicaId(`rep_${"0".repeat(26)}`),
    deadlineMs: 1e9,
    terms: {
      requestId: requestId(`req_${number}`),
      requestSha256: "0".repeat(64),
      weightsSha256: "0".repeat(64),
      tier: "default",
      inputMicroUsdPerMtok: 0,
      outputMicroUsdPerMtok: 0,
    },
    work: {
      ...work,
      kind: "generate",
      tokenIds: [...task.tokenIds],
      stopStrings: [...task.stopStrings],
      sampling: {
        ...sampling,
        logitBias: sampling.logitBias.map(([tokenId, bias]): [number, number] => [tokenId, bias]),
      },
    },
  };
}
