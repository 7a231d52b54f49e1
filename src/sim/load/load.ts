/**
 * What tenants ask in a run, drawn from its seed before it starts: models, accounts with much or little money, and requests
 * with a time, a size and a patience. Who carries it out is client.ts.
 */
import type { SamplingOptions } from "../../domain/sampling.ts";
import { DEFAULT_SAMPLING } from "../../domain/sampling.ts";
import { SERVICE_TIERS, type ServiceTier } from "../../domain/tier.ts";
import type { SeededRandom } from "../time/random.ts";

export interface ModelDraw {
  readonly name: string;
  readonly warmReplicas: number;
  readonly fileBytes: number;
  /** One where it is not told: such a model is never split. */
  readonly layerCount?: number;
  readonly kvBytesPerToken: number;
  readonly inputMicroUsdPerMtok: number;
  readonly outputMicroUsdPerMtok: number;
}

export interface TenantDraw {
  readonly name: string;
  readonly balanceMicroUsd: number;
  /** What the tenant's key may spend in all; null without such a bound. */
  readonly budgetMicroUsd: number | null;
}

export interface RequestDraw {
  readonly atMs: number;
  readonly model: number;
  readonly tenant: number;
  readonly promptTokenIds: readonly number[];
  readonly tokensMax: number;
  readonly choices: number;
  readonly tier: ServiceTier;
  readonly sampling: SamplingOptions;
  readonly deadlineMs: number;
  /** The client goes away once it got so many tokens, over all choices; null when it stays. */
  readonly cancelAfterTokens: number | null;
  /** Or when so much time passed. */
  readonly cancelAfterMs: number | null;
  /** Where it may run; null: anywhere. */
  readonly regions: readonly string[] | null;
}

export interface EmbeddingDraw {
  readonly atMs: number;
  readonly model: number;
  readonly tenant: number;
  readonly inputs: readonly (readonly number[])[];
  readonly deadlineMs: number;
  readonly cancelAfterMs: number | null;
}

export interface LoadPlan {
  readonly models: readonly ModelDraw[];
  readonly tenants: readonly TenantDraw[];
  /** By time. */
  readonly requests: readonly RequestDraw[];
  /** By time. */
  readonly embeddings: readonly EmbeddingDraw[];
  /** Asked when faults are long over, one of each model: these have to be answered. */
  readonly probes: readonly RequestDraw[];
}

/** A request of a measured trace; `gap` is the time since the one before, in any unit. */
export interface LoadTraceRow {
  readonly gap: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
}
/** At least one row. */
export type LoadTrace = readonly LoadTraceRow[];

/** The Azure conversations' means of 1,243 and 217 tokens become 26 and 14. */
const TRACE_PROMPT_DIVISOR = 48;
const TRACE_OUTPUT_DIVISOR = 16;
const TRACE_TOKENS_MAX = 60;

export const MODELS_MAX = 3;
export const REQUESTS_MAX = 60;
/** Patience of the clients, and so the longest that a request may stay without an answer. */
export const DEADLINE_MAX_MS = 20_000;
/** Long enough for every back-off that a fault may have left behind. */
export const PROBE_DEADLINE_MS = 90_000;
/** Index of the tenant who pays for probes: the last one. */
export const PROBE_TENANT = -1;
const PROMPT_TOKENS_MAX = 48;
const MEGABYTE = 1_048_576;

