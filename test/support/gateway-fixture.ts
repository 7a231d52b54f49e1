/**
 * The gateway over a real SQLite store, the real settlement and the real tokenizer of the bundled model. Only dispatch is
 * scripted: a test decides when tokens come and how a generation ends. Time stands still until a test moves it.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Registry } from "prom-client";
import { SystemRandom } from "../../src/adapters/clock-system/system-random.ts";
import { NodeCrypto } from "../../src/adapters/crypto-node/node-crypto.ts";
import { openSqliteStore, type SqlStore } from "../../src/adapters/store-sql/sql-store.ts";
import { createGateway, type Gateway } from "../../src/coordinator/gateway/gateway.ts";
import { GATEWAY_DEFAULTS, type GatewayOptions } from "../../src/coordinator/gateway/gateway-options.ts";
import { type HoldRequest, Settlement, type SettlementPorts } from "../../src/coordinator/settlement/settlement.ts";
import type { AttemptEnding, AttemptRecord } from "../../src/domain/attempt.ts";
import type {
  EmbeddingOutcome,
  Generation,
  GenerationEvent,
  GenerationRequest,
  GridOutlook,
} from "../../src/domain/generation.ts";
import { sha256Hex } from "../../src/domain/ids.ts";
import type { ModelManifest } from "../../src/domain/model.ts";
import type { Outcome, Refusal } from "../../src/domain/refusal.ts";
import type { SampledToken, StopReason } from "../../src/domain/sampling.ts";
import { toHex } from "../../src/market/hex.ts";
import { TIER_FACTORS, tierPrice } from "../../src/market/tier-price.ts";
import type { Cloud } from "../../src/ports/cloud.ts";
import type { ApiKey } from "../../src/ports/store.ts";
import type { Tokenizer } from "../../src/ports/tokenizer.ts";
import { SimIds } from "../../src/sim/sim-ids.ts";
import { simLog } from "../../src/sim/sim-log.ts";
import { SimClock } from "../../src/sim/time/clock.ts";
import { Host } from "../../src/sim/time/host.ts";
import { SeededRandom } from "../../src/sim/time/random.ts";
import { Timeline } from "../../src/sim/time/timeline.ts";
import { aManifest, anApiKey, aTenant, credit, madeId, nodeIdOf } from "./store-samples.ts";

const TEMPLATE =
  "{% for m in messages %}{% if m.role == 'assistant' %}<|assistant|>{% else %}<|user|>{% endif %}{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
/** May use everything, for ever. */
const OPEN_KEY: Partial<ApiKey> = {
  scopes: ["inference", "usage"],
  requestsPerMinuteMax: null,
  tokensPerMinuteMax: null,
  budgetMicroUsd: null,
  models: null,
  expiresAtMs: null,
  revokedAtMs: null,
};
const BALANCE_MICRO_USD = 10_000_000;

/** One generation that dispatch was asked for, in the test's hands. */
export class ScriptedGeneration implements Generation {
  readonly request: GenerationRequest;
  readonly #onEvent: (event: GenerationEvent) => void;
  readonly #number: number;
  tokens = 0;
  ending: AttemptEnding | null = null;
  /** Why the gateway ended it; null while it did not. */
  finishedBy: "cancelled" | "stop-string" | null = null;

  constructor(request: GenerationRequest, onEvent: (event: GenerationEvent) => void, number: number) {
    this.request = request;
    this.#onEvent = onEvent;
    this.#number = number;
  }

  start(): void {
    this.#onEvent({ kind: "started", nodeId: nodeIdOf(this.#number), queuedMs: 0 });
  }

  /** It lost its node. */
  wait(): void {
    if (this.finishedBy === null) this.#onEvent({ kind: "waiting" });
  }

