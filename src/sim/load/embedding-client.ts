/** An embedding request, carried out as the gateway carries it out: hold, one call to dispatch, settle for the prompt. */
import { FallowError } from "../../domain/fault.ts";
import type { ReceiptChoice } from "../../domain/receipt.ts";
import { tokensSha256 } from "../../market/receipt.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { RequestOutcome } from "../observation.ts";
import type { ClientPorts, ClientRequest } from "./client.ts";

export class EmbeddingClient {
  readonly #request: Omit<ClientRequest, "generations" | "draw">;
  readonly #inputs: readonly (readonly number[])[];
  readonly #ports: ClientPorts;
  readonly #gone = new AbortController();

  constructor(
    request: Omit<ClientRequest, "generations" | "draw">,
    inputs: readonly (readonly number[])[],
    ports: ClientPorts,
  ) {
    this.#request = request;
    this.#inputs = inputs;
    this.#ports = ports;
  }

  /** The client went away. */
  leave(): void {
    if (this.#gone.signal.aborted) return;
    this.#ports.witness({ kind: "left", requestId: this.#request.asked.terms.requestId });
    this.#gone.abort();
  }

  /** Never rejects but for a bug. */
  async run(): Promise<void> {
    const outcome = await this.#run();
    const { requestId } = this.#request.asked.terms;
    this.#ports.witness({ kind: "outcome", requestId, outcome });
  }

  async #run(): Promise<RequestOutcome> {
    const { asked, tenantId, keyId, budgetMicroUsd, createdAtMs } = this.#request;
    const { terms, heldMicroUsd: amountMicroUsd } = asked;
    const { requestId } = terms;
    const { grid, witness } = this.#ports;
    const hold = { requestId, tenantId, keyId, budgetMicroUsd, amountMicroUsd, atMs: createdAtMs };
    try {
      const held = await grid.settlement.hold(hold);
      if (!held.ok) return { kind: "refused", code: held.reason.code };
    } catch (fault) {
      if (!(fault instanceof FallowError)) throw fault;
      return { kind: "refused", code: "internal" };
    }
    if (this.#gone.signal.aborted) return await this.#void({ kind: "cancelled" });
    witness({ kind: "accepted", request: asked });
    const embedded = await grid.dispatcher.embed({ terms, inputs: this.#inputs }, this.#gone.signal);
    const isGone = this.#gone.signal.aborted;
    if (!isGone) witness({ kind: "embedded", requestId, vectors: embedded.ok ? embedded.vectors : null });
    if (isGone) return await this.#void({ kind: "cancelled" });
    if (!embedded.ok) return await this.#void({ kind: "refused", code: embedded.reason.code });
    return await this.#settle(embedded.attempts);
  }

  async #void(outcome: RequestOutcome): Promise<RequestOutcome> {
    await this.#ports.grid.settlement.voidHold(this.#request.asked.terms.requestId);
    return outcome;
  }

  async #settle(
    attempts: Parameters<ClientPorts["grid"]["settlement"]["settle"]>[0]["attempts"],
  ): Promise<RequestOutcome> {
    const { asked, tenantId, keyId, model, createdAtMs } = this.#request;
    const { requestId, requestSha256, tier, price } = asked.terms;
    const settled = {
      requestId,
      tenantId,
      keyId,
      model,
      tier,
      price,
      requestSha256,
      seedSha256: requestSha256,
      promptTokens: asked.promptTokens,
      choices: [nothingGenerated(this.#ports.crypto)],
      attempts,
      createdAtMs,
    };
    try {
      await this.#ports.grid.settlement.settle(settled);
      return { kind: "answered" };
    } catch (fault) {
      if (!(fault instanceof FallowError)) throw fault;
      return await this.#void({ kind: "refused", code: "internal" });
    }
  }
}

function nothingGenerated(crypto: Crypto): ReceiptChoice {
  return { outputTokens: 0, outputSha256: tokensSha256([], (data) => crypto.sha256(data)), finishReason: "stop" };
}
