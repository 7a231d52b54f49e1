/** Round-trip times between regions, as measured by a cloud: a full table in ms. */
import { z } from "zod";
import { no, type Outcome, ok } from "../../domain/refusal.ts";
import { type FileRefusal, ProblemList, readJsonFile } from "../../wire/file-problems.ts";

const REGIONS_MAX = 1_000;
const RTT_MS_MAX = 60_000;
const REFUSED = { code: "trace-invalid", title: "the latency table" } as const;

export interface LatencyTable {
  readonly regions: readonly string[];
  /** `rttMs[from][to]` by place in `regions`; the two directions may differ a little. */
  readonly rttMs: readonly (readonly number[])[];
}

const tableSchema = z.object({
  regions: z.array(z.string().min(1).max(200)).min(1).max(REGIONS_MAX),
  rtt: z.record(z.string(), z.record(z.string(), z.number().min(0).max(RTT_MS_MAX))),
});

export function readLatencyTable(text: string): Outcome<LatencyTable, FileRefusal> {
  const json = readJsonFile(text);
  if ("problem" in json)
    return no({ code: REFUSED.code, message: `${REFUSED.title} ${json.problem}`, problems: [], problemCount: 1 });
  const problems = new ProblemList();
  const parsed = tableSchema.safeParse(json.value);
  if (!parsed.success) {
    problems.addIssues(parsed.error, json.value);
    return no(problems.refusal(REFUSED));
  }
  const { regions, rtt } = parsed.data;
  const rule = `must be a number from 0 to ${RTT_MS_MAX} (ms)`;
  const rttMs = regions.map((from) =>
    regions.map((to) => {
      const value = rtt[from]?.[to];
      if (value === undefined) problems.add(["rtt", from, to], undefined, rule);
      return value ?? 0;
    }),
  );
  return problems.count > 0 ? no(problems.refusal(REFUSED)) : ok({ regions, rttMs });
}
