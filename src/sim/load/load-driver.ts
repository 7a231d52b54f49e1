/** Sends the drawn requests at their times to whichever coordinator is up, and keeps what is on its way. */
import type { ServedModel } from "../../coordinator/dispatch/served-models.ts";
import { assert } from "../../domain/assert.ts";
import type { GenerationRequest, RequestConstraints, RequestTerms } from "../../domain/generation.ts";
import {
  type KeyId,
  keyId,
  type RequestId,
  requestId,
  type Sha256Hex,
  sha256Hex,
  type TenantId,
  tenantId,
} from "../../domain/ids.ts";
import type { ModelManifest } from "../../domain/model.ts";
import { type MicroUsd, microUsd } from "../../domain/money.ts";
import { toHex } from "../../market/hex.ts";
import { holdAmount } from "../../market/hold.ts";
import { houseCredit } from "../../market/house.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { Store } from "../../ports/store.ts";
import { scriptedEmbedding } from "../engine/scripted-engine.ts";
import { scriptedAnswer } from "../engine/scripted-model.ts";
import type { RequestAsked, Witness } from "../observation.ts";
import type { ServingGrid, SimCoordinator } from "../sim-coordinator.ts";
import { SimIds } from "../sim-ids.ts";
import { EPOCH_WALL_MS, SimClock } from "../time/clock.ts";
import type { Host } from "../time/host.ts";
import type { SeededRandom } from "../time/random.ts";
import type { Timeline } from "../time/timeline.ts";
import { type ClientRequest, SimClient } from "./client.ts";
import { EmbeddingClient } from "./embedding-client.ts";
import type { EmbeddingDraw, LoadPlan, RequestDraw } from "./load.ts";

export interface LoadDriverOptions {
  readonly plan: LoadPlan;
  readonly random: SeededRandom;
  readonly timeline: Timeline;
  readonly host: Host;
  readonly coordinator: SimCoordinator;
  readonly models: readonly ServedModel[];
  readonly crypto: Crypto;
  readonly witness: Witness;
}

interface Buyer {
  readonly tenantId: TenantId;
  readonly keyId: KeyId;
  readonly budgetMicroUsd: MicroUsd | null;
}

/** Nodes may join with one token, whenever they are up, whatever the wall clocks say. */
const TOKEN_SECRET_BYTES = 32;
const TOKEN_YEARS_MS = 366 * 86_400_000;
const NO_RULES: RequestConstraints = { regions: null, trustMin: null, priceMicroUsdPerHourMax: null };

export class LoadDriver {
  readonly #options: LoadDriverOptions;
  readonly #buyers: Buyer[] = [];
  readonly #open = new Map<RequestId, SimClient | EmbeddingClient>();
  readonly #probes = new Set<RequestId>();
  #joinToken: string | null = null;
  #unsent = 0;
  #refusedConnections = 0;

  constructor(options: LoadDriverOptions) {
    this.#options = options;
    const { requests, embeddings, probes } = options.plan;
    this.#unsent = requests.length + embeddings.length + probes.length;
  }

  get joinToken(): string | null {
    return this.#joinToken;
  }

  /** Requests that met a coordinator which was down. */
  get refusedConnections(): number {
    return this.#refusedConnections;
  }

  isProbe(id: RequestId): boolean {
    return this.#probes.has(id);
  }

  isQuiet(): boolean {
    return this.#unsent === 0 && this.#open.size === 0;
  }

