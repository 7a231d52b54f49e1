/**
 * What is remembered of the requests so far to tell which model is asked for next: how often and how lately each model was used,
 * which model follows which, and which models the tenants that are active now turn to after the one they used last. The last is what
 * recency does not see: people who try things switch models, and switch alike.
 *
 * Everything decays by itself, so that nothing has to be swept: a count is kept with the request (or time) up to which it decayed.
 */
export const FEATURES = 12;
/** Models looked at; of more, the one unused for longest gives up its place. Two tables of this squared are kept: half a megabyte each. */
export const MODELS_TRACKED_MAX = 256;
/** Tenants whose last model is remembered. */
export const TENANTS_TRACKED_MAX = 65_536;

/** In requests. Wide enough for a burst and for a fortnight, each four times the one before. */
const HALF_LIVES = [3, 10, 40, 160, 640, 2_560] as const;
/** Index of the requests since the last use, as a logarithm. */
export const RECENCY_FEATURE = HALF_LIVES.length;
const DECAYS = HALF_LIVES.map((requests) => 0.5 ** (1 / requests));
/** How long a tenant stays active after a request: the pause between two tries, and a session. */
const ACTIVE_MS = [60_000, 400_000] as const;
/** Requests as if seen at a model's overall share, so that a row with few says little. */
const FOLLOW_PSEUDO = 5;
const TENANT_FOLLOW_PSEUDO = 10;
const SHARE_PSEUDO = 0.1;

interface Tracked {
  modelId: string;
  readonly counts: number[];
  /** Request at which `counts` stands. */
  countedAt: number;
  total: number;
  lastAt: number;
  lastMs: number;
  /** Tenants whose last model this is, each weighing e^(-age / ACTIVE_MS). */
  readonly active: number[];
  activeMs: number;
}

/** What is kept over a restart: the tables of what follows what are learned anew. */
export interface ReuseModelRow {
  readonly modelId: string;
  readonly counts: readonly number[];
  readonly total: number;
  /** Requests and ms since it was used, and since `counts` stood. */
  readonly requestsAgo: number;
  readonly countedAgo: number;
  readonly lastMs: number;
}

export class ReuseState {
  readonly #models: Tracked[] = [];
  readonly #indexOf = new Map<string, number>();
  readonly #follows = new Follows();
  readonly #tenantFollows = new Follows();
  readonly #tenants = new Map<string, { model: number; atMs: number }>();
  #requests = 0;
  #total = 0;
  #last: number | null = null;
  #nowMs = 0;

  get requests(): number {
    return this.#requests;
  }

  get size(): number {
    return this.#models.length;
  }

  indexOf(modelId: string): number | null {
    return this.#indexOf.get(modelId) ?? null;
  }

  modelIds(): readonly string[] {
    return this.#models.map(({ modelId }) => modelId);
  }

  /** A request arrived; answers the model's index, and whether another model lost it. */
  take(request: { modelId: string; tenant: string | null; atMs: number }): { index: number; isReplaced: boolean } {
    this.#requests += 1;
    this.#total += 1;
    this.#nowMs = Math.max(this.#nowMs, request.atMs);
    const { index, isReplaced } = this.#track(request.modelId);
    const model = this.#models[index];
    if (model !== undefined) this.#use(model);
    if (this.#last !== null) this.#follows.add(this.#last, index);
    this.#last = index;
    if (request.tenant !== null) this.#turn(request.tenant, index);
    return { index, isReplaced };
  }

  /** One row for each model, by index: `FEATURES` numbers. */
  features(nowMs: number): Float64Array {
    const atMs = Math.max(nowMs, this.#nowMs);
    const rows = new Float64Array(this.#models.length * FEATURES);
    const shares = this.#models.map(
      ({ total }) => (total + SHARE_PSEUDO) / (this.#total + SHARE_PSEUDO * this.#models.length),
    );
    const turns = this.#turnsTo(atMs, shares);
    this.#models.forEach((model, index) => {
      const share = shares[index] ?? 0;
      let at = index * FEATURES;
      model.counts.forEach((count, which) => {
        const decay = DECAYS[which] ?? 0;
        const current = count * decay ** (this.#requests - model.countedAt);
        rows[at++] = Math.log(current * (1 - decay) + 1e-4);
      });
      rows[at++] = Math.log1p(this.#requests - model.lastAt);
      rows[at++] = Math.log1p((atMs - model.lastMs) / 10_000);
      rows[at++] = Math.log(share);
      const followed = this.#last === null ? share : this.#follows.share(this.#last, index, share, FOLLOW_PSEUDO);
      rows[at++] = Math.log(followed);
      for (const turn of turns) rows[at++] = Math.log((turn[index] ?? 0) + 0.02 * share);
    });
    return rows;
  }

  rows(): readonly ReuseModelRow[] {
    return this.#models.map(({ modelId, counts, countedAt, total, lastAt, lastMs }) => ({
      modelId,
      counts: [...counts],
      total,
      requestsAgo: this.#requests - lastAt,
      countedAgo: this.#requests - countedAt,
      lastMs,
    }));
  }

