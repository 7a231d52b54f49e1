/**
 * What was learned, in the store: one record of the whole, and the nodes in pieces, so that a large grid is not written in one turn.
 * The whole is written last and says how many pieces there are. A life that was cut between pieces leaves newer and older ones
 * side by side; each node's row is complete in itself, so that costs nothing but a few minutes of some nodes.
 * What does not fit the schema is not believed: everything is learned anew, with a warning.
 */
import { z } from "zod";
import type { MetaStore } from "../../ports/store.ts";
import { PAIRS_MAX } from "../../scheduler/forecast/demand-model.ts";
import { AGE_BINS } from "../../scheduler/forecast/life-table.ts";
import { FEATURES, MODELS_TRACKED_MAX } from "../../scheduler/forecast/reuse-state.ts";
import { HOURS_PER_WEEK } from "../../scheduler/forecast/season.ts";
import { COHORTS_MAX, type SurvivalNodeRow } from "../../scheduler/forecast/survival-model.ts";
import { COORDINATOR_FORECAST_VERSION, type KeptForecast, type WrittenForecast } from "./forecast-state.ts";

const WHOLE = "forecast";
const piece = (index: number) => `forecast-nodes-${index}`;
/** About 100 kB of text: a millisecond to write. */
export const NODES_PER_PIECE = 500;
/** Of more nodes those heard of last are kept; the others begin again as their cohort. */
export const PIECES_MAX = 64;

const amount = z.number().min(0).max(1e12);
const finite = z.number().min(-1e15).max(1e15);
const timeMs = z.number().min(0).max(1e15);
const name = z.string().max(512);
const list = (length: number) => z.array(amount).length(length);
const table = { departures: list(AGE_BINS), exposureHours: list(AGE_BINS) };

const nodeRow = z.object({
  nodeId: name,
  cohort: name,
  utcOffsetMinutes: z.number().int().min(-1_440).max(1_440),
  isUp: z.boolean(),
  sinceMs: timeMs,
  countedMs: timeMs,
  ...table,
});
const nodesSchema = z.array(nodeRow).max(NODES_PER_PIECE);

const wholeSchema = z.object({
  version: z.literal(COORDINATOR_FORECAST_VERSION),
  savedAtMs: timeMs,
  pieces: z.number().int().min(0).max(PIECES_MAX),
  survival: z.object({
    grid: z.object(table),
    cohorts: z.array(z.object({ cohort: name, ...table })).max(COHORTS_MAX),
    season: z.object({ departures: list(HOURS_PER_WEEK), exposureHours: list(HOURS_PER_WEEK * AGE_BINS) }),
    fadedMs: timeMs,
  }),
  demand: z.object({
    hour: z.number().int().min(0).max(1e9),
    pairs: z
      .array(
        z.object({
          modelId: name,
          region: name,
          level: amount,
          hours: z.number().int().min(0).max(1e6),
          count: z.number().int().min(0).max(1e9),
        }),
      )
      .max(PAIRS_MAX),
    seen: list(HOURS_PER_WEEK),
    due: list(HOURS_PER_WEEK),
    excess: finite,
    squares: amount,
  }),
  reuse: z.object({
    learned: z.object({
      weights: z.array(finite).length(FEATURES + 1),
      squares: list(FEATURES + 1),
      means: z.array(finite).length(FEATURES),
      spreads: list(FEATURES),
      rows: z.number().int().min(0).max(1e12),
    }),
    models: z
      .array(
        z.object({
          modelId: name,
          counts: z.array(amount).max(16),
          total: amount,
          requestsAgo: z.number().int().min(0).max(1e12),
          countedAgo: z.number().int().min(0).max(1e12),
          lastMs: timeMs,
        }),
      )
      .max(MODELS_TRACKED_MAX),
  }),
});

export type ReadForecast = { readonly state: KeptForecast | null; readonly problem: string | null };

/** Null with no problem when nothing was kept. Rejects only as the store does. */
export async function readForecast(meta: Pick<MetaStore, "get">): Promise<ReadForecast> {
  const text = await meta.get(WHOLE);
  if (text === null) return { state: null, problem: null };
  const whole = parsed(wholeSchema, text);
  if (whole === null) return { state: null, problem: "the record of the whole is not of this version's form" };
  const nodes = new Map<string, SurvivalNodeRow>();
  for (let index = 0; index < whole.pieces; index++) {
    const rows = parsed(nodesSchema, (await meta.get(piece(index))) ?? "");
    if (rows === null) return { state: null, problem: `piece ${index} of the nodes is not of this version's form` };
    for (const row of rows) {
      const known = nodes.get(row.nodeId);
      if (known === undefined || known.countedMs <= row.countedMs) nodes.set(row.nodeId, row);
    }
  }
  const { savedAtMs, survival, demand, reuse } = whole;
  return {
    state: { savedAtMs, survival: { core: survival, nodes: [...nodes.values()] }, demand, reuse },
    problem: null,
  };
}

/** Rejects as the store does; what was kept before is then still whole. */
export async function writeForecast(meta: Pick<MetaStore, "set">, written: WrittenForecast): Promise<void> {
  const { savedAtMs, survival, demand, reuse } = written;
  const { core, rows, size } = survival;
  let skipped = Math.max(0, size - NODES_PER_PIECE * PIECES_MAX);
  let pieces = 0;
  let open: SurvivalNodeRow[] = [];
  const close = async () => {
    if (open.length === 0 || pieces >= PIECES_MAX) return;
    const text = JSON.stringify(open);
    open = [];
    await meta.set(piece(pieces), text);
    pieces += 1;
  };
  for (const row of rows) {
    if (skipped-- > 0) continue;
    open.push(row);
    if (open.length >= NODES_PER_PIECE) await close();
  }
  await close();
  const version = COORDINATOR_FORECAST_VERSION;
  await meta.set(WHOLE, JSON.stringify({ version, savedAtMs, pieces, survival: core, demand, reuse }));
}

function parsed<T>(schema: z.ZodType<T>, text: string): T | null {
  try {
    const result = schema.safeParse(JSON.parse(text));
    return result.success ? result.data : null;
  } catch {
    return null; // no JSON: not ours
  }
}
