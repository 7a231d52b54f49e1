/**
 * Asks chains something whose way through the layers is known, and compares what each stage got of it with what other nodes gave (probe-votes.ts): a stage
 * that gives numbers of the right shape which its layers do not give is named and replaced. A probe is a request like any other, of the coordinator itself:
 * the first stage sees a prompt, those between see hidden states, the last one samples. Nobody pays for it, and it ends with the epoch in which it began.
 *
 * | event                                   | then                                                                       |
 * | --------------------------------------- | -------------------------------------------------------------------------- |
 * | a chain serves in an epoch of its own    | a probe, after `SETTLE_MS`                                                 |
 * | it serves on                            | a probe after each `everyMs`, a fifth more or less                          |
 * | the answer ended                        | each stage but the first is asked for the fingerprint of what it received    |
 * | all have told, or `TELL_MS` passed      | judged; who is named loses his place, and is avoided                        |
 * | it failed, moved, or ran on another chain | forgotten                                                                 |
 *
 * Prompts are drawn once for each model in each life of the coordinator, a few, so that nodes are compared by the same tokens.
 */
import { type SequenceId, sequenceIdOf } from "../../domain/chain.ts";
import type { Dispatch, Generation, GenerationEvent, GenerationRequest } from "../../domain/generation.ts";
import { toHex } from "../../domain/hex.ts";
import { type ModelId, type NodeId, type ReplicaId, requestId, type Sha256Hex, sha256Hex } from "../../domain/ids.ts";
import { DEFAULT_SAMPLING, type SampledToken } from "../../domain/sampling.ts";
import { areAlike, isSameEverywhere, type StateFingerprint } from "../../domain/state-fingerprint.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { Ids } from "../../ports/ids.ts";
import type { Log } from "../../ports/log.ts";
import type { Random } from "../../ports/random.ts";
import { areAnswersAlike } from "../../scheduler/chains/probe-answer.ts";
import { type ProbePoint, ProbeVotes, type Witness } from "../../scheduler/chains/probe-votes.ts";
import type { FingerprintReport } from "../../wire/chain-link.ts";
import type { Roster } from "../roster.ts";
import type { ChainDesk } from "./chain-desk.ts";
import type { ChainView } from "./chain-view.ts";

export interface ChainProbesPorts {
  readonly clock: Clock;
  readonly crypto: Pick<Crypto, "sha256">;
  readonly ids: Ids;
  readonly log: Log;
  readonly random: Random;
  readonly roster: Pick<Roster, "node" | "send" | "subscribe">;
  readonly models: { get(modelId: ModelId): { readonly tokenizer: { readonly vocabSize: number } } | null };
  readonly dispatch: Pick<Dispatch, "generate">;
  readonly chains: Pick<ChainDesk, "chains" | "suspect">;
}

export interface ChainProbesOptions {
  /** Between two probes of a chain that goes on in its epoch; 0: there are none at all. */
  readonly everyMs: number;
}

export const CHAIN_PROBES: ChainProbesOptions = { everyMs: 60_000 };
/** A day: less often is as good as never. */
export const PROBE_SECONDS_MAX = 86_400;

/** Of a grid's dispatcher, until they are stopped. */
export function startChainProbes(
  { dispatcher, ...ports }: Omit<ChainProbesPorts, "dispatch" | "chains"> & { readonly dispatcher: ProbedDispatcher },
  options?: Partial<ChainProbesOptions>,
): ChainProbes {
  const probes = new ChainProbes({ ...ports, dispatch: dispatcher, chains: dispatcher.pool.chains }, options);
  probes.start();
  return probes;
}

type ProbedDispatcher = Pick<Dispatch, "generate"> & {
  readonly pool: { readonly chains: ChainProbesPorts["chains"] };
};

const LOOK_MS = 500;
/** What waited for the chain goes first. */
const SETTLE_MS = 1_000;
/** A chain whose slots are all in use for so long is asked another time. */
const PROBE_MS_MAX = 30_000;
const TELL_MS = 5_000;
const JITTER = 0.4;
const PROMPTS = 4;
/** More than fingerprints tell of, so that all of them are of one piece of the prompt. */
const PROMPT_TOKENS = 20;
const ANSWER_TOKENS = 3;
const TOP = 16;

/** Of one place: what was received there, or what was answered in the end. */
type Told =
  | { readonly kind: "states"; readonly fingerprint: StateFingerprint }
  | { readonly kind: "answer"; readonly tokens: readonly SampledToken[] };

interface Seat extends Witness {
  readonly replicaId: ReplicaId;
  readonly first: number;
}

interface Probe {
  readonly chain: ChainView;
  readonly seats: readonly Seat[];
  readonly prompt: number;
  readonly sequence: SequenceId;
  readonly tokens: SampledToken[];
  readonly told: Map<ReplicaId, StateFingerprint | null>;
  generation: Generation | null;
  timer: Timer | null;
  /** The stages were. */
  isAsked: boolean;
}

interface Turn {
  readonly epoch: number;
  readonly count: number;
  readonly dueAtMs: number;
}

