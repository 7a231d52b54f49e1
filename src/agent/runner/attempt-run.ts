/**
 * One attempt on this node: from its start order to its end, failure, cancel or the loss of the line. It ends exactly once.
 *
 * | event           | sent                                              |
 * | --------------- | ------------------------------------------------- |
 * | tokens          | a chunk, `seq` counting from 0                    |
 * | engine ends it  | `attempt.end` with the signed statement           |
 * | vectors         | `attempt.embedding`, then `attempt.end`           |
 * | cancel          | `attempt.end`, reason `cancelled`                 |
 * | engine fails    | `attempt.failed` with the engine's code           |
 * | deadline passes | `attempt.failed`, `deadline-exceeded`             |
 * | owner is back   | `attempt.failed`, `yield`                         |
 * | line is lost    | nothing: the lease is dead                        |
 *
 * Back-pressure: an attempt never holds more than `tokensMax` tokens of a few bytes each, so a slow line costs bounded memory
 * and needs no pause.
 */
import { FallowError } from "../../domain/fault.ts";
import { attemptId, leaseId, requestId, sha256Hex } from "../../domain/ids.ts";
import type { NodeStatement, StatementReason } from "../../domain/receipt.ts";
import type { SampledToken } from "../../domain/sampling.ts";
import { canonicalSignedJson } from "../../market/canonical-json.ts";
import { toBase64, toHex } from "../../market/hex.ts";
import { statementBytes, tokensSha256 } from "../../market/receipt.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { Engine, EngineSequence, GenerateEvent } from "../../ports/engine.ts";
import { LINK_FRAME_BYTES_MAX } from "../../ports/link.ts";
import { type AttemptStart, type Chunk, WIRE_BOUNDS } from "../../wire/agent-link.ts";
import { embeddingFrameBytes } from "../../wire/embedding-frame.ts";
import type { Line } from "../session.ts";
import type { ChunkFrames } from "./chunk-frames.ts";

export interface AttemptRunPorts {
  readonly clock: Clock;
  readonly crypto: Crypto;
  readonly line: Line;
  readonly frames: ChunkFrames;
  readonly engine: Engine;
  /** Called once, after the last message was sent. */
  onOver(): void;
}

export class AttemptRun {
  readonly order: AttemptStart;
  readonly #ports: AttemptRunPorts;
  readonly #startedAtMs: number;
  readonly #outputIds: number[] = [];
  readonly #abort = new AbortController();
  #sequence: EngineSequence | null = null;
  #deadline: Timer | null = null;
  #seq = 0;
  #cachedTokens = 0;
  #isOver = false;

  constructor(order: AttemptStart, ports: AttemptRunPorts) {
    this.order = order;
    this.#ports = ports;
    this.#startedAtMs = Math.floor(ports.clock.wallMs());
  }

