/**
 * A cache of models under the requests of a trace. Uniform slots give the figures of scheduling.md section 6; with sizes the room is in
 * bytes. A policy ranks what is kept: the lowest rank goes. It is told of a request before it is asked, and never of a later one.
 */
import { EvictionOrder, fetchSeconds } from "../../../src/scheduler/forecast/eviction.ts";
import { ReuseForecast } from "../../../src/scheduler/forecast/reuse-forecast.ts";
import type { ModelRequest } from "./model-requests.ts";

export interface ReplayPolicy {
  take(request: ModelRequest, at: number): void;
  /** The one to give up, of these. */
  worst(kept: ReadonlyMap<string, number>): string;
  /** Whether the model asked for is kept at all, instead of the one given up. */
  admits?(asked: string, given: string): boolean;
  dropped?(modelId: string): void;
  /** For prefetching: what each model is worth now. */
  values?(): ReadonlyMap<string, number>;
}

export interface ReplayResult {
  readonly hitRate: number;
  /** Of the requests after the first third, on which constants were chosen. */
  readonly hitRateOfRest: number;
  readonly misses: number;
  readonly missedBytes: number;
  readonly coldSeconds: number;
  readonly staged: number;
  /** Staged copies that went before they were asked for. */
  readonly wasted: number;
}

export interface ReplayOptions {
  readonly room: number;
  readonly bytesOf: (modelId: string) => number;
  /** Stage what is worth this much more than the worst that is kept, or than nothing where there is room; null for no staging. */
  readonly stageMargin: number | null;
  /** The node leaves this often, and another with an empty disk takes its place; null for a node that stays. */
  readonly lifeMs?: number | null;
}

/** Of a base model, p50 of the given load latencies (scheduling.md section 6). A load in between ends the copy. */
const STAGING_MS = 22_700;

export function replay(requests: readonly ModelRequest[], policy: ReplayPolicy, options: ReplayOptions): ReplayResult {
  const cache = new ReplayCache(policy, options);
  const restFrom = Math.floor(requests.length / 3);
  let hits = 0;
  let hitsOfRest = 0;
  let missedBytes = 0;
  let coldSeconds = 0;
  const startMs = requests[0]?.atMs ?? 0;
  const { lifeMs = null } = options;
  let lives = 0;
  requests.forEach((request, at) => {
    const life = lifeMs === null ? 0 : Math.floor((request.atMs - startMs) / lifeMs);
    if (life > lives) cache.empty();
    lives = life;
    cache.arrive(request.atMs);
    policy.take(request, at);
    if (cache.ask(request.modelId)) {
      hits += 1;
      hitsOfRest += at >= restFrom ? 1 : 0;
    } else {
      missedBytes += options.bytesOf(request.modelId);
      coldSeconds += fetchSeconds(options.bytesOf(request.modelId));
    }
    cache.stage(request.atMs);
  });
  return {
    hitRate: hits / requests.length,
    hitRateOfRest: hitsOfRest / (requests.length - restFrom),
    misses: requests.length - hits,
    missedBytes,
    coldSeconds,
    staged: cache.staged,
    wasted: cache.wasted,
  };
}

class ReplayCache {
  readonly #policy: ReplayPolicy;
  readonly #options: ReplayOptions;
  readonly #kept = new Map<string, number>();
  readonly #unused = new Set<string>();
  #used = 0;
  #job: { readonly modelId: string; readonly given: string | null; readonly doneMs: number } | null = null;
  staged = 0;
  wasted = 0;

  constructor(policy: ReplayPolicy, options: ReplayOptions) {
    this.#policy = policy;
    this.#options = options;
  }