export class ChainProbes {
  readonly #ports: ChainProbesPorts;
  readonly #options: ChainProbesOptions;
  readonly #votes = new ProbeVotes<Told>(isAlike);
  /** By chain; one at a time. */
  readonly #running = new Map<string, Probe>();
  readonly #turns = new Map<string, Turn>();
  readonly #prompts = new Map<Sha256Hex, readonly (readonly number[])[]>();
  #timer: Timer | null = null;
  #isStopped = false;
  /** Probes that were judged, since the start. */
  judged = 0;

  constructor(ports: ChainProbesPorts, options: Partial<ChainProbesOptions> = {}) {
    this.#ports = ports;
    this.#options = { ...CHAIN_PROBES, ...options };
    ports.roster.subscribe({
      onOnline: () => undefined,
      onSuspect: () => undefined,
      onWithdrawn: () => undefined,
      onGone: () => undefined,
      onWork: () => undefined,
      onReplicas: () => undefined,
      onChain: (nodeId, message) => {
        if (message.type === "chain.fingerprint") this.#heard(nodeId, message);
      },
    });
  }

  start(): void {
    if (this.#options.everyMs <= 0 || this.#isStopped) return;
    this.#timer = this.#ports.clock.setTimer(LOOK_MS, () => {
      this.#look();
      this.start();
    });
  }

  /** May be called twice. */
  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
    for (const probe of this.#running.values()) probe.timer?.cancel();
    this.#running.clear();
  }

  // ---------------------------------------------------------------- within

  #look(): void {
    const chains = this.#ports.chains.chains();
    for (const chainId of [...this.#turns.keys()]) {
      if (!chains.some((chain) => chain.chainId === chainId)) this.#turns.delete(chainId);
    }
    const nowMs = this.#ports.clock.monoMs();
    for (const chain of chains) {
      if (chain.state !== "serving" || this.#running.has(chain.chainId)) continue;
      const turn = this.#turns.get(chain.chainId);
      if (turn?.epoch !== chain.epoch) {
        this.#turns.set(chain.chainId, { epoch: chain.epoch, count: 0, dueAtMs: nowMs + SETTLE_MS });
      } else if (nowMs >= turn.dueAtMs) {
        const waitMs = this.#options.everyMs * (1 + JITTER * (this.#ports.random.fraction() - 0.5));
        this.#turns.set(chain.chainId, { epoch: chain.epoch, count: turn.count + 1, dueAtMs: nowMs + waitMs });
        this.#begin(chain, turn.count % PROMPTS);
      }
    }
  }

  #begin(chain: ChainView, prompt: number): void {
    const seats = chain.stages.flatMap(({ first, holder }) => {
      if (holder === null) return [];
      const { nodeId, replicaId } = holder;
      return [{ nodeId, replicaId, first, owner: this.#ports.roster.node(nodeId)?.owner ?? nodeId }];
    });
    const vocabSize = this.#ports.models.get(chain.modelId)?.tokenizer.vocabSize ?? 0;
    const isRoomy = chain.contextTokens >= PROMPT_TOKENS + ANSWER_TOKENS && vocabSize >= PROMPT_TOKENS;
    if (seats.length < chain.stages.length || !isRoomy) return;
    const request = this.#request(chain, this.#promptsOf(chain.weightsSha256, vocabSize)[prompt] ?? []);
    const sequence = sequenceIdOf({ requestId: request.terms.requestId, choice: 0 }, (data) =>
      this.#ports.crypto.sha256(data),
    );
    const probe: Probe = {
      chain,
      seats,
      prompt,
      sequence,
      tokens: [],
      told: new Map(),
      generation: null,
      timer: null,
      isAsked: false,
    };
    this.#running.set(chain.chainId, probe);
    // Its deadline ends it long before; this holds whatever dispatch does.
    probe.timer = this.#ports.clock.setTimer(PROBE_MS_MAX + TELL_MS, () => this.#drop(probe));
    probe.generation = this.#ports.dispatch.generate(request, (event) => this.#onEvent(probe, event));
  }

  #onEvent(probe: Probe, event: GenerationEvent): void {
    if (this.#running.get(probe.chain.chainId) !== probe) return;
    if (event.kind === "tokens") probe.tokens.push(...event.tokens);
    else if (event.kind === "failed") this.#drop(probe);
    else if (event.kind === "end") this.#ask(probe);
  }

  #ask(probe: Probe): void {
    const { chain, seats, sequence } = probe;
    const [attempt, ...more] = probe.generation?.attempts() ?? [];
    const went = attempt?.stages?.map(({ nodeId }) => nodeId) ?? [];
    const isThisChain = went.length === seats.length && seats.every(({ nodeId }, at) => nodeId === went[at]);
    probe.timer?.cancel();
    if (more.length > 0 || !isThisChain) {
      this.#drop(probe);
      return;
    }
    probe.isAsked = true;
    probe.timer = this.#ports.clock.setTimer(TELL_MS, () => this.#judge(probe));
    for (const { nodeId, replicaId } of seats.slice(1)) {
      const ask = { type: "chain.fingerprint.ask", replicaId, chainId: chain.chainId, sequence } as const;
      if (!this.#ports.roster.send(nodeId, ask)) probe.told.set(replicaId, null);
    }
    this.#judgeIfTold(probe);
  }

  #drop(probe: Probe): void {
    probe.timer?.cancel();
    if (this.#running.get(probe.chain.chainId) === probe) this.#running.delete(probe.chain.chainId);
  }

  #heard(nodeId: NodeId, { replicaId, chainId, sequence, fingerprint }: FingerprintReport): void {
    const probe = this.#running.get(chainId);
    const seat = probe?.seats.slice(1).find((one) => one.replicaId === replicaId && one.nodeId === nodeId);
    if (probe === undefined || seat === undefined || !probe.isAsked || probe.sequence !== sequence) return;
    if (probe.told.has(seat.replicaId)) return;
    probe.told.set(seat.replicaId, fingerprint);
    this.#judgeIfTold(probe);
  }

  #judgeIfTold(probe: Probe): void {
    if (probe.seats.slice(1).every(({ replicaId }) => probe.told.has(replicaId))) this.#judge(probe);
  }

  #judge(probe: Probe): void {
    const { chain, seats, told } = probe;
    probe.timer?.cancel();
    this.#running.delete(chain.chainId);
    this.judged += 1;
    const flat = seats.findIndex(({ replicaId }) => {
      const fingerprint = told.get(replicaId) ?? null;
      return fingerprint !== null && isSameEverywhere(fingerprint);
    });
    const author = seats[flat - 1];
    if (author !== undefined) {
      const why = "one state for all the tokens of a probe";
      this.#tell(chain, { nodeId: author.nodeId, why, isSure: false });
      return;
    }
    for (const { nodeId, why, key } of this.#votes.judge(pointsOf(probe))) {
      this.#tell(chain, { nodeId, why: `${WHY[why]} (${key.slice(key.indexOf(" ") + 1)})`, isSure: why !== "tie" });
    }
  }

  #tell({ chainId, modelId, epoch }: ChainView, found: Parameters<ChainDesk["suspect"]>[1]): void {
    this.#ports.log.warn({ chainId, modelId, epoch, ...found, kind: "stage-garbage" }, "stage in trouble");
    this.#ports.chains.suspect(chainId, found);
  }

  #promptsOf(weightsSha256: Sha256Hex, vocabSize: number): readonly (readonly number[])[] {
    const known = this.#prompts.get(weightsSha256);
    if (known !== undefined) return known;
    const prompts = Array.from({ length: PROMPTS }, () => {
      const tokens = new Set<number>();
      for (let tries = 0; tokens.size < PROMPT_TOKENS && tries < PROMPT_TOKENS * PROMPT_TOKENS; tries++) {
        tokens.add(Math.floor(this.#ports.random.fraction() * vocabSize));
      }
      return [...tokens];
    });
    this.#prompts.set(weightsSha256, prompts);
    return prompts;
  }

  #request({ modelId, weightsSha256 }: ChainView, promptTokenIds: readonly number[]): GenerationRequest {
    const { ids, random } = this.#ports;
    return {
      terms: {
        requestId: requestId(ids.make("req")),
        requestSha256: sha256Hex(toHex(random.bytes(32))),
        modelId,
        weightsSha256,
        tier: "default",
        price: { inputMicroUsdPerMtok: 0, outputMicroUsdPerMtok: 0 },
        deadlineMs: PROBE_MS_MAX,
        isProbe: true,
      },
      choice: 0,
      promptTokenIds,
      tokensMax: ANSWER_TOKENS,
      sampling: { ...DEFAULT_SAMPLING, temperature: 0 },
      seed: sha256Hex(toHex(random.bytes(32))),
      stopStrings: [],
      grammar: null,
      cacheScope: toHex(random.bytes(16)),
      ignoreStopTokens: true,
      topLogprobs: TOP,
    };
  }
}

const WHY = {
  outvoted: "most others gave something else to a probe",
  tie: "another node gave something else to a probe",
  "false-report": "what it told of a probe is not what it got",
} as const;

function isAlike(a: Told, b: Told): boolean {
  if (a.kind === "states") return b.kind === "states" && areAlike(a.fingerprint, b.fingerprint);
  return b.kind === "answer" && areAnswersAlike(a.tokens, b.tokens);
}

/** What each stage but the first received is the work of the one before; the answer is the last one's. */
function pointsOf({ chain, seats, prompt, tokens, told }: Probe): readonly ProbePoint<Told>[] {
  const key = (where: string) => `${chain.weightsSha256} ${chain.wire} prompt ${prompt}, ${where}`;
  return seats.map((author, at) => {
    const reporter = seats[at + 1];
    if (reporter === undefined)
      return { key: key("answer"), author, reporter: author, value: { kind: "answer", tokens } };
    const fingerprint = told.get(reporter.replicaId) ?? null;
    const value = fingerprint === null ? null : ({ kind: "states", fingerprint } as const);
    return { key: key(`layer ${reporter.first}`), author, reporter, value };
  });
}