  start(): void {
    const { work, deadlineMs } = this.order;
    this.#deadline = this.#ports.clock.setTimer(deadlineMs, () => {
      this.fail("deadline-exceeded", `not done within ${deadlineMs} ms, ${this.#outputIds.length} tokens came`);
    });
    if (work.kind === "embed") {
      void this.#embed(work.inputs);
      return;
    }
    const sequence = this.#ports.engine.generate({ ...work, seed: sha256Hex(work.seed) }, (event) => this.#take(event));
    if (this.#isOver) sequence.abort();
    else this.#sequence = sequence;
  }

  /** The coordinator wants no more. */
  cancel(): void {
    if (this.#isOver) return;
    this.#stopEngine();
    this.#end("cancelled");
  }

  /** Ends it here; the stream may go on elsewhere. */
  fail(code: string, message: string): void {
    if (this.#isOver) return;
    this.#stopEngine();
    this.#ports.frames.flush();
    const { leaseId: id, epoch } = this.order;
    const text = message.slice(0, WIRE_BOUNDS.textMax);
    this.#ports.line.send({ type: "attempt.failed", leaseId: id, epoch, code, message: text });
    this.#over();
  }

  /** The line is lost: stop without a word. */
  drop(): void {
    if (this.#isOver) return;
    this.#stopEngine();
    this.#over();
  }

  #take(event: GenerateEvent): void {
    if (this.#isOver) return;
    switch (event.kind) {
      case "tokens":
        this.#sendTokens(event.tokens);
        return;
      case "end":
        this.#cachedTokens = event.usage.cachedTokens;
        this.#end(event.reason);
        return;
      case "failed":
        this.fail(event.code, event.message);
    }
  }

  #sendTokens(tokens: readonly SampledToken[]): void {
    const { leaseId: id, epoch, work } = this.order;
    const hasDetails = work.kind === "generate" && work.topLogprobs !== null;
    for (let at = 0; at < tokens.length; at += WIRE_BOUNDS.tokensPerChunkMax) {
      const part = tokens.slice(at, at + WIRE_BOUNDS.tokensPerChunkMax);
      const tokenIds = part.map(({ tokenId }) => tokenId);
      this.#outputIds.push(...tokenIds);
      const details = hasDetails ? part.map(detailOf) : null;
      this.#ports.frames.add({ leaseId: id, epoch, seq: this.#seq, tokenIds, details });
      this.#seq += 1;
    }
  }

  async #embed(inputs: readonly (readonly number[])[]): Promise<void> {
    try {
      const vectors = await this.#ports.engine.embed(inputs, this.#abort.signal);
      if (this.#isOver) return;
      const embeddingLength = Math.max(0, ...vectors.map((vector) => vector.length));
      const frameBytes = embeddingFrameBytes({ count: vectors.length, embeddingLength });
      if (frameBytes > LINK_FRAME_BYTES_MAX) {
        return this.fail("invalid-attempt", `${frameBytes} bytes of vectors, a frame takes ${LINK_FRAME_BYTES_MAX}`);
      }
      const texts = vectors.map((vector) => toBase64(littleEndian(vector)));
      const { leaseId: id, epoch } = this.order;
      this.#ports.line.send({ type: "attempt.embedding", leaseId: id, epoch, vectors: texts });
      this.#end("embedded");
    } catch (thrown) {
      const fault = thrown instanceof FallowError ? thrown : new FallowError("engine-crashed", String(thrown));
      this.fail(fault.code, fault.message);
    }
  }

  #end(reason: StatementReason): void {
    const { line, frames } = this.#ports;
    const { leaseId: id, epoch } = this.order;
    const statement = this.#statement(reason);
    frames.flush();
    line.send({
      type: "attempt.end",
      leaseId: id,
      epoch,
      seq: this.#seq,
      reason,
      promptTokens: statement.promptTokens,
      cachedTokens: statement.cachedTokens,
      outputTokens: statement.outputTokens,
      statementJson: canonicalSignedJson(statement),
      signature: toHex(line.keyPair.sign(statementBytes(statement))),
    });
    this.#over();
  }

  #statement(reason: StatementReason): NodeStatement {
    const { order } = this;
    const { line, crypto, engine, clock } = this.#ports;
    const promptTokens = promptTokensOf(order);
    return {
      v: 1,
      kind: "fallow-attempt",
      gridId: line.gridId,
      leaseId: leaseId(order.leaseId),
      epoch: order.epoch,
      attemptId: attemptId(order.attemptId),
      requestId: requestId(order.terms.requestId),
      nodeId: line.nodeId,
      requestSha256: sha256Hex(order.terms.requestSha256),
      weightsSha256: sha256Hex(order.terms.weightsSha256),
      tier: order.terms.tier,
      inputMicroUsdPerMtok: order.terms.inputMicroUsdPerMtok,
      outputMicroUsdPerMtok: order.terms.outputMicroUsdPerMtok,
      promptTokens,
      cachedTokens: Math.min(this.#cachedTokens, promptTokens),
      outputTokens: this.#outputIds.length,
      outputSha256: tokensSha256(this.#outputIds, (data) => crypto.sha256(data)),
      numericClass: engine.info.numericClass,
      startedAtMs: this.#startedAtMs,
      endedAtMs: Math.floor(clock.wallMs()),
      energyMilliJoule: null,
      energyMethod: null,
      reason,
    };
  }

  #stopEngine(): void {
    this.#sequence?.abort();
    this.#abort.abort();
  }

  #over(): void {
    this.#isOver = true;
    this.#deadline?.cancel();
    this.#ports.onOver();
  }
}

function promptTokensOf({ work }: AttemptStart): number {
  if (work.kind === "generate") return work.tokenIds.length;
  return work.inputs.reduce((sum, input) => sum + input.length, 0);
}

/** A logprob of a certain token may come out a hair above zero. */
function detailOf(token: SampledToken): NonNullable<Chunk["details"]>[number] {
  return {
    tokenId: token.tokenId,
    logprob: token.logprob === null ? null : Math.min(0, token.logprob),
    top: token.top.map(({ tokenId, logprob }) => ({ tokenId, logprob: Math.min(0, logprob) })),
  };
}

function littleEndian(vector: Float32Array): Uint8Array {
  const bytes = new Uint8Array(vector.length * 4);
  const view = new DataView(bytes.buffer);
  for (const [at, value] of vector.entries()) view.setFloat32(at * 4, value, true);
  return bytes;
}