export function drawLoad(options: {
  readonly random: SeededRandom;
  readonly vocabSize: number;
  readonly startMs: number;
  readonly endMs: number;
  readonly probesAtMs: number;
  /** Regions that some requests ask for; empty when nobody does. */
  readonly regions: readonly string[];
  /** Lengths and gaps as they were measured, cut to what a run can hold; null draws them. */
  readonly trace: LoadTrace | null;
}): LoadPlan {
  const { random } = options;
  const count = random.between(1, MODELS_MAX);
  const models = Array.from({ length: count }, (_, index) =>
    drawModel(random.fork(`model/${index}`), index, { isAlone: count === 1 }),
  );
  const tenants = Array.from({ length: random.between(1, 3) }, (_, index) =>
    drawTenant(random.fork(`tenant/${index}`), index),
  );
  const arrivals = random.fork("arrivals");
  const gapMs = arrivals.pick([300, 800, 2_000]);
  // A run of priority requests alone learns soon when a first token is late, and hedges.
  const tiers = random.fork("tiers").chance(0.2) ? (["priority"] as const) : SERVICE_TIERS;
  const traced = options.trace === null ? null : windowOf(random.fork("trace"), options.trace);
  const requests: RequestDraw[] = [];
  let atMs = options.startMs;
  while (requests.length < REQUESTS_MAX) {
    // Bursts: some requests arrive together with the one before.
    const isBurst = arrivals.chance(0.2);
    if (!isBurst) atMs += traced === null ? arrivals.gap(gapMs) : gapMs * (traced.at(requests.length)?.gap ?? 1);
    if (atMs >= options.endMs) break;
    const of = { atMs, models: models.length, tenants: tenants.length, vocabSize: options.vocabSize, tiers };
    const drawn = drawRequest(random.fork(`request/${requests.length}`), of);
    const measured = traced === null ? drawn : { ...drawn, ...shaped(drawn, traced.at(requests.length) ?? null) };
    requests.push({ ...measured, regions: drawRegions(random.fork(`regions/${requests.length}`), options.regions) });
  }
  const of = { atMs: options.probesAtMs, models: models.length, tenants: 1, vocabSize: options.vocabSize, tiers };
  const probes = models.map(
    (_, model): RequestDraw => ({
      ...drawRequest(random.fork(`probe/${model}`), of),
      model,
      tenant: PROBE_TENANT,
      deadlineMs: PROBE_DEADLINE_MS,
      cancelAfterTokens: null,
      cancelAfterMs: null,
    }),
  );
  return {
    models,
    tenants: [...tenants, { name: "probe", balanceMicroUsd: 1_000_000, budgetMicroUsd: null }],
    requests,
    embeddings: drawEmbeddings(random.fork("embeddings"), options, { models: models.length, tenants: tenants.length }),
    probes,
  };
}

function drawModel(random: SeededRandom, index: number, of: { isAlone: boolean }): ModelDraw {
  return {
    name: `sim-${index}`,
    warmReplicas: random.pick([0, 1, 1, 2, 3]),
    fileBytes: random.between(10, 600) * MEGABYTE,
    // A slot of the whole context takes 0.5, 4 or 64 MB: some replicas have one slot, some have all. A lone model may take 8 GB,
    // so that tiers fight for the two slots of the largest node; two such models would not both fit on it.
    kvBytesPerToken: of.isAlone && random.chance(0.5) ? 33_554_432 : random.pick([2_048, 16_384, 262_144]),
    inputMicroUsdPerMtok: random.pick([0, 50_000, 333_333]),
    outputMicroUsdPerMtok: random.pick([0, 100_000, 1_234_567]),
  };
}

function drawTenant(random: SeededRandom, index: number): TenantDraw {
  return {
    name: `tenant-${index}`,
    balanceMicroUsd: random.pick([40, 1_000, 1_000_000, 1_000_000]),
    budgetMicroUsd: random.pick([null, null, 30, 400]),
  };
}

