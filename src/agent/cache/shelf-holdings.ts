/**
 * What lies on a node's disk of which model, and what of it may go. Whole models and shares that a load or an order asked for are ranked by
 * their use (`scheduler/forecast/eviction.ts`); what came in part for nothing known goes before them all.
 */
import type { LayerShare } from "../../domain/weights.ts";
import type { CachedWeights } from "../../ports/weights-cache.ts";
import { type CachedFile, EvictionOrder } from "../../scheduler/forecast/eviction.ts";

export interface Holding {
  /** What it takes on the disk. */
  readonly bytes: number;
  /** Of the whole model. */
  readonly fileBytes: number;
  readonly isWhole: boolean;
  /** Shares that are complete, as far as this process knows. */
  readonly shares: readonly LayerShare[];
}

/** What must stay: `never` goes not at all, `last` when all the rest is too little. */
export interface Keeping {
  readonly never: ReadonlySet<string>;
  readonly last: ReadonlySet<string>;
}

/** Of one model; a node has a few stages of it at most. */
const SHARES_MAX = 16;

export class ShelfHoldings {
  readonly #order = new EvictionOrder();
  /** By digest; the one used last is last. */
  readonly #known = new Map<string, Holding>();
  /** By digest: whole size of what is wanted and number of those who fetch it now. */
  readonly #coming = new Map<string, { readonly bytes: number; readonly count: number }>();

  #changes = 0;

  /** Grows with everything that comes or goes. */
  get changes(): number {
    return this.#changes;
  }

  /** What the cache says anew: used at the start, and after anything that may have changed it. */
  replace(whole: readonly CachedWeights[], parts: readonly CachedWeights[]): void {
    const before = new Map(this.#known);
    for (const { weightsSha256, fileBytes } of whole) {
      if (before.get(weightsSha256)?.isWhole !== true)
        this.use(weightsSha256, { fileBytes, bytes: fileBytes, share: null });
    }
    for (const { weightsSha256, fileBytes: bytes, totalBytes } of parts) {
      const known = before.get(weightsSha256);
      const shares = known?.isWhole === true ? [] : (known?.shares ?? []);
      if (shares.length === 0) this.#order.drop(weightsSha256);
      this.#known.set(weightsSha256, { bytes, fileBytes: totalBytes ?? bytes, isWhole: false, shares });
    }
    const here = new Set([...whole, ...parts].map(({ weightsSha256 }): string => weightsSha256));
    for (const digest of before.keys()) if (!here.has(digest)) this.drop(digest);
  }

  /** It is here and was used: the whole of it, or a share. */
  use(digest: string, used: { fileBytes: number; bytes: number; share: LayerShare | null }): void {
    this.#changes += 1;
    const known = this.#known.get(digest);
    const isWhole = used.share === null || known?.isWhole === true;
    const shares = (known?.shares ?? []).filter((share) => used.share === null || !covers(used.share, share));
    const bytes = isWhole ? used.fileBytes : Math.max(used.bytes, known?.bytes ?? 0);
    this.#known.delete(digest);
    this.#known.set(digest, {
      bytes,
      fileBytes: used.fileBytes,
      isWhole,
      shares: isWhole || used.share === null ? [] : [...shares, used.share].slice(-SHARES_MAX),
    });
    this.#order.use({ id: digest, bytes });
  }

  /** It was to go and could not. */
  stays(digest: string): void {
    const known = this.#known.get(digest);
    if (known !== undefined && (known.isWhole || known.shares.length > 0))
      this.#order.use({ id: digest, bytes: known.bytes });
  }

  drop(digest: string): void {
    this.#changes += 1;
    this.#known.delete(digest);
    this.#order.drop(digest);
  }

  /** A whole model has every share. */
  has(digest: string, share: LayerShare | null): boolean {
    const known = this.#known.get(digest);
    if (known === undefined) return false;
    return known.isWhole || (share !== null && known.shares.some((one) => covers(one, share)));
  }

  get(digest: string): Holding | null {
    return this.#known.get(digest) ?? null;
  }

  /** The one used last comes first. */
  all(): readonly (readonly [string, Holding])[] {
    return [...this.#known].reverse();
  }

  begins(digest: string, bytes: number): void {
    const coming = this.#coming.get(digest);
    const count = (coming?.count ?? 0) + 1;
    this.#coming.set(digest, { bytes: Math.max(bytes, coming?.bytes ?? 0), count });
  }

  ends(digest: string): void {
    const coming = this.#coming.get(digest);
    if (coming === undefined || coming.count <= 1) this.#coming.delete(digest);
    else this.#coming.set(digest, { ...coming, count: coming.count - 1 });
  }

  get isFetching(): boolean {
    return this.#coming.size > 0;
  }

  /** What is being fetched counts as if it were here already. */
  usedBytes(): number {
    let sum = 0;
    for (const [digest, { bytes }] of this.#known) sum += Math.max(bytes, this.#coming.get(digest)?.bytes ?? 0);
    for (const [digest, { bytes }] of this.#coming) if (!this.#known.has(digest)) sum += bytes;
    return sum;
  }

  /** In part, for nothing known, and nobody fetches it: the one used longest ago first. */
  looseParts(never: ReadonlySet<string>): readonly CachedFile[] {
    return [...this.#known].flatMap(([id, { bytes, isWhole, shares }]) =>
      isWhole || shares.length > 0 || never.has(id) || this.#coming.has(id) ? [] : [{ id, bytes }],
    );
  }

  /** What to delete, in that order; null when all that may go is too little. Nothing is dropped yet but from the ranking. */
  victims(neededBytes: number, { never, last }: Keeping): readonly CachedFile[] | null {
    const loose = this.looseParts(never);
    const looseBytes = loose.reduce((sum, { bytes }) => sum + bytes, 0);
    const keep = new Set([...never, ...this.#coming.keys()]);
    const ranked = this.#order.victims(Math.max(0, neededBytes - looseBytes), keep, last);
    return ranked === null ? null : [...loose, ...ranked];
  }
}

function covers(outer: LayerShare, inner: LayerShare): boolean {
  return (
    outer.first <= inner.first &&
    outer.first + outer.count >= inner.first + inner.count &&
    (outer.hasEmbedding || !inner.hasEmbedding) &&
    (outer.hasOutput || !inner.hasOutput)
  );
}
