/** How many spot machines one zone gave at each tick: the series of the SkyPilot spot traces. */
import { z } from "zod";
import { no, type Outcome, ok } from "../../domain/refusal.ts";
import { type FileRefusal, ProblemList, readJsonFile } from "../../wire/file-problems.ts";

const TICKS_MAX = 1_000_000;

export interface SpotSeries {
  /** From the file's name, e.g. `us-east-1a_v100_1`. */
  readonly name: string;
  readonly gapSeconds: number;
  /** Machines that were to be had, per tick. */
  readonly available: readonly number[];
  /** USD per hour, per tick; null when the source gives none. */
  readonly pricesUsdPerHour: readonly number[] | null;
}

const tickCount = `must be a list of 2 to ${TICKS_MAX} ticks`;
const seriesSchema = z.strictObject({
  metadata: z.object({
    gap_seconds: z.number().gt(0, "must be above 0 (seconds)").max(86_400, "must be at most a day (seconds)"),
  }),
  data: z.array(z.number().min(0, "must not be negative")).min(2, tickCount).max(TICKS_MAX, tickCount),
  prices: z.array(z.number().min(0, "must not be negative (USD per hour)")).max(TICKS_MAX, tickCount).optional(),
});

export function readSpotSeries(text: string, more: { readonly name: string }): Outcome<SpotSeries, FileRefusal> {
  const refused = { code: "trace-invalid", title: `the spot series ${more.name}` };
  const json = readJsonFile(text);
  if ("problem" in json)
    return no({ code: refused.code, message: `${refused.title} ${json.problem}`, problems: [], problemCount: 1 });
  const problems = new ProblemList();
  const parsed = seriesSchema.safeParse(json.value);
  if (!parsed.success) {
    problems.addIssues(parsed.error, json.value);
    return no(problems.refusal(refused));
  }
  const { metadata, data, prices } = parsed.data;
  if (prices !== undefined && prices.length !== data.length) {
    problems.add(["prices"], prices, `must have a price for each of the ${data.length} ticks`);
    return no(problems.refusal(refused));
  }
  return ok({ name: more.name, gapSeconds: metadata.gap_seconds, available: data, pricesUsdPerHour: prices ?? null });
}
