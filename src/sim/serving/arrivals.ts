/**
 * Load from a trace: lengths are drawn from its requests with replacement, and online arrivals from its counts per three seconds,
 * scaled to the rate that is asked for. Both as the published simulator does it: the trace gives the mix and the burstiness, not
 * the order. Requests that no machine of the cluster takes in one batch are left out, whatever the layout.
 */
import { assert } from "../../domain/assert.ts";
import type { Cluster } from "../../domain/cluster.ts";
import type { Random } from "../../ports/random.ts";

export interface TraceRequest {
  /** From the trace's first request. */
  readonly atSeconds: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
}

export interface RequestLengths {
  readonly promptTokens: number;
  readonly outputTokens: number;
}

const BUCKET_S = 3;

/** What the trace holds for this cluster, in full order so that the order of equal arrivals means nothing. */
export function servableRequests(trace: readonly TraceRequest[], cluster: Cluster): readonly TraceRequest[] {
  const longest = Math.min(
    ...cluster.nodes.flatMap((node) => node.machine.limitsByLayers.slice(1).map((limits) => limits.promptTokensMax)),
  );
  return trace
    .filter(({ promptTokens, outputTokens }) => promptTokens > 0 && promptTokens <= longest && outputTokens > 0)
    .toSorted(
      (a, b) => a.atSeconds - b.atSeconds || a.promptTokens - b.promptTokens || a.outputTokens - b.outputTokens,
    );
}

export function drawLengths(requests: readonly TraceRequest[], random: Random): RequestLengths {
  const drawn = requests[Math.floor(random.fraction() * requests.length)];
  assert(drawn !== undefined, "the trace has a request that fits the cluster");
  return drawn;
}

export interface Arrival extends RequestLengths {
  readonly atS: number;
}

/** Arrivals from 0 to `untilS` with a mean of `tokensPerSecond` prompt and output tokens. */
export function drawArrivals(
  requests: readonly TraceRequest[],
  settings: { readonly tokensPerSecond: number; readonly untilS: number },
  random: Random,
): readonly Arrival[] {
  const tokens = requests.reduce((sum, { promptTokens, outputTokens }) => sum + promptTokens + outputTokens, 0);
  const counts = countsPerBucket(requests);
  const countMean = requests.length / counts.length;
  const scale = (BUCKET_S * settings.tokensPerSecond * requests.length) / tokens / countMean;
  const arrivals: Arrival[] = [];
  let owed = 0;
  for (let bucketS = 0; bucketS < settings.untilS; bucketS += BUCKET_S) {
    owed += scale * (counts[Math.floor(random.fraction() * counts.length)] ?? 0);
    const count = Math.round(owed);
    owed -= count;
    const times = Array.from({ length: Math.max(0, count) }, () => bucketS + BUCKET_S * random.fraction());
    for (const atS of times.sort((a, b) => a - b)) arrivals.push({ atS, ...drawLengths(requests, random) });
  }
  return arrivals;
}

function countsPerBucket(requests: readonly TraceRequest[]): readonly number[] {
  const endS = requests.at(-1)?.atSeconds ?? 0;
  const counts = new Array<number>(Math.floor(endS / BUCKET_S) + 1).fill(0);
  for (const { atSeconds } of requests) {
    const bucket = Math.floor(atSeconds / BUCKET_S);
    counts[bucket] = (counts[bucket] ?? 0) + 1;
  }
  return counts;
}