  /** Whether it was there. */
  ask(modelId: string): boolean {
    this.#unused.delete(modelId);
    if (this.#kept.has(modelId)) return true;
    // What somebody waits for comes first.
    this.#job = null;
    const bytes = this.#options.bytesOf(modelId);
    while (this.#used + bytes > this.#options.room && this.#kept.size > 0) {
      const given = this.#policy.worst(this.#kept);
      if (this.#policy.admits?.(modelId, given) === false) return false;
      this.#drop(given);
    }
    this.#keep(modelId);
    return false;
  }

  /** Everything goes, unused copies with it. */
  empty(): void {
    for (const modelId of [...this.#kept.keys()]) this.#drop(modelId);
    this.#job = null;
  }

  /** A copy that is complete by now is kept, if it is still worth it. */
  arrive(nowMs: number): void {
    if (this.#job === null || nowMs < this.#job.doneMs) return;
    const { modelId, given } = this.#job;
    this.#job = null;
    if (this.#kept.has(modelId) || (given !== null && !this.#kept.has(given))) return;
    if (given !== null) this.#drop(given);
    if (this.#used + this.#options.bytesOf(modelId) > this.#options.room) return;
    this.#keep(modelId);
    this.staged += 1;
    this.#unused.add(modelId);
  }

  /** Begins a copy, one at a time. */
  stage(nowMs: number): void {
    const margin = this.#options.stageMargin;
    const values = this.#policy.values?.();
    if (margin === null || values === undefined || this.#job !== null) return;
    let best: string | null = null;
    for (const [modelId, value] of values) {
      if (!this.#kept.has(modelId) && (best === null || value > (values.get(best) ?? 0))) best = modelId;
    }
    if (best === null) return;
    const hasRoom = this.#used + this.#options.bytesOf(best) <= this.#options.room;
    const given = hasRoom ? null : this.#policy.worst(this.#kept);
    if ((values.get(best) ?? 0) - (given === null ? 0 : (values.get(given) ?? 0)) <= margin) return;
    this.#job = { modelId: best, given, doneMs: nowMs + STAGING_MS };
  }

  #keep(modelId: string): void {
    this.#kept.set(modelId, this.#options.bytesOf(modelId));
    this.#used += this.#options.bytesOf(modelId);
  }

  #drop(modelId: string): void {
    this.#used -= this.#kept.get(modelId) ?? 0;
    this.#kept.delete(modelId);
    this.#policy.dropped?.(modelId);
    if (this.#unused.delete(modelId)) this.wasted += 1;
  }
}

/** Of lowest rank; of equals the first that was kept. */
function lowest(kept: ReadonlyMap<string, number>, rank: (modelId: string, bytes: number) => number): string {
  let found = "";
  let least = Number.POSITIVE_INFINITY;
  for (const [modelId, bytes] of kept) {
    const value = rank(modelId, bytes);
    if (value < least) {
      least = value;
      found = modelId;
    }
  }
  return found;
}

export function lru(): ReplayPolicy {
  const usedAt = new Map<string, number>();
  return {
    take: ({ modelId }, at) => usedAt.set(modelId, at),
    worst: (kept) => lowest(kept, (modelId) => usedAt.get(modelId) ?? -1),
  };
}

/** By all uses ever; with admission a model comes in only when it was used at least as often as the one it would replace. */
export function lfu(hasAdmission: boolean): ReplayPolicy {
  const uses = new Map<string, number>();
  const usesOf = (modelId: string) => uses.get(modelId) ?? 0;
  return {
    take: ({ modelId }) => uses.set(modelId, usesOf(modelId) + 1),
    worst: (kept) => lowest(kept, usesOf),
    ...(hasAdmission ? { admits: (asked: string, given: string) => usesOf(given) <= usesOf(asked) } : {}),
  };
}

/** Knows the future; may refuse to keep what is asked for next after all that is kept. */
export function belady(requests: readonly ModelRequest[]): ReplayPolicy {
  const nextAt = new Array<number>(requests.length).fill(Number.MAX_SAFE_INTEGER);
  const last = new Map<string, number>();
  for (let at = requests.length - 1; at >= 0; at--) {
    const modelId = requests[at]?.modelId ?? "";
    nextAt[at] = last.get(modelId) ?? Number.MAX_SAFE_INTEGER;
    last.set(modelId, at);
  }
  const next = new Map<string, number>();
  return {
    take: ({ modelId }, at) => next.set(modelId, nextAt[at] ?? 0),
    worst: (kept) => lowest(kept, (modelId) => -(next.get(modelId) ?? 0)),
    admits: (asked, given) => (next.get(given) ?? 0) >= (next.get(asked) ?? 0),
  };
}

/** What nodes' disks do: `eviction.ts`. */
export function gdsf(bytesOf: (modelId: string) => number): ReplayPolicy {
  const order = new EvictionOrder();
  return {
    take: ({ modelId }) => order.use({ id: modelId, bytes: bytesOf(modelId) }),
    // The model asked for is ranked already and not kept yet: it is not to be given up.
    worst: (kept) => order.first(new Set(kept.keys())),
    dropped: (modelId) => order.giveUp(modelId),
  };
}

/** The value forecast; per byte of what is fetched again. */
export function forecast(options: { usesTenants: boolean }): ReplayPolicy {
  const reuse = new ReuseForecast();
  let values: ReadonlyMap<string, number> = new Map();
  return {
    take: ({ modelId, tenant, atMs }) => {
      reuse.take({ modelId, tenant: options.usesTenants ? tenant : null, atMs });
      values = reuse.values(atMs);
    },
    worst: (kept) => lowest(kept, (modelId, bytes) => ((values.get(modelId) ?? 0) * fetchSeconds(bytes)) / bytes),
    values: () => values,
  };
}
