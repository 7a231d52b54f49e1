/**
 * The last stage as an engine: an attempt runs on it as on a whole model (`AttemptRun`), but the tokens of its prompt come as hidden states from the stage
 * before, and each token that is drawn goes to the first stage besides, in the same turn.
 */

import type { SequenceId } from "../../domain/chain.ts";
import { FallowError } from "../../domain/fault.ts";
import type { Engine, EngineFailure, EngineInfo, GenerateEvent, GenerateTask } from "../../ports/engine.ts";
import type { StageEngine, StageEvent } from "../../ports/stage-engine.ts";
import type { StageFrame } from "../../wire/stage-frames.ts";

export type TokensEntry = Extract<StageFrame, { type: "tokens" }>["entries"][number];

export interface TailPorts {
  engine(): StageEngine | null;
  /** Names a lease; false when a newer one of the sequence runs. */
  begin(sequence: SequenceId, lease: { readonly leaseEpoch: number; readonly promptLength: number }): boolean;
  /** Passes that draw may go ahead. */
  admit(sequence: SequenceId): void;
  /** It runs no more. */
  release(sequence: SequenceId): void;
  /** Takes a slot from what has no attempt; false when there is none. */
  makeRoom(): boolean;
}

interface TailRun {
  readonly leaseEpoch: number;
  readonly onEvent: (event: GenerateEvent) => void;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  outputTokens: number;
}

export class TailDesk {
  readonly #ports: TailPorts;
  readonly #runs = new Map<SequenceId, TailRun>();

  constructor(ports: TailPorts) {
    this.#ports = ports;
  }

  get running(): number {
    return this.#runs.size;
  }

  /** Positions whose tokens its attempt knows, those that were drawn included; 0 without one. */
  known(sequence: SequenceId): number {
    const run = this.#runs.get(sequence);
    return run === undefined ? 0 : run.promptTokens + run.outputTokens;
  }

  mayDraw(sequence: SequenceId, leaseEpoch: number): boolean {
    return this.#runs.get(sequence)?.leaseEpoch === leaseEpoch;
  }

  /** What one attempt sees. */
  engineFor(stage: StageEngine, attempt: { readonly sequence: SequenceId; readonly leaseEpoch: number }): Engine {
    return {
      info: infoOf(stage),
      generate: (task, onEvent) => {
        this.#generate(stage, { ...attempt, task, onEvent });
        return { abort: () => this.#abort(attempt) };
      },
      embed: () =>
        Promise.reject(
          new FallowError("embeddings-unsupported", "a chain of stages gives no embeddings: ask a whole model"),
        ),
      exportState: () => Promise.resolve(null),
      importState: () => Promise.resolve(false),
      stats: () => ({
        sequencesRunning: this.#runs.size,
        sequencesQueued: 0,
        tokensGenerated: 0,
        promptTokensDecoded: stage.stats().positionsDecoded,
        promptTokensCached: 0,
        memoryBytes: stage.stats().memoryBytes,
      }),
      close: () => stage.close(),
      exited: stage.exited,
    };
  }

  /**
   * What goes to the first stage. The attempts hear of it by `tell`, which is called once that is on its way.
   */
  take(
    event: Extract<StageEvent, { kind: "tokens" | "end" }>,
    leaseEpoch: number | null,
  ): { readonly entry: TokensEntry; tell(): void } | null {
    const { sequence } = event;
    const run = this.#runs.get(sequence);
    if (run === undefined || (leaseEpoch !== null && run.leaseEpoch !== leaseEpoch)) return null;
    const tokens = event.kind === "tokens" ? event.tokens : [];
    const end = event.kind === "tokens" ? event.end : event.reason;
    const position = event.kind === "tokens" ? event.position : 0;
    const tokenIds = tokens.map(({ tokenId }) => tokenId);
    run.outputTokens += tokens.length;
    const { onEvent, promptTokens, cachedTokens, outputTokens } = run;
    const tell = () => {
      if (tokens.length > 0) onEvent({ kind: "tokens", tokens });
      if (end === null || this.#runs.get(sequence) !== run) return;
      this.#runs.delete(sequence);
      this.#ports.release(sequence);
      onEvent({ kind: "end", reason: end, usage: { promptTokens, cachedTokens, outputTokens } });
    };
    return { entry: { sequence, leaseEpoch: run.leaseEpoch, position, tokenIds, end }, tell };
  }

  /** The stream may go on elsewhere. */
  fail(sequence: SequenceId, code: EngineFailure, message: string): void {
    const run = this.#runs.get(sequence);
    if (run === undefined) return;
    this.#runs.delete(sequence);
    this.#ports.release(sequence);
    run.onEvent({ kind: "failed", code, message });
  }

  failAll(code: EngineFailure, message: string): void {
    for (const sequence of [...this.#runs.keys()]) this.fail(sequence, code, message);
  }

  #generate(
    stage: StageEngine,
    run: {
      readonly sequence: SequenceId;
      readonly leaseEpoch: number;
      readonly task: GenerateTask;
      readonly onEvent: (event: GenerateEvent) => void;
    },
  ): void {
    const { sequence, leaseEpoch, task, onEvent } = run;
    const promptLength = task.tokenIds.length - task.generatedCount;
    const held = Math.min(stage.held(sequence), Math.max(0, promptLength - 1));
    const problem = this.#problem(stage, { sequence, leaseEpoch, promptLength });
    if (problem !== null) {
      onEvent({ kind: "failed", ...problem });
      return;
    }
    const promptTokens = task.tokenIds.length;
    this.#runs.set(sequence, { leaseEpoch, onEvent, promptTokens, cachedTokens: held, outputTokens: 0 });
    stage.setSampling(sequence, task);
    this.#ports.admit(sequence);
  }

  /** Why an attempt cannot begin; null when its sequence has a slot and a lease. */
  #problem(
    stage: StageEngine,
    {
      sequence,
      ...lease
    }: { readonly sequence: SequenceId; readonly leaseEpoch: number; readonly promptLength: number },
  ): { readonly code: EngineFailure; readonly message: string } | null {
    if (this.#ports.engine() !== stage) return { code: "engine-closed", message: "the stage's engine is gone" };
    if (!this.#ports.begin(sequence, lease)) {
      return { code: "engine-closed", message: `a newer lease of ${sequence} runs` };
    }
    if (stage.open(sequence) || (this.#ports.makeRoom() && stage.open(sequence))) return null;
    return { code: "engine-overloaded", message: `no slot for one of ${stage.info.sequencesMax} sequences` };
  }

  #abort({ sequence, leaseEpoch }: { readonly sequence: SequenceId; readonly leaseEpoch: number }): void {
    if (this.#runs.get(sequence)?.leaseEpoch !== leaseEpoch) return;
    this.#runs.delete(sequence);
    this.#ports.release(sequence);
  }
}

function infoOf({ info }: StageEngine): EngineInfo {
  const { libraryVersion, variant, numericClass, vocabSize, embeddingLength } = info;
  const { contextTokens, sequencesMax, layersOffloaded, processId } = info;
  return {
    libraryVersion,
    variant,
    numericClass,
    vocabSize,
    embeddingLength,
    contextTokens,
    sequencesMax,
    layersOffloaded,
    processId,
  };
}
