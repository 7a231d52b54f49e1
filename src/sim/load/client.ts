/**
 * One tenant's request, carried out as the gateway carries it out: hold, generate each choice, settle what was delivered.
 * HTTP is left out; its streams bring event sources of their own.
 *
 * It runs inside the coordinator's process: when that dies, nothing of this goes on, and the world tells the outcome.
 */
import { assert } from "../../domain/assert.ts";
import type { AttemptRecord } from "../../domain/attempt.ts";
import { FallowError } from "../../domain/fault.ts";
import type { Generation, GenerationEvent, GenerationRequest } from "../../domain/generation.ts";
import type { KeyId, TenantId } from "../../domain/ids.ts";
import type { ModelManifest } from "../../domain/model.ts";
import type { MicroUsd } from "../../domain/money.ts";
import type { ReceiptChoice, ReceiptFinish } from "../../domain/receipt.ts";
import type { StopReason } from "../../domain/sampling.ts";
import { tokensSha256 } from "../../market/receipt.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { RequestAsked, RequestOutcome, Witness } from "../observation.ts";
import type { ServingGrid } from "../sim-coordinator.ts";
import type { RequestDraw } from "./load.ts";

export interface ClientRequest {
  readonly draw: RequestDraw;
  readonly asked: RequestAsked;
  readonly model: ModelManifest;
  readonly tenantId: TenantId;
  readonly keyId: KeyId;
  readonly budgetMicroUsd: MicroUsd | null;
  readonly generations: readonly GenerationRequest[];
  readonly createdAtMs: number;
}

export interface ClientPorts {
  readonly grid: ServingGrid;
  readonly crypto: Crypto;
  readonly witness: Witness;
}

interface Choice {
  readonly tokenIds: number[];
  finish: ReceiptFinish | null;
  failure: string | null;
}

export class SimClient {
  readonly #request: ClientRequest;
  readonly #ports: ClientPorts;
  readonly #choices: readonly Choice[];
  readonly #generations: Generation[] = [];
  #isGone = false;
  /** Every stream has its end: too late to leave. */
  #isOver = false;
  #goAway: () => void = () => undefined;

  constructor(request: ClientRequest, ports: ClientPorts) {
    this.#request = request;
    this.#ports = ports;
    this.#choices = request.generations.map(() => ({ tokenIds: [], finish: null, failure: null }));
  }

  /** Never rejects but for a bug. */
  async run(): Promise<void> {
    const { asked } = this.#request;
    const { requestId } = asked.terms;
    const end = (outcome: RequestOutcome) => this.#ports.witness({ kind: "outcome", requestId, outcome });
    const refused = await this.#hold();
    if (refused !== null) return end({ kind: "refused", code: refused });
    if (this.#isGone) {
      await this.#ports.grid.settlement.voidHold(requestId);
      return end({ kind: "cancelled" });
    }
    this.#ports.witness({ kind: "accepted", request: asked });
    await this.#generate();
    this.#isOver = true;
    const attempts = await Promise.all(
      this.#generations.map((generation, choice) =>
        this.#isGone && this.#choices[choice]?.finish === null ? generation.finish("cancelled") : generation.attempts(),
      ),
    );
    if (!(await this.#settle(attempts.flat()))) return end({ kind: "refused", code: "internal" });
    const failure = this.#choices.find((choice) => choice.failure !== null)?.failure;
    if (failure !== undefined && failure !== null) return end({ kind: "refused", code: failure });
    end({ kind: this.#isGone ? "cancelled" : "answered" });
  }

  /** The client went away. */
  leave(): void {
    if (this.#isGone || this.#isOver) return;
    this.#isGone = true;
    this.#ports.witness({ kind: "left", requestId: this.#request.asked.terms.requestId });
    this.#goAway();
  }

  async #hold(): Promise<string | null> {
    const { asked, tenantId, keyId, budgetMicroUsd, createdAtMs } = this.#request;
    try {
      const held = await this.#ports.grid.settlement.hold({
        requestId: asked.terms.requestId,
        tenantId,
        keyId,
        budgetMicroUsd,
        amountMicroUsd: asked.heldMicroUsd,
        atMs: createdAtMs,
      });
      return held.ok ? null : held.reason.code;
    } catch (fault) {
      if (!(fault instanceof FallowError)) throw fault;
      return "internal"; // settlement itself gives back what the store may have taken
    }
  }

  async #generate(): Promise<void> {
    const { dispatch } = this.#ports.grid;
    await new Promise<void>((resolve) => {
      this.#goAway = resolve;
      let open = this.#choices.length;
      for (const [at, generation] of this.#request.generations.entries()) {
        const onEvent = (event: GenerationEvent) => {
          this.#take(at, event);
          const choice = this.#choices[at];
          assert(choice !== undefined, "every generation has its choice");
          if (choice.finish === null || (event.kind !== "end" && event.kind !== "failed")) return;
          open -= 1;
          if (open === 0) resolve();
        };
        this.#generations.push(dispatch.generate(generation, onEvent));
      }
      if (this.#isGone) resolve();
    });
  }

  #take(at: number, event: GenerationEvent): void {
    const { asked, draw, generations } = this.#request;
    const choice = this.#choices[at];
    const generation = generations[at];
    assert(choice !== undefined && generation !== undefined, "every generation has its choice");
    const { requestId } = asked.terms;
    this.#ports.witness({ kind: "generation", requestId, choice: generation.choice, event });
    switch (event.kind) {
      case "tokens": {
        for (const { tokenId } of event.tokens) choice.tokenIds.push(tokenId);
        const delivered = this.#choices.reduce((sum, one) => sum + one.tokenIds.length, 0);
        if (draw.cancelAfterTokens !== null && delivered >= draw.cancelAfterTokens) this.leave();
        break;
      }
      case "end":
        choice.finish = finishOf(event.reason);
        break;
      case "failed":
        choice.finish = "error";
        choice.failure = event.reason.code;
        break;
      case "started":
      case "waiting":
        break;
    }
  }

  /** False when it could not be settled: then nothing is charged. */
  async #settle(attempts: readonly AttemptRecord[]): Promise<boolean> {
    const { asked, tenantId, keyId, model, createdAtMs, generations } = this.#request;
    const { settlement } = this.#ports.grid;
    const { requestId, requestSha256, tier, price } = asked.terms;
    const first = generations[0];
    assert(first !== undefined, "a request has a choice");
    if (this.#choices.every((choice) => choice.tokenIds.length === 0)) {
      await settlement.voidHold(requestId);
      return true;
    }
    const request = {
      requestId,
      tenantId,
      keyId,
      model,
      tier,
      price,
      requestSha256,
      seedSha256: first.seed,
      promptTokens: asked.promptTokens,
      choices: this.#choices.map((choice) => this.#receiptChoice(choice)),
      attempts,
      createdAtMs,
    };
    try {
      await settlement.settle(request);
      return true;
    } catch (fault) {
      if (!(fault instanceof FallowError)) throw fault;
      await settlement.voidHold(requestId);
      return false;
    }
  }

  #receiptChoice(choice: Choice): ReceiptChoice {
    return {
      outputTokens: choice.tokenIds.length,
      outputSha256: tokensSha256(choice.tokenIds, (data) => this.#ports.crypto.sha256(data)),
      finishReason: choice.finish ?? "cancelled",
    };
  }
}

function finishOf(reason: StopReason): ReceiptFinish {
  return reason === "length" ? "length" : "stop";
}
