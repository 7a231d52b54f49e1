/** From what the gateway asks to a piece of work, and back to what the gateway holds of it. */
import type {
  Cancellation,
  EmbeddingOutcome,
  EmbeddingRequest,
  Generation,
  GenerationEvent,
  GenerationRequest,
  OutlookQuestion,
} from "../../domain/generation.ts";
import { sha256Hex } from "../../domain/ids.ts";
import type { Refusal } from "../../domain/refusal.ts";
import { DEFAULT_SAMPLING } from "../../domain/sampling.ts";
import { EmbeddingWork } from "./embedding-work.ts";
import { GenerationWork } from "./generation-work.ts";
import type { ServedModel } from "./served-models.ts";
import type { Work } from "./work.ts";

export interface WorkDoor {
  readonly model: ServedModel | null;
  readonly nowMs: number;
  /** Called in a later turn of the microtasks: no event comes before the caller holds what it asked for. */
  admit(work: Work): void;
  finish(work: Work): Promise<ReturnType<Work["records"]>>;
}

export function acceptGeneration(
  request: GenerationRequest,
  onEvent: (event: GenerationEvent) => void,
  door: WorkDoor,
): Generation {
  const work = new GenerationWork(request, {
    nowMs: door.nowMs,
    vocabSize: door.model?.tokenizer.vocabSize ?? 0,
    stopTokenIds: door.model?.tokenizer.stopTokenIds ?? [],
    onEvent,
  });
  queueMicrotask(() => door.admit(work));
  return {
    attempts: () => work.records(),
    finish: (reason) => {
      work.finishReason ??= reason;
      return door.finish(work);
    },
  };
}

/** Of no request: what is asked about is what would become of one like it. */
const NO_SEED = sha256Hex("0".repeat(64));

/** A piece of work that nobody admits, to ask about. */
export function workInQuestion(question: OutlookQuestion, nowMs: number): Work {
  const { terms, promptTokens, tokensMax } = question;
  const request: GenerationRequest = {
    terms,
    choice: 0,
    promptTokenIds: new Array<number>(promptTokens).fill(0),
    tokensMax,
    sampling: DEFAULT_SAMPLING,
    seed: NO_SEED,
    stopStrings: [],
    grammar: null,
    cacheScope: "",
    ignoreStopTokens: false,
    topLogprobs: null,
  };
  return new GenerationWork(request, { nowMs, vocabSize: 0, stopTokenIds: [], onEvent: () => undefined });
}

export function acceptEmbedding(
  request: EmbeddingRequest,
  signal: Cancellation,
  door: WorkDoor,
): Promise<EmbeddingOutcome> {
  return new Promise((resolve) => {
    const work = new EmbeddingWork(request, {
      nowMs: door.nowMs,
      vocabSize: door.model?.tokenizer.vocabSize ?? 0,
      embeddingLength: door.model?.manifest.embeddingLength ?? 0,
      onOutcome: resolve,
    });
    let isCancelled = false;
    const cancel = async () => {
      if (isCancelled) return;
      isCancelled = true;
      const attempts = await door.finish(work);
      const reason: Refusal = { code: "cancelled", message: "the caller went away", param: null, retryAfterMs: null };
      resolve({ ok: false, reason, attempts });
    };
    signal.addEventListener("abort", () => void cancel());
    queueMicrotask(() => door.admit(work));
    if (signal.aborted) void cancel();
  });
}