  send(tokenIds: readonly number[], more: Partial<SampledToken> = {}): void {
    if (this.finishedBy !== null) return;
    this.tokens += tokenIds.length;
    this.#onEvent({
      kind: "tokens",
      tokens: tokenIds.map((tokenId) => ({ tokenId, logprob: null, top: [], ...more })),
    });
  }

  end(reason: StopReason): void {
    this.ending = "finished";
    if (this.finishedBy === null) this.#onEvent({ kind: "end", reason });
  }

  fail(reason: Refusal): void {
    this.ending = "node-lost";
    this.#onEvent({ kind: "failed", reason });
  }

  finish(reason: "cancelled" | "stop-string"): Promise<readonly AttemptRecord[]> {
    if (this.ending === null) this.finishedBy ??= reason;
    return Promise.resolve(this.attempts());
  }

  attempts(): readonly AttemptRecord[] {
    return [
      {
        attemptId: madeId("att", this.#number),
        leaseId: madeId("lease", this.#number),
        epoch: 1,
        nodeId: nodeIdOf(this.#number),
        nodePublicKeyHex: "00".repeat(32),
        choice: this.request.choice,
        acknowledgedTokens: this.tokens,
        ending: this.ending ?? (this.finishedBy === "stop-string" ? "finished" : "cancelled"),
        detail: null,
        statementJson: null,
        signatureHex: null,
      },
    ];
  }
}

export interface Answered {
  readonly response: Response;
  readonly body: string;
}

export class GatewayFixture {
  readonly timeline = new Timeline();
  readonly clock: SimClock;
  readonly store: SqlStore;
  readonly settlement: Settlement;
  readonly settlementPorts: Omit<SettlementPorts, "store">;
  readonly gateway: Gateway;
  readonly registry = new Registry();
  readonly manifest: ModelManifest;
  readonly tokenizer: Tokenizer;
  readonly secret = "fal_test-secret-of-a-tenant";
  readonly generations: ScriptedGeneration[] = [];
  readonly logged: string[] = [];
  readyReplicas = 1;
  /** What dispatch says of a request that is asked about. */
  outlook: GridOutlook = { refusal: null, waitMs: 0, firstTokenMs: 0, readyReplicas: 1, regions: [] };
  /** How often the gateway ended a client's connection. */
  connectionsCut = 0;
  /** What happens to a new generation; by default nothing until the test acts. */
  onGenerate: (generation: ScriptedGeneration) => void = () => undefined;
  onEmbed: (inputs: readonly (readonly number[])[]) => EmbeddingOutcome = () => {
    throw new Error("the test expects no embedding");
  };
  /** How long a hold takes, and whether the store takes it, is the test's to say. */
  onHold: (request: HoldRequest) => Promise<Outcome<void>> = (request) => this.settlement.hold(request);
  readonly #crypto = new NodeCrypto();
  readonly #directory: string;
  #waiting: (() => void)[] = [];

  private constructor(parts: {
    store: SqlStore;
    tokenizer: Tokenizer;
    directory: string;
    options: Partial<GatewayOptions>;
    cloud: ((store: SqlStore) => Cloud) | null;
  }) {
    this.store = parts.store;
    this.tokenizer = parts.tokenizer;
    this.#directory = parts.directory;
    this.clock = new SimClock(new Host("coordinator", this.timeline));
    const ids = new SimIds(this.clock, new SeededRandom("gateway"));
    const log = simLog((line) => this.logged.push(`${line.level} ${line.event} ${JSON.stringify(line.fields)}`));
    const { store, clock } = this;
    const crypto = this.#crypto;
    const keyPair = crypto.keyPairFrom(new Uint8Array(32).fill(7));
    this.settlementPorts = { clock, crypto, ids, log, keyPair };
    this.settlement = new Settlement({ gridId: "grid-1" }, { ...this.settlementPorts, store });
    this.manifest = {
      ...aManifest("tiny"),
      vocabSize: parts.tokenizer.vocabSize,
      contextTokensMax: 1024,
      chatTemplate: TEMPLATE,
      embeddingLength: 4,
      price: { inputMicroUsdPerMtok: 1_000_000, outputMicroUsdPerMtok: 2_000_000 },
    };
    this.gateway = createGateway(
      { ...GATEWAY_DEFAULTS, version: "0.0.0", seedSecret: new Uint8Array(32).fill(9), ...parts.options },
      {
        dispatch: {
          generate: (request, onEvent) => this.#generate(request, onEvent),
          embed: ({ inputs }) => Promise.resolve(this.onEmbed(inputs)),
          outlook: () => this.outlook,
        },
        settlement: {
          hold: (request) => this.onHold(request),
          settle: (request) => this.settlement.settle(request),
          budgetLeft: (who, caps) => this.settlement.budgetLeft(who, caps),
          voidHold: (requestId) => this.settlement.voidHold(requestId),
          signedReceipt: (receiptId) => this.settlement.signedReceipt(receiptId),
          publicKeyHex: this.settlement.publicKeyHex,
          checkpoint: () => this.settlement.checkpoint(),
        },
        nodes: {
          label: (nodeId) => (nodeId === nodeIdOf(1) ? { nodeClass: "nvidia-l4", region: "eu" } : null),
          places: () => [],
        },
        models: {
          list: () => [this.manifest],
          get: (id) => (id === "tiny" ? { manifest: this.manifest, tokenizer: this.tokenizer } : null),
          readyReplicas: () => this.readyReplicas,
          numericClass: () => "llama/cpu/Q8_0",
          priceOf: (manifest, tier) => tierPrice(manifest.price, TIER_FACTORS[tier]),
        },
        store,
        clock,
        crypto,
        random: new SystemRandom(),
        ids,
        log,
        registry: this.registry,
        ...(parts.cloud === null ? {} : { cloud: parts.cloud(store) }),
      },
    );
  }

  /** `cloud`: of the fixture's own store; without it there is none. */
  static async open(
    tokenizer: Tokenizer,
    options: Partial<GatewayOptions> = {},
    cloud: ((store: SqlStore) => Cloud) | null = null,
    openStore: ((directory: string) => Promise<SqlStore>) | null = null,
  ): Promise<GatewayFixture> {
    const directory = mkdtempSync(join(tmpdir(), "fallow-gateway-"));
    const store = await (openStore?.(directory) ?? openSqliteStore({ path: join(directory, "grid.sqlite"), nowMs: 0 }));
    const fixture = new GatewayFixture({ store, tokenizer, directory, options, cloud });
    await store.tenants.create(aTenant(1));
    await store.ledger.apply([credit(aTenant(1).tenantId, BALANCE_MICRO_USD)]);
    await fixture.addKey(1, fixture.secret);
    await fixture.settlement.start();
    return fixture;
  }

  async close(): Promise<void> {
    this.settlement.stop();
    await this.store.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async addKey(number: number, secret: string, fields: Partial<ApiKey> = {}): Promise<ApiKey> {
    const secretSha256 = sha256Hex(toHex(this.#crypto.sha256(new TextEncoder().encode(secret))));
    const key = anApiKey(number, { ...OPEN_KEY, ...fields, secretSha256 });
    await this.store.keys.create(key);
    return key;
  }

  /** A body that is no string goes as JSON. */
  request(
    path: string,
    body?: unknown,
    init: { headers?: Record<string, string>; signal?: AbortSignal; method?: string } = {},
  ): Promise<Response> {
    const headers = { authorization: `Bearer ${this.secret}`, "content-type": "application/json", ...init.headers };
    const payload =
      body === undefined || typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body);
    const request = new Request(`http://grid.test${path}`, {
      method: init.method ?? (body === undefined ? "GET" : "POST"),
      headers,
      ...(payload === undefined ? {} : { body: payload }),
      ...(init.signal === undefined ? {} : { signal: init.signal }),
    });
    return this.gateway.fetch(request, {
      remoteAddress: "203.0.113.9",
      cut: () => {
        this.connectionsCut += 1;
      },
    });
  }

  chat(fields: object = {}, init: Parameters<GatewayFixture["request"]>[2] = {}): Promise<Response> {
    return this.request(
      "/v1/chat/completions",
      { model: "tiny", messages: [{ role: "user", content: "Hello" }], ...fields },
      init,
    );
  }

  /** Resolves when dispatch was asked for so many generations in all. */
  async asked(count: number): Promise<readonly ScriptedGeneration[]> {
    while (this.generations.length < count) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return this.generations.slice(0, count);
  }

  /** Token ids of a text, as content. */
  async ids(text: string): Promise<readonly number[]> {
    return await this.tokenizer.tokenize([{ text, special: false }], { addBos: false });
  }

  /** Lets timers up to then fire. */
  pass(ms: number): Promise<void> {
    return this.timeline.run(this.timeline.nowMs + ms, () => true);
  }

  async balance(): Promise<{ available: number; held: number }> {
    const account = await this.store.ledger.account(credit(aTenant(1).tenantId, 1).creditAccountId);
    if (account === null) throw new Error("the tenant has an account");
    return {
      available: account.creditsPosted - account.debitsPosted - account.debitsPending,
      held: account.debitsPending,
    };
  }

  async spent(): Promise<number> {
    const { available, held } = await this.balance();
    return BALANCE_MICRO_USD - available - held;
  }

  #generate(request: GenerationRequest, onEvent: (event: GenerationEvent) => void): Generation {
    const generation = new ScriptedGeneration(request, onEvent, this.generations.length + 1);
    this.generations.push(generation);
    // Dispatch never calls back before it has returned.
    queueMicrotask(() => this.onGenerate(generation));
    for (const resolve of this.#waiting) resolve();
    this.#waiting = [];
    return generation;
  }
}

/** Answers every generation with this text, token by token, and a stop token. */
export function answering(fixture: GatewayFixture, text: string): (generation: ScriptedGeneration) => void {
  return (generation) => {
    void fixture.ids(text).then((ids) => {
      generation.start();
      for (const id of ids) generation.send([id]);
      generation.send([fixture.tokenizer.stopTokenIds[0] ?? 0]);
      generation.end("stop-token");
    });
  };
}

export interface ServerEvent {
  readonly choices: readonly {
    index: number;
    delta: Record<string, unknown>;
    finish_reason: string | null;
    text?: string;
    logprobs?: { content: { bytes: number[] }[] } | null;
  }[];
  readonly usage?: { readonly prompt_tokens: number; readonly completion_tokens: number } | null;
  readonly error?: { readonly message: string; readonly code: string };
}

/** Events of a stream in order; `isDone` when it ended with `[DONE]`. */
export function eventsOf(body: string): { readonly events: readonly ServerEvent[]; readonly isDone: boolean } {
  const data = body
    .split("\n\n")
    .flatMap((block) => block.split("\n"))
    .filter((line) => line.startsWith("data: "))
    .map((line) => line.slice("data: ".length));
  const isDone = data.at(-1) === "[DONE]";
  return { events: data.filter((line) => line !== "[DONE]").map((line): ServerEvent => JSON.parse(line)), isDone };
}
