/** A settlement over a memory store on virtual time, with real keys, and requests whose nodes sign real statements. */
import { NodeCrypto } from "../../src/adapters/crypto-node/node-crypto.ts";
import type { SettleRequest } from "../../src/coordinator/settlement/build-settlement.ts";
import { Settlement } from "../../src/coordinator/settlement/settlement.ts";
import type { AttemptEnding, AttemptRecord } from "../../src/domain/attempt.ts";
import type { FallowError } from "../../src/domain/fault.ts";
import { microUsd } from "../../src/domain/money.ts";
import { nodeIdOf } from "../../src/domain/node-id.ts";
import type { NodeStatement } from "../../src/domain/receipt.ts";
import { canonicalSignedJson } from "../../src/market/canonical-json.ts";
import { toHex } from "../../src/market/hex.ts";
import { statementBytes, tokensSha256 } from "../../src/market/receipt.ts";
import type { KeyPair } from "../../src/ports/crypto.ts";
import { SimIds } from "../../src/sim/sim-ids.ts";
import { simLog } from "../../src/sim/sim-log.ts";
import { MemoryStore } from "../../src/sim/store/memory-store.ts";
import { SimClock } from "../../src/sim/time/clock.ts";
import { Host } from "../../src/sim/time/host.ts";
import { SeededRandom } from "../../src/sim/time/random.ts";
import { Timeline } from "../../src/sim/time/timeline.ts";
import { aManifest, anApiKey, aTenant, credit, digest, madeId } from "./store-samples.ts";

export const GRID_ID = "grid-1";
export const crypto = new NodeCrypto();
export const sha256 = (data: Uint8Array): Uint8Array => crypto.sha256(data);
/** 1 micro-USD for a token of the prompt, 2 for one of the output. */
export const PRICE = { inputMicroUsdPerMtok: 1_000_000, outputMicroUsdPerMtok: 2_000_000 };

export class SettlementGrid {
  readonly timeline = new Timeline();
  readonly clock: SimClock;
  readonly keyPair: KeyPair = crypto.keyPairFrom(new Uint8Array(32).fill(7));
  readonly events: string[] = [];
  store: MemoryStore;
  settlement: Settlement;
  readonly #ids: SimIds;

  constructor() {
    this.clock = new SimClock(new Host("coordinator", this.timeline));
    this.#ids = new SimIds(this.clock, new SeededRandom("settlement"));
    this.store = new MemoryStore({ writeLatencyMs: 0 }, { clock: this.clock });
    this.settlement = this.#open();
  }

  static async start(balanceMicroUsd = 1_000_000): Promise<SettlementGrid> {
    const grid = new SettlementGrid();
    await grid.store.tenants.create(aTenant(1));
    await grid.store.keys.create(anApiKey(1));
    if (balanceMicroUsd > 0) await grid.store.ledger.apply([credit(aTenant(1).tenantId, balanceMicroUsd)]);
    await grid.settlement.start();
    return grid;
  }

  /** The process dies and a new one starts over what was durable. */
  async restart(): Promise<{ voidedHolds: number; receipts: number }> {
    this.store.crash();
    this.settlement.stop();
    this.store = new MemoryStore({ writeLatencyMs: 0 }, { clock: this.clock, disk: this.store.disk });
    this.settlement = this.#open();
    return this.settlement.start();
  }

  breakStore(fault: FallowError | null): void {
    this.store.breakWith(fault);
  }

  hold(number: number, amount: number, { budget = null, mayWait = false }: HoldTerms = {}) {
    return this.settlement.hold({
      requestId: madeId("req", number),
      tenantId: aTenant(1).tenantId,
      keyId: anApiKey(1).keyId,
      budgetMicroUsd: budget === null ? null : microUsd(budget),
      amountMicroUsd: microUsd(amount),
      atMs: this.clock.wallMs(),
      mayWait,
    });
  }

  async available(): Promise<number> {
    const account = await this.store.ledger.account(credit(aTenant(1).tenantId, 1).creditAccountId);
    return account === null ? 0 : account.creditsPosted - account.debitsPosted - account.debitsPending;
  }

  pass(ms: number): Promise<void> {
    return this.timeline.run(this.timeline.nowMs + ms, () => true);
  }