function drawRequest(
  random: SeededRandom,
  of: { atMs: number; models: number; tenants: number; vocabSize: number; tiers: readonly ServiceTier[] },
): RequestDraw {
  const tokensMax = random.pick([1, 4, 12, 30, 60]);
  const isImpatient = random.chance(0.2);
  return {
    atMs: of.atMs,
    model: random.between(0, of.models - 1),
    tenant: random.between(0, of.tenants - 1),
    promptTokenIds: Array.from({ length: random.between(1, PROMPT_TOKENS_MAX) }, () =>
      random.between(0, of.vocabSize - 1),
    ),
    tokensMax,
    choices: random.pick([1, 1, 1, 2, 3]),
    tier: random.pick(of.tiers),
    sampling: drawSampling(random),
    // Enough for a cold start: 2.5 s to fetch, 2.5 s to load, 2 s to answer.
    deadlineMs: random.pick([8_000, 12_000, DEADLINE_MAX_MS]),
    cancelAfterTokens: isImpatient ? random.between(0, tokensMax) : null,
    cancelAfterMs: random.chance(0.05) ? random.between(0, 3_000) : null,
    regions: null,
  };
}

/** One request in three minds where it runs, where there are regions. */
function drawRegions(random: SeededRandom, regions: readonly string[]): readonly string[] | null {
  if (regions.length === 0 || !random.chance(1 / 3)) return null;
  const [first, second] = [random.pick(regions), random.pick(regions)];
  return first === second ? [first] : [first, second];
}

/** A stretch of the trace, with gaps as shares of their mean. */
function windowOf(random: SeededRandom, trace: LoadTrace): readonly LoadTraceRow[] {
  const mean = trace.reduce((sum, { gap }) => sum + gap, 0) / trace.length;
  const start = random.between(0, trace.length - 1);
  return Array.from({ length: REQUESTS_MAX + 1 }, (_, at) => {
    const row = trace[(start + at) % trace.length] ?? { gap: mean, promptTokens: 1, outputTokens: 1 };
    return { ...row, gap: mean > 0 ? row.gap / mean : 1 };
  });
}

/** A thousandth of a language model's day: lengths are cut to what scripted engines answer in seconds. */
function shaped(drawn: RequestDraw, row: LoadTraceRow | null): Pick<RequestDraw, "promptTokenIds" | "tokensMax"> {
  if (row === null) return drawn;
  const length = Math.min(PROMPT_TOKENS_MAX, Math.max(1, Math.round(row.promptTokens / TRACE_PROMPT_DIVISOR)));
  const promptTokenIds = Array.from({ length }, (_, at) => drawn.promptTokenIds[at % drawn.promptTokenIds.length] ?? 0);
  const tokensMax = Math.min(TRACE_TOKENS_MAX, Math.max(1, Math.round(row.outputTokens / TRACE_OUTPUT_DIVISOR)));
  return { promptTokenIds, tokensMax };
}

function drawEmbeddings(
  random: SeededRandom,
  span: { startMs: number; endMs: number; vocabSize: number },
  of: { models: number; tenants: number },
): readonly EmbeddingDraw[] {
  const embeddings: EmbeddingDraw[] = [];
  const gapMs = random.pick([1_500, 6_000, 60_000]);
  for (let atMs = span.startMs + random.gap(gapMs); atMs < span.endMs; atMs += random.gap(gapMs)) {
    const tokens = () =>
      Array.from({ length: random.between(1, PROMPT_TOKENS_MAX) }, () => random.between(0, span.vocabSize - 1));
    embeddings.push({
      atMs,
      model: random.between(0, of.models - 1),
      tenant: random.between(0, of.tenants - 1),
      inputs: Array.from({ length: random.between(1, 4) }, tokens),
      deadlineMs: random.pick([8_000, DEADLINE_MAX_MS]),
      cancelAfterMs: random.chance(0.1) ? random.between(0, 1_000) : null,
    });
  }
  return embeddings;
}

function drawSampling(random: SeededRandom): SamplingOptions {
  return {
    ...DEFAULT_SAMPLING,
    temperature: random.pick([0, 0.7, 1]),
    topK: random.pick([1, 4, 8]),
    topP: random.pick([0.9, 1]),
    frequencyPenalty: random.pick([0, 0, 0.5]),
    presencePenalty: random.pick([0, 0, -0.5]),
  };
}