  restore(rows: readonly ReuseModelRow[]): void {
    for (const row of rows.slice(0, MODELS_TRACKED_MAX)) {
      const { index } = this.#track(row.modelId);
      const model = this.#models[index];
      if (model === undefined) continue;
      model.counts.splice(0, model.counts.length, ...row.counts);
      Object.assign(model, {
        total: row.total,
        lastMs: row.lastMs,
        lastAt: -row.requestsAgo,
        countedAt: -row.countedAgo,
      });
      this.#total += row.total;
      this.#nowMs = Math.max(this.#nowMs, row.lastMs);
    }
  }

  #use(model: Tracked): void {
    const steps = this.#requests - model.countedAt;
    model.counts.forEach((count, which) => {
      model.counts[which] = count * (DECAYS[which] ?? 0) ** steps + 1;
    });
    model.countedAt = this.#requests;
    model.total += 1;
    model.lastAt = this.#requests;
    model.lastMs = this.#nowMs;
  }

  /** A tenant went from its last model to this one. */
  #turn(tenant: string, index: number): void {
    const before = this.#tenants.get(tenant);
    if (before !== undefined) {
      this.#tenantFollows.add(before.model, index);
      this.#weigh(before.model, -1, this.#nowMs - before.atMs);
      this.#tenants.delete(tenant);
    }
    this.#weigh(index, 1, 0);
    this.#tenants.set(tenant, { model: index, atMs: this.#nowMs });
    if (this.#tenants.size <= TENANTS_TRACKED_MAX) return;
    const [oldest] = this.#tenants.keys();
    if (oldest !== undefined) this.#tenants.delete(oldest);
  }

  #weigh(index: number, sign: 1 | -1, ageMs: number): void {
    const model = this.#models[index];
    if (model === undefined) return;
    ACTIVE_MS.forEach((span, which) => {
      const faded = (model.active[which] ?? 0) * Math.exp(-(this.#nowMs - model.activeMs) / span);
      model.active[which] = Math.max(0, faded + sign * Math.exp(-ageMs / span));
    });
    model.activeMs = this.#nowMs;
  }

  /** For each span of activity: how many of the active tenants may turn to each model. */
  #turnsTo(atMs: number, shares: readonly number[]): readonly (readonly number[])[] {
    return ACTIVE_MS.map((span, which) => {
      const to = shares.map(() => 0);
      this.#models.forEach((model, from) => {
        const weight = (model.active[which] ?? 0) * Math.exp(-(atMs - model.activeMs) / span);
        if (weight < 1e-6) return;
        for (let index = 0; index < to.length; index++) {
          const share = this.#tenantFollows.share(from, index, shares[index] ?? 0, TENANT_FOLLOW_PSEUDO);
          to[index] = (to[index] ?? 0) + weight * share;
        }
      });
      return to;
    });
  }

  #track(modelId: string): { index: number; isReplaced: boolean } {
    const known = this.#indexOf.get(modelId);
    if (known !== undefined) return { index: known, isReplaced: false };
    const isFull = this.#models.length >= MODELS_TRACKED_MAX;
    const index = isFull ? this.#longestUnused() : this.#models.length;
    const replaced = this.#models[index];
    if (replaced !== undefined) this.#drop(replaced, index);
    const counts = HALF_LIVES.map(() => 0);
    const active = ACTIVE_MS.map(() => 0);
    const at = this.#requests;
    const ms = this.#nowMs;
    this.#models[index] = { modelId, counts, countedAt: at, total: 0, lastAt: at, lastMs: ms, active, activeMs: ms };
    this.#indexOf.set(modelId, index);
    return { index, isReplaced: isFull };
  }

  #drop(model: Tracked, index: number): void {
    this.#indexOf.delete(model.modelId);
    this.#total -= model.total;
    this.#follows.clear(index);
    this.#tenantFollows.clear(index);
    for (const [tenant, last] of this.#tenants) if (last.model === index) this.#tenants.delete(tenant);
    if (this.#last === index) this.#last = null;
  }

  #longestUnused(): number {
    let found = 0;
    this.#models.forEach((model, index) => {
      if (model.lastAt < (this.#models[found]?.lastAt ?? 0)) found = index;
    });
    return found;
  }
}

/** How often one model came after another. */
class Follows {
  readonly #counts = new Float64Array(MODELS_TRACKED_MAX * MODELS_TRACKED_MAX);
  readonly #sums = new Float64Array(MODELS_TRACKED_MAX);

  add(from: number, to: number): void {
    const cell = from * MODELS_TRACKED_MAX + to;
    this.#counts[cell] = (this.#counts[cell] ?? 0) + 1;
    this.#sums[from] = (this.#sums[from] ?? 0) + 1;
  }

  /** Share of `to` among what followed `from`, with `pseudo` requests at its overall share. */
  share(from: number, to: number, overall: number, pseudo: number): number {
    const count = this.#counts[from * MODELS_TRACKED_MAX + to] ?? 0;
    return (count + pseudo * overall) / ((this.#sums[from] ?? 0) + pseudo);
  }

  clear(index: number): void {
    for (let other = 0; other < MODELS_TRACKED_MAX; other++) {
      const cell = other * MODELS_TRACKED_MAX + index;
      this.#sums[other] = (this.#sums[other] ?? 0) - (this.#counts[cell] ?? 0);
      this.#counts[cell] = 0;
      this.#counts[index * MODELS_TRACKED_MAX + other] = 0;
    }
    this.#sums[index] = 0;
  }
}