  #open(): Settlement {
    const { store, clock, keyPair } = this;
    const log = simLog((line) => this.events.push(line.event));
    return new Settlement({ gridId: GRID_ID }, { store, clock, crypto, ids: this.#ids, log, keyPair });
  }
}

interface HoldTerms {
  readonly budget?: number | null;
  readonly mayWait?: boolean;
}

export interface SampleAttempt {
  readonly node: number;
  readonly tokens: readonly number[];
  /** Tokens that the node made and the coordinator never saw. */
  readonly unseen?: number;
  readonly ending?: AttemptEnding;
  readonly choice?: number;
  /** Node and layers of each stage of a chain, in order; the last one is `node`. */
  readonly stages?: readonly (readonly [node: number, layers: number])[];
}

/** A request of 100 prompt tokens whose nodes signed what they did; a lost node signed nothing. */
export function aSettleRequest(number: number, attempts: readonly SampleAttempt[]): SettleRequest {
  const choiceCount = Math.max(0, ...attempts.map((attempt) => (attempt.choice ?? 0) + 1));
  const request = {
    requestId: madeId("req", number),
    tenantId: aTenant(1).tenantId,
    keyId: anApiKey(1).keyId,
    model: aManifest("tiny"),
    tier: "default" as const,
    price: PRICE,
    requestSha256: digest(5),
    seedSha256: digest(6),
    promptTokens: 100,
    createdAtMs: 1_700_000_000_000,
  };
  return {
    ...request,
    choices: Array.from({ length: choiceCount }, (_, choice) => {
      const tokens = attempts.filter((one) => (one.choice ?? 0) === choice).flatMap((one) => one.tokens);
      return { outputTokens: tokens.length, outputSha256: tokensSha256(tokens, sha256), finishReason: "stop" as const };
    }),
    attempts: attempts.map((attempt, index) => attemptRecord({ number, index, attempt, request })),
  };
}

export function nodeKey(node: number): KeyPair {
  return crypto.keyPairFrom(new Uint8Array(32).fill(100 + node));
}

function attemptRecord(at: {
  number: number;
  index: number;
  attempt: SampleAttempt;
  request: Pick<SettleRequest, "requestId" | "model" | "requestSha256" | "tier">;
}): AttemptRecord {
  const { attempt, request } = at;
  const key = nodeKey(attempt.node);
  const place = at.number * 100 + at.index;
  const made = [...attempt.tokens, ...Array.from({ length: attempt.unseen ?? 0 }, () => 9)];
  const record = {
    attemptId: madeId("att", place),
    leaseId: madeId("lease", place),
    epoch: 2 ** 32 + place,
    nodeId: nodeIdOf(sha256(key.publicKey)),
    nodePublicKeyHex: toHex(key.publicKey),
    choice: attempt.choice ?? 0,
    acknowledgedTokens: attempt.tokens.length,
    ending: attempt.ending ?? "finished",
    detail: null,
    ...(attempt.stages === undefined
      ? {}
      : {
          stages: attempt.stages.map(([node, layers]) => ({
            nodeId: nodeIdOf(sha256(nodeKey(node).publicKey)),
            layers,
          })),
        }),
  };
  if (record.ending === "node-lost") return { ...record, statementJson: null, signatureHex: null };
  const statement: NodeStatement = {
    v: 1,
    kind: "fallow-attempt",
    gridId: GRID_ID,
    leaseId: record.leaseId,
    epoch: record.epoch,
    attemptId: record.attemptId,
    requestId: request.requestId,
    nodeId: record.nodeId,
    requestSha256: request.requestSha256,
    weightsSha256: request.model.weightsSha256,
    tier: request.tier,
    ...PRICE,
    promptTokens: 100,
    cachedTokens: 0,
    outputTokens: made.length,
    outputSha256: tokensSha256(made, sha256),
    numericClass: "llama-cpp/cpu/q8_0",
    startedAtMs: 1_700_000_000_000,
    endedAtMs: 1_700_000_001_000,
    energyMilliJoule: 1_234,
    energyMethod: "rapl",
    reason: "stop-token",
  };
  return {
    ...record,
    statementJson: canonicalSignedJson(statement),
    signatureHex: toHex(key.sign(statementBytes(statement))),
  };
}
