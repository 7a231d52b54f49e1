/**
 * How fast the node is: measured, never declared. The reference load is the bundled tiny model with a fixed prompt, one sequence
 * at a time; its figures compare nodes with each other and say nothing of other models.
 *
 * Prefill is the time to the first token of a long prompt; decode is the rate of the tokens after it. The best of a few runs is
 * taken: anything else on the machine only ever makes a run slower, and the first one also warms the caches.
 */
import { assert } from "../../domain/assert.ts";
import { FallowError } from "../../domain/fault.ts";
import type { ReferenceSpeed } from "../../domain/hardware.ts";
import { sha256Hex } from "../../domain/ids.ts";
import { DEFAULT_SAMPLING } from "../../domain/sampling.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Engine, EngineHost, EngineLoadSpec, GenerateEvent } from "../../ports/engine.ts";
import type { SpeedRecord } from "../../ports/speed-record.ts";

const PROMPT_TOKENS = 384;
const DECODE_TOKENS = 64;
const RUNS = 3;
/** A machine that needs longer for 3 x 448 tokens of a tiny model is of no use to anybody. */
const RUN_MS_MAX = 60_000;
const SEED = sha256Hex("5eed".repeat(16));

export interface ReferenceSpeedPorts {
  readonly clock: Clock;
  readonly engines: EngineHost;
  readonly record: SpeedRecord;
}

/** The kept figure when engine, model and threads are the same, else a new measurement. Rejects as `EngineHost.load` does. */
export async function referenceSpeed(
  load: { spec: EngineLoadSpec; engineVersion: string; signal: AbortSignal },
  ports: ReferenceSpeedPorts,
): Promise<ReferenceSpeed> {
  const { spec, engineVersion, signal } = load;
  const key = [engineVersion, spec.weightsSha256.slice(0, 16), `${spec.threads}t`, `${spec.gpuLayers}gl`].join("/");
  const kept = await ports.record.load(key);
  if (kept !== null) return kept;
  const measured = await measureReferenceSpeed({ spec, signal }, ports);
  await ports.record.save(key, measured);
  return measured;
}

async function measureReferenceSpeed(
  load: { spec: EngineLoadSpec; signal: AbortSignal },
  { clock, engines }: ReferenceSpeedPorts,
): Promise<ReferenceSpeed> {
  const spec: EngineLoadSpec = { ...load.spec, contextTokens: PROMPT_TOKENS + DECODE_TOKENS + 1, sequencesMax: 1 };
  const engine = await engines.load(spec, { signal: load.signal });
  try {
    let best = { prefillTokPerSecond: 0, decodeTokPerSecond: 0 };
    for (let run = 0; run < RUNS; run++) {
      load.signal.throwIfAborted();
      const { prefillMs, decodeMs, decoded } = await timedRun(engine, clock, run);
      best = {
        prefillTokPerSecond: Math.max(best.prefillTokPerSecond, rate(PROMPT_TOKENS, prefillMs)),
        decodeTokPerSecond: Math.max(best.decodeTokPerSecond, rate(decoded, decodeMs)),
      };
    }
    return { ...best, measuredAtMs: Math.floor(clock.wallMs()) };
  } finally {
    await engine.close();
  }
}

/** Each run has a prompt of its own, so that no run finds its prefix in the cache. */
function timedRun(
  engine: Engine,
  clock: Clock,
  run: number,
): Promise<{ prefillMs: number; decodeMs: number; decoded: number }> {
  const { vocabSize } = engine.info;
  assert(vocabSize > 1, `an engine with a vocabulary of ${vocabSize} has tokens`);
  const tokenIds = Array.from({ length: PROMPT_TOKENS }, (_, at) => ((at + 1) * (2 * run + 7)) % vocabSize);
  const startMs = clock.monoMs();
  let first: { atMs: number; tokens: number } | null = null;
  let tokens = 0;
  return new Promise((resolve, reject) => {
    const deadline = clock.setTimer(RUN_MS_MAX, () => {
      sequence.abort();
      reject(new FallowError("engine-hung", `the reference load took more than ${RUN_MS_MAX} ms`));
    });
    const onEvent = (event: GenerateEvent) => {
      if (event.kind === "tokens") {
        tokens += event.tokens.length;
        first ??= { atMs: clock.monoMs(), tokens };
        return;
      }
      deadline.cancel();
      if (event.kind === "failed") reject(new FallowError(event.code, `the reference load failed: ${event.message}`));
      else if (first === null) reject(new FallowError("engine-crashed", "the reference load brought no token"));
      else
        resolve({
          prefillMs: first.atMs - startMs,
          decodeMs: clock.monoMs() - first.atMs,
          decoded: tokens - first.tokens,
        });
    };
    const sequence = engine.generate(
      {
        tokenIds,
        generatedCount: 0,
        tokensMax: DECODE_TOKENS,
        sampling: { ...DEFAULT_SAMPLING, temperature: 0 },
        seed: SEED,
        choice: 0,
        stopStrings: [],
        grammar: null,
        cacheScope: "reference",
        ignoreStopTokens: true,
        topLogprobs: null,
      },
      onEvent,
    );
  });
}

/** Tokens per second with one decimal; 0 when nothing was measured. */
function rate(tokens: number, ms: number): number {
  return ms <= 0 ? 0 : Math.round((tokens / ms) * 10_000) / 10;
}