  /** Tenants with their money, and a token that lets nodes in: written before anything runs. */
  async found(store: Store): Promise<void> {
    const { plan, random, crypto, timeline, host } = this.#options;
    const ids = new SimIds(new SimClock(host), random.fork("ids"));
    for (const draw of plan.tenants) {
      const buyer: Buyer = {
        tenantId: tenantId(ids.make("ten")),
        keyId: keyId(ids.make("key")),
        budgetMicroUsd: draw.budgetMicroUsd === null ? null : microUsd(draw.budgetMicroUsd),
      };
      const createdAtMs = EPOCH_WALL_MS + timeline.nowMs;
      await store.tenants.create({ tenantId: buyer.tenantId, name: draw.name, createdAtMs, limits: null });
      await store.keys.create({
        ...buyer,
        secretSha256: sha256Hex(toHex(crypto.sha256(Buffer.from(buyer.keyId)))),
        secretHint: "sim",
        name: draw.name,
        scopes: ["inference"],
        requestsPerMinuteMax: null,
        tokensPerMinuteMax: null,
        models: null,
        monthlyBudgetMicroUsd: null,
        preferences: null,
        createdAtMs,
        expiresAtMs: null,
        revokedAtMs: null,
      });
      const amountMicroUsd = microUsd(draw.balanceMicroUsd);
      const credit = houseCredit({ ...buyer, creditId: "first", amountMicroUsd, atMs: createdAtMs });
      await store.ledger.apply([credit]);
      this.#buyers.push(buyer);
    }
    const gridTag = toHex(crypto.sha256(Buffer.from(this.#options.coordinator.gridId))).slice(0, 8);
    this.#joinToken = `${gridTag}-${toHex(random.fork("join-token").bytes(TOKEN_SECRET_BYTES))}`;
    await store.joinTokens.create({
      tokenSha256: sha256Hex(toHex(crypto.sha256(Buffer.from(this.#joinToken)))),
      usesMax: 1_000,
      usesLeft: 1_000,
      createdAtMs: EPOCH_WALL_MS,
      expiresAtMs: EPOCH_WALL_MS + TOKEN_YEARS_MS,
    });
  }

  start(): void {
    const { plan, timeline } = this.#options;
    for (const draw of [...plan.requests, ...plan.probes]) {
      timeline.at(draw.atMs, () => this.#arrive((grid) => this.#send(draw, grid)));
    }
    for (const draw of plan.embeddings) {
      timeline.at(draw.atMs, () => this.#arrive((grid) => this.#sendEmbedding(draw, grid)));
    }
  }

  /** The coordinator died: whoever waited sees the connection close. */
  cutOff(): void {
    for (const id of this.#open.keys()) {
      this.#options.witness({ kind: "outcome", requestId: id, outcome: { kind: "cut-off" } });
    }
    this.#open.clear();
  }

  #arrive(send: (grid: ServingGrid) => void): void {
    const { host } = this.#options;
    this.#unsent -= 1;
    if (host.state === "dead") {
      this.#refusedConnections += 1;
      return;
    }
    host.after(0, () => {
      const { grid } = this.#options.coordinator;
      if (grid === null) this.#refusedConnections += 1;
      else send(grid);
    });
  }

  #send(draw: RequestDraw, grid: ServingGrid): void {
    const request = this.#requestOf(draw, grid);
    if (this.#options.plan.probes.includes(draw)) this.#probes.add(request.asked.terms.requestId);
    const { crypto, witness } = this.#options;
    this.#carry(request.asked, new SimClient(request, { grid, crypto, witness }), draw.cancelAfterMs);
  }

  #sendEmbedding(draw: EmbeddingDraw, grid: ServingGrid): void {
    const { crypto, witness, coordinator } = this.#options;
    const { manifest, buyer, terms } = this.#termsOf({ ...draw, tier: "default", regions: null }, grid);
    const promptTokens = draw.inputs.reduce((sum, input) => sum + input.length, 0);
    const { price } = manifest;
    const asked: RequestAsked = {
      terms,
      choices: 1,
      promptTokens,
      tokensMax: 0,
      keyId: buyer.keyId,
      budgetMicroUsd: buyer.budgetMicroUsd,
      heldMicroUsd: holdAmount({ promptTokens, maxTokens: 0, choices: 1, price }),
      reference: [],
      vectors: draw.inputs.map(scriptedEmbedding),
    };
    const request = { asked, model: manifest, ...buyer, createdAtMs: coordinator.clock.wallMs() };
    const client = new EmbeddingClient(request, draw.inputs, { grid, crypto, witness });
    this.#carry(asked, client, draw.cancelAfterMs);
  }

  #carry(asked: RequestAsked, client: SimClient | EmbeddingClient, cancelAfterMs: number | null): void {
    const { host, witness } = this.#options;
    const { requestId: id } = asked.terms;
    witness({ kind: "asked", request: asked });
    this.#open.set(id, client);
    if (cancelAfterMs !== null) host.after(cancelAfterMs, () => this.#open.get(id)?.leave());
    void client.run().then(() => this.#open.delete(id));
  }

  #termsOf(
    draw: Pick<RequestDraw, "model" | "tenant" | "tier" | "deadlineMs" | "regions">,
    grid: ServingGrid,
  ): { readonly manifest: ModelManifest; readonly buyer: Buyer; readonly terms: RequestTerms } {
    const model = this.#options.models[draw.model];
    const buyer = this.#buyers.at(draw.tenant);
    assert(model !== undefined && buyer !== undefined, "a request has a model and somebody who pays");
    const { manifest } = model;
    const id = requestId(grid.ids.make("req"));
    const terms: RequestTerms = {
      requestId: id,
      tenantId: buyer.tenantId,
      requestSha256: this.#digest(`${id} body`),
      modelId: manifest.modelId,
      weightsSha256: manifest.weightsSha256,
      tier: draw.tier,
      price: manifest.price,
      deadlineMs: draw.deadlineMs,
      ...(draw.regions === null ? {} : { constraints: { ...NO_RULES, regions: draw.regions } }),
    };
    return { manifest, buyer, terms };
  }

  #digest(what: string): Sha256Hex {
    return sha256Hex(toHex(this.#options.crypto.sha256(Buffer.from(what))));
  }

  #requestOf(draw: RequestDraw, grid: ServingGrid): ClientRequest {
    const { manifest, buyer, terms } = this.#termsOf(draw, grid);
    const seed = this.#digest(`${terms.requestId} seed`);
    const generations = Array.from(
      { length: draw.choices },
      (_, choice): GenerationRequest => ({
        terms,
        choice,
        promptTokenIds: draw.promptTokenIds,
        tokensMax: draw.tokensMax,
        sampling: draw.sampling,
        seed,
        stopStrings: [],
        grammar: null,
        cacheScope: this.#digest(buyer.tenantId).slice(0, 32),
        ignoreStopTokens: false,
        topLogprobs: null,
      }),
    );
    const asked: RequestAsked = {
      terms,
      choices: draw.choices,
      promptTokens: draw.promptTokenIds.length,
      tokensMax: draw.tokensMax,
      keyId: buyer.keyId,
      budgetMicroUsd: buyer.budgetMicroUsd,
      heldMicroUsd: holdAmount({
        promptTokens: draw.promptTokenIds.length,
        maxTokens: draw.tokensMax,
        choices: draw.choices,
        price: manifest.price,
      }),
      reference: generations.map((generation) =>
        scriptedAnswer(
          { ...generation, tokenIds: generation.promptTokenIds, generatedCount: 0 },
          draw.tokensMax,
          manifest.layerCount,
        ),
      ),
      vectors: [],
    };
    return {
      draw,
      asked,
      model: manifest,
      ...buyer,
      generations,
      createdAtMs: this.#options.coordinator.clock.wallMs(),
    };
  }
}
