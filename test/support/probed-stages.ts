/**
 * The coordinator's probes over stages that a test links (stage-nodes.ts): what they ask for runs through the chain as an attempt, and what they find is
 * written down. Who replaces whom is the test's.
 */
import { ChainProbes } from "../../src/coordinator/chains/chain-probes.ts";
import type { ChainView } from "../../src/coordinator/chains/chain-view.ts";
import type { AttemptRecord } from "../../src/domain/attempt.ts";
import { sequenceIdOf, WIRE_FORMATS } from "../../src/domain/chain.ts";
import type { Generation, GenerationEvent, GenerationRequest } from "../../src/domain/generation.ts";
import { attemptId, leaseId, modelId, type NodeId, replicaId, sha256Hex } from "../../src/domain/ids.ts";
import type { SampledToken } from "../../src/domain/sampling.ts";
import type { StateFingerprint } from "../../src/domain/state-fingerprint.ts";
import type { Clock } from "../../src/ports/clock.ts";
import type { Crypto } from "../../src/ports/crypto.ts";
import type { Random } from "../../src/ports/random.ts";
import { simCrypto } from "../../src/sim/sim-crypto.ts";
import { simLog } from "../../src/sim/sim-log.ts";
import type { AttemptStart } from "../../src/wire/agent-link.ts";
import { CHAIN_ID, type StageNode, type StageNodes } from "./stage-nodes.ts";

export interface Found {
  readonly nodeId: NodeId;
  readonly why: string;
  readonly isSure: boolean;
}

/** What one probe gave. */
export interface Probed {
  readonly fingerprints: readonly (StateFingerprint | null)[];
  readonly tokens: readonly SampledToken[];
}

export class ProbedStages {
  readonly probes: ChainProbes;
  readonly found: Found[] = [];
  readonly probed: Probed[] = [];
  readonly #stages: StageNodes;
  readonly #crypto: Crypto;
  #lease = 900_000;
  #hear: ((nodeId: NodeId, message: ReturnType<StageNode["askFingerprint"]>) => void) | null = null;

  constructor(
    stages: StageNodes,
    with_: {
      readonly clock: Clock;
      readonly random: Random;
      readonly vocabSize: number;
      readonly everyMs: number;
    },
  ) {
    const { clock, random, vocabSize, everyMs } = with_;
    this.#stages = stages;
    this.#crypto = simCrypto(random);
    let made = 0;
    this.probes = new ChainProbes(
      {
        clock,
        random,
        crypto: this.#crypto,
        ids: { make: (prefix) => `${prefix}_01KA${String(++made).padStart(22, "0")}` },
        log: simLog(() => undefined),
        roster: {
          node: () => null,
          send: (nodeId, message) => {
            const node = stages.members.find((member) => member.nodeId === nodeId);
            if (node === undefined || message.type !== "chain.fingerprint.ask") return false;
            queueMicrotask(() => this.#hear?.(nodeId, node.askFingerprint(message)));
            return true;
          },
          subscribe: ({ onChain }) => {
            this.#hear = (nodeId, message) => message !== null && onChain?.(nodeId, message);
          },
        },
        models: { get: () => ({ tokenizer: { vocabSize } }) },
        dispatch: { generate: (request, onEvent) => this.#generate(request, onEvent) },
        chains: {
          chains: () => this.#view(),
          suspect: (_, found) => void this.found.push(found),
        },
      },
      { everyMs },
    );
  }

  #view(): readonly ChainView[] {
    const { members, epoch } = this.#stages;
    if (members.length === 0 || !members.every(({ isLinked }) => isLinked)) return [];
    return [
      {
        chainId: CHAIN_ID,
        modelId: modelId("tiny"),
        weightsSha256: sha256Hex("ab".repeat(32)),
        state: "serving",
        epoch,
        wire: WIRE_FORMATS[0],
        layerCount: 4,
        contextTokens: 1_024,
        sequencesMax: 4,
        stages: members.map((member) => ({
          ...member.layers,
          holder: {
            replicaId: replicaId(member.replicaId),
            nodeId: member.nodeId,
            deviceId: "cpu0",
            memoryBytes: 1,
            state: "ready",
            isLinked: true,
          },
          successor: null,
          times: null,
        })),
        loopMs: null,
        drafted: 0,
        accepted: 0,
        repairs: 0,
        recoveryMs: null,
        trouble: null,
      },
    ];
  }

  #generate(request: GenerationRequest, onEvent: (event: GenerationEvent) => void): Generation {
    const { members } = this.#stages;
    const [head, tail] = [members[0], members.at(-1)];
    this.#lease += 1;
    const order = orderOf(request, this.#lease, tail?.replicaId ?? "");
    const engine = tail?.chain.engineFor(order) ?? null;
    const { work } = order;
    if (head === undefined || tail === undefined || engine === null || work.kind !== "generate") {
      throw new Error("no chain serves");
    }
    const tokens: SampledToken[] = [];
    head.chain.startHead(order);
    engine.generate({ ...work, seed: sha256Hex(work.seed) }, (event) => {
      if (event.kind === "tokens") {
        tokens.push(...event.tokens);
        onEvent({ kind: "tokens", tokens: event.tokens });
      } else if (event.kind === "end") {
        onEvent({ kind: "end", reason: event.reason });
        const { requestId } = request.terms;
        const sequence = sequenceIdOf({ requestId, choice: 0 }, (data) => this.#crypto.sha256(data));
        const fingerprints = members.slice(1).map(({ chain }) => chain.watch.fingerprint(sequence));
        this.probed.push({ fingerprints, tokens });
      } else
        onEvent({
          kind: "failed",
          reason: { code: "upstream-lost", message: event.message, param: null, retryAfterMs: null },
        });
    });
    const record: AttemptRecord = {
      attemptId: attemptId(order.attemptId),
      leaseId: leaseId(order.leaseId),
      epoch: order.epoch,
      nodeId: tail.nodeId,
      nodePublicKeyHex: tail.keyHex,
      choice: 0,
      acknowledgedTokens: 0,
      ending: "finished",
      detail: null,
      statementJson: null,
      signatureHex: null,
      stages: members.map(({ nodeId, layers }) => ({ nodeId, layers: layers.count })),
    };
    return { attempts: () => [record], finish: () => Promise.resolve([record]) };
  }
}

function orderOf(request: GenerationRequest, lease: number, tail: string): AttemptStart {
  const { requestId, requestSha256, weightsSha256, tier, price, deadlineMs } = request.terms;
  const { sampling } = request;
  return {
    type: "attempt.start",
    leaseId: `lease_01KA0000000000000000${String(lease).padStart(6, "0")}`,
    epoch: lease,
    attemptId: `att_01KA0000000000000000${String(lease).padStart(6, "0")}`,
    replicaId: tail,
    deadlineMs,
    terms: { requestId, requestSha256, weightsSha256, tier, ...price },
    work: {
      kind: "generate",
      tokenIds: [...request.promptTokenIds],
      generatedCount: 0,
      tokensMax: request.tokensMax,
      sampling: { ...sampling, logitBias: [] },
      seed: request.seed,
      choice: request.choice,
      stopStrings: [],
      grammar: null,
      cacheScope: request.cacheScope,
      ignoreStopTokens: request.ignoreStopTokens,
      topLogprobs: request.topLogprobs,
    },
  };
}
