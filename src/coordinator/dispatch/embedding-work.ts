import type { EngineAbility } from "../../domain/attached-engine.ts";
import type { AttemptEnding } from "../../domain/attempt.ts";
import type { EmbeddingOutcome, EmbeddingRequest } from "../../domain/generation.ts";
import type { NodeId } from "../../domain/ids.ts";
import type { Refusal } from "../../domain/refusal.ts";
import { fromBase64 } from "../../market/hex.ts";
import type { AttemptStart } from "../../wire/agent-link.ts";
import { Work } from "./work.ts";

const EMBEDDINGS: readonly EngineAbility[] = ["embeddings"];

/** One embedding request: all vectors come in one message, so a retry starts over. */
export class EmbeddingWork extends Work {
  override readonly needsWhole = true;
  readonly #request: EmbeddingRequest;
  readonly #embeddingLength: number;
  readonly #onOutcome: (outcome: EmbeddingOutcome) => void;
  #vectors: readonly Float32Array[] | null = null;
  #nodeId: NodeId | null = null;

  constructor(
    request: EmbeddingRequest,
    start: {
      nowMs: number;
      vocabSize: number;
      embeddingLength: number;
      onOutcome: (outcome: EmbeddingOutcome) => void;
    },
  ) {
    super({ terms: request.terms, choice: 0, nowMs: start.nowMs, vocabSize: start.vocabSize });
    this.#request = request;
    this.#embeddingLength = start.embeddingLength;
    this.#onOutcome = start.onOutcome;
  }

  needs(): readonly EngineAbility[] {
    return EMBEDDINGS;
  }

  tokensNeeded(): number {
    return Math.max(...this.#request.inputs.map((input) => input.length));
  }

  promptTokens(): number {
    return this.#request.inputs.reduce((sum, input) => sum + input.length, 0);
  }

  prefix(): null {
    return null;
  }

  room(): number {
    return 0;
  }

  tokensLeft(): number {
    return 0;
  }

  wireWork(): AttemptStart["work"] {
    return { kind: "embed", inputs: this.#request.inputs.map((input) => [...input]) };
  }

  /** Null when the vectors are what was asked for, else what is wrong with them. */
  takeVectors(base64: readonly string[]): string | null {
    if (this.#vectors !== null) return "vectors came twice";
    const { inputs } = this.#request;
    if (base64.length !== inputs.length) return `${base64.length} vectors for ${inputs.length} inputs`;
    const vectors: Float32Array[] = [];
    for (const [index, text] of base64.entries()) {
      const vector = parseVector(text, this.#embeddingLength);
      if (vector === null) return `vector ${index} is not ${this.#embeddingLength} finite numbers`;
      vectors.push(vector);
    }
    this.#vectors = vectors;
    return null;
  }

  completion(): "embedded" | null {
    return this.#vectors === null ? null : "embedded";
  }

  endProblem(reason: string): string | null {
    if (reason !== "embedded") return `an embedding ended with ${reason}`;
    return this.#vectors === null ? "an embedding ended without its vectors" : null;
  }

  deliverStarted(nodeId: NodeId): void {
    this.#nodeId = nodeId;
    this.#vectors = null;
  }

  deliverTokens(): void {
    // Embeddings have no tokens: `tokensLeft` is 0, so every chunk is a breach before it comes here.
  }

  deliverEnd(): void {
    if (this.#vectors === null || this.#nodeId === null) return;
    this.#onOutcome({ ok: true, vectors: this.#vectors, attempts: this.records(), nodeId: this.#nodeId });
  }

  deliverFailure(reason: Refusal): void {
    this.#onOutcome({ ok: false, reason, attempts: this.records() });
  }

  finishEnding(): AttemptEnding {
    return "cancelled";
  }
}

function parseVector(text: string, length: number): Float32Array | null {
  const bytes = fromBase64(text);
  if (bytes === null || bytes.byteLength !== length * 4) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const vector = new Float32Array(length);
  for (let at = 0; at < length; at++) vector[at] = view.getFloat32(at * 4, true);
  return vector.every((value) => Number.isFinite(value)) ? vector : null;
}
