/**
 * The models that this grid serves: what their files say, where the files lie, and their open vocabularies. A model enters when
 * its file was read, hashed, kept in the home and its vocabulary opened; until then nobody sees it, and a crash in between
 * leaves at most an unused file that the next `add` of it meets again.
 */
import { assert } from "../../domain/assert.ts";
import { describeFault, FallowError } from "../../domain/fault.ts";
import { modelId as asModelId, ID_PATTERNS, type ModelId, type Sha256Hex } from "../../domain/ids.ts";
import type { ModelManifest } from "../../domain/model.ts";
import type { TokenPrice } from "../../domain/money.ts";
import { no, type Outcome, ok, type Refusal, refuse } from "../../domain/refusal.ts";
import type { WeightsOrigin } from "../../domain/weights.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Crypto, KeyPair } from "../../ports/crypto.ts";
import type { Log } from "../../ports/log.ts";
import type { ModelFiles } from "../../ports/model-files.ts";
import type { ModelRecord, Store } from "../../ports/store.ts";
import type { Tokenizer, TokenizerHost } from "../../ports/tokenizer.ts";
import { draftRefusal } from "./draft-model.ts";
import { describeWeights, type FileOfWeights, readWeights, type WeightsFacts } from "./read-weights.ts";

export interface CatalogueEntry {
  readonly manifest: ModelManifest;
  readonly weightsPath: string;
  readonly tokenizer: Tokenizer;
  /** False while the manifest is being made that nodes need to load it. */
  readonly isDescribed: boolean;
}

/** What an operator decides about a model; the rest is read from its files. */
export interface ModelTerms {
  /** Without it the file's name is taken. */
  readonly id?: string | undefined;
  readonly inputMicroUsdPerMtok?: number | undefined;
  readonly outputMicroUsdPerMtok?: number | undefined;
  readonly warmReplicas?: number | undefined;
  /** A registered model that drafts for it. */
  readonly draftModelId?: string | undefined;
}

export interface AddModelTerms extends ModelTerms {
  readonly path: string;
}

/** Weights that were read and hashed, and lie on this machine. */
export interface ReadyWeights {
  readonly facts: WeightsFacts;
  /** In load order. */
  readonly files: readonly { readonly path: string; readonly isOurs: boolean }[];
  readonly origin: WeightsOrigin;
  /** As the source tells; else the file's own is taken. */
  readonly licence: string | null;
  /** From where they can be fetched again; null for the operator's own files. */
  readonly source: string | null;
  readonly suggestedId: string;
}

export interface ModelCataloguePorts {
  readonly store: Pick<Store, "models" | "meta">;
  readonly tokenizers: TokenizerHost;
  readonly modelFiles: ModelFiles;
  readonly crypto: Crypto;
  /** Signs the manifests that nodes are given. */
  readonly gridKey: KeyPair;
  readonly clock: Clock;
  readonly log: Log;
}

/** 0.05 and 0.20 USD per million tokens: what small open models cost on public markets; operators set their own. */
export const PRICE_DEFAULT: TokenPrice = { inputMicroUsdPerMtok: 50_000, outputMicroUsdPerMtok: 200_000 };
/** A first request meets a loaded model. */
export const WARM_REPLICAS_DEFAULT = 1;
/** Models of one grid: each costs an open vocabulary in memory. */
export const MODELS_MAX = 256;
const BUNDLED_META = "bundled-model:";

export class ModelCatalogue {
  readonly #ports: ModelCataloguePorts;
  readonly #entries = new Map<ModelId, CatalogueEntry>();
  readonly #listeners: (() => void)[] = [];
  readonly #stopping = new AbortController();
  #sorted: readonly CatalogueEntry[] = [];
  /** One change at a time: two `add`s of one id must not both find it free. */
  #changes: Promise<unknown> = Promise.resolve();

  constructor(ports: ModelCataloguePorts) {
    this.#ports = ports;
  }

  /** Opens what the store knows, and adds the bundled models the first time. A model that cannot be opened is left out. */
  async start(): Promise<void> {
    for (const record of await this.#ports.store.models.list()) await this.#open(record);
    for (const bundled of this.#ports.modelFiles.bundled()) await this.#addBundled(bundled);
  }

  stop(): void {
    this.#stopping.abort();
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Sorted by id. */
  list(): readonly CatalogueEntry[] {
    return this.#sorted;
  }

  get(modelId: ModelId): CatalogueEntry | null {
    return this.#entries.get(modelId) ?? null;
  }

  /** The first by id of those with these weights. */
  byWeights(weightsSha256: Sha256Hex): CatalogueEntry | null {
    return this.#sorted.find(({ manifest }) => manifest.weightsSha256 === weightsSha256) ?? null;
  }

  /** Reads, checks, hashes, keeps and registers a file. The same file under the same id again changes nothing. */
  add(terms: AddModelTerms): Promise<Outcome<ModelRecord>> {
    return this.#inTurn(() => this.#add(terms));
  }

  /** Registers weights that are on this machine already; moves or copies their files into the home. */
  register(weights: ReadyWeights, terms: ModelTerms): Promise<Outcome<ModelRecord>> {
    return this.#inTurn(() => this.#register(weights, terms));
  }

  /** Refuses what is no id, and a model more than a grid may have. */
  checkId(id: string): Outcome<ModelId> {
    if (!ID_PATTERNS.model.test(id)) {
      const message = `${JSON.stringify(id)} is no model id: name one with letters, digits, . _ : / or -`;
      return refuse("invalid-request", message, { param: "id" });
    }
    if (this.#entries.size >= MODELS_MAX && !this.#entries.has(asModelId(id))) {
      return refuse("invalid-request", `${this.#entries.size} models are registered, at most ${MODELS_MAX} may be`);
    }
    return ok(asModelId(id));
  }

  /** Says why weights cannot have the id: other weights have it. Null when they can. */
  async conflictOf(modelId: ModelId, weightsSha256: Sha256Hex): Promise<Refusal | null> {
    return takenId(await this.#ports.store.models.get(modelId), weightsSha256);
  }

  /**
   * Makes the manifests that models of older versions lack, and until then no node is told to load these. Reads whole files, so nobody waits
   * for it; what cannot be read is logged and tried again at the next start.
   */
  async describeOlder(): Promise<void> {
    for (const { manifest, weightsPath } of this.#sorted) {
      if (this.#stopping.signal.aborted) return;
      try {
        await this.#describeOlder(manifest, weightsPath);
      } catch (thrown) {
        if (this.#stopping.signal.aborted) return;
        this.#ports.log.error({ modelId: manifest.modelId, cause: describeFault(thrown) }, "model has no manifest");
      }
    }
  }

  async #describeOlder({ modelId, weightsSha256, licence }: ModelManifest, weightsPath: string): Promise<void> {
    const { modelFiles, log } = this.#ports;
    if ((await modelFiles.content(weightsSha256)) !== null) return;
    const kept = (await modelFiles.kept(weightsSha256)) ?? [weightsPath];
    const nameOf = (path: string) => (kept.length === 1 ? `${modelId}.gguf` : (path.split(/[/\\]/).at(-1) ?? ""));
    const read = await this.#read(kept.map((path) => ({ path, name: nameOf(path), digests: null })));
    if (read.ok && read.value.weightsSha256 !== weightsSha256) {
      log.error({ modelId, weightsSha256, found: read.value.weightsSha256 }, "model's file is not the registered one");
      return;
    }
    const made = read.ok ? describeWeights(read.value, { origin: { kind: "local" }, licence }, this.#ports) : read;
    if (!made.ok) return log.error({ modelId, reason: made.reason.message }, "model has no manifest");
    await modelFiles.describe(weightsSha256, made.value);
    log.info({ modelId, weightsSha256 }, "manifest of an older model made");
    for (const entry of this.#sorted) {
      if (entry.manifest.weightsSha256 !== weightsSha256) continue;
      this.#entries.set(entry.manifest.modelId, { ...entry, isDescribed: true });
    }
    this.#changed();
  }

  /** Names the model that drafts for another, or none. Refuses one that cannot, with the reason. */
  setDraft(modelId: ModelId, draftModelId: string | null): Promise<Outcome<ModelRecord>> {
    return this.#inTurn(async () => {
      const known = await this.#ports.store.models.get(modelId);
      if (known === null) return refuse("not-found", `there is no model called ${JSON.stringify(modelId)}`);
      const { draftModelId: _, ...manifest } = known.manifest;
      const draft = draftModelId === null ? ok(null) : this.#checkDraft(manifest, draftModelId);
      if (!draft.ok) return draft;
      const record = { ...known, manifest: withDraft(manifest, draft.value) };
      await this.#ports.store.models.put(record);
      const entry = this.#entries.get(modelId);
      if (entry !== undefined) this.#entries.set(modelId, { ...entry, manifest: record.manifest });
      this.#changed();
      return ok(record);
    });
  }

  #checkDraft(model: Parameters<typeof draftRefusal>[0], named: string): Outcome<ModelId> {
    const draft = ID_PATTERNS.model.test(named) ? (this.#entries.get(asModelId(named))?.manifest ?? null) : null;
    const refusal = draftRefusal(model, draft, named);
    return refusal === null ? ok(asModelId(named)) : no(refusal);
  }

  /** False when there is no such model. Its file is deleted unless another model has the same. */
  remove(modelId: ModelId): Promise<boolean> {
    return this.#inTurn(async () => {
      const entry = this.#entries.get(modelId);
      if (!(await this.#ports.store.models.remove(modelId))) return false;
      this.#entries.delete(modelId);
      this.#changed();
      if (entry !== undefined) {
        await entry.tokenizer.close();
        await this.#discardUnused(entry.manifest.weightsSha256);
      }
      return true;
    });
  }

  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const turn = this.#changes.then(change);
    // Whoever asked for the change gets its fault; the next one in line only waits for it.
    this.#changes = turn.catch(() => undefined);
    return turn;
  }

  async #add(terms: AddModelTerms): Promise<Outcome<ModelRecord>> {
    const { path } = terms;
    const suggestedId = idFromPath(path);
    const free = this.checkId(terms.id ?? suggestedId);
    if (!free.ok) return free;
    const name = path.split(/[/\\]/).at(-1) ?? "model.gguf";
    const read = await this.#read([{ path, name, digests: null }]);
    if (!read.ok) return read;
    const files = [{ path, isOurs: false }];
    const origin = { kind: "local" } as const;
    return await this.#register({ facts: read.value, files, origin, licence: null, source: null, suggestedId }, terms);
  }

  async #read(files: readonly FileOfWeights[]): Promise<Outcome<WeightsFacts>> {
    try {
      return await readWeights(files, { ...this.#ports, signal: this.#stopping.signal });
    } catch (thrown) {
      if (!(thrown instanceof FallowError)) throw thrown;
      return refuse("invalid-request", thrown.message, { param: "path" });
    }
  }

  async #register(weights: ReadyWeights, terms: ModelTerms): Promise<Outcome<ModelRecord>> {
    const { modelFiles, store, log } = this.#ports;
    const { weightsSha256, names } = weights.facts;
    const named = this.checkId(terms.id ?? weights.suggestedId);
    if (!named.ok) return named;
    const id = named.value;
    const known = await store.models.get(id);
    const taken = takenId(known, weightsSha256);
    if (taken !== null) return no(taken);
    const draft =
      terms.draftModelId === undefined
        ? ok(known?.manifest.draftModelId ?? null)
        : this.#checkDraft({ ...weights.facts.read.manifest, modelId: id }, terms.draftModelId);
    if (!draft.ok) return draft;
    const licence = weights.licence ?? weights.facts.read.manifest.licence;
    const description = describeWeights(weights.facts, { origin: weights.origin, licence }, this.#ports);
    if (!description.ok) return description;
    const toKeep = weights.files.map((file, at) => ({ ...file, name: names[at] ?? "model.gguf" }));
    const [weightsPath] = await modelFiles.keep(toKeep, weightsSha256);
    assert(weightsPath !== undefined, "what was kept has a path");
    if ((await modelFiles.content(weightsSha256)) === null) await modelFiles.describe(weightsSha256, description.value);
    const record: ModelRecord = {
      manifest: withDraft(this.#manifest({ modelId: id, weights, licence, terms, known }), draft.value),
      weightsPath,
    };
    const open = this.#entries.get(id)?.tokenizer ?? null;
    const tokenizer = open === null ? await this.#openTokenizer(record) : ok(open);
    if (!tokenizer.ok) {
      await this.#discardUnused(weightsSha256);
      return tokenizer;
    }
    try {
      await store.models.put(record);
    } catch (thrown) {
      if (open === null) await tokenizer.value.close();
      throw thrown;
    }
    this.#entries.set(id, { ...record, tokenizer: tokenizer.value, isDescribed: true });
    this.#changed();
    log.info({ modelId: id, weightsSha256, fileBytes: record.manifest.fileBytes }, "model registered");
    return ok(record);
  }

  #manifest(parts: {
    modelId: ModelId;
    weights: ReadyWeights;
    licence: string | null;
    terms: ModelTerms;
    known: ModelRecord | null;
  }): ModelManifest {
    const { modelId, weights, licence, terms, known } = parts;
    const before = known?.manifest ?? null;
    const price = before?.price ?? PRICE_DEFAULT;
    const source = weights.source ?? before?.source ?? null;
    return {
      ...weights.facts.read.manifest,
      licence,
      modelId,
      weightsSha256: weights.facts.weightsSha256,
      price: {
        inputMicroUsdPerMtok: terms.inputMicroUsdPerMtok ?? price.inputMicroUsdPerMtok,
        outputMicroUsdPerMtok: terms.outputMicroUsdPerMtok ?? price.outputMicroUsdPerMtok,
      },
      warmReplicas: terms.warmReplicas ?? before?.warmReplicas ?? WARM_REPLICAS_DEFAULT,
      addedAtMs: before?.addedAtMs ?? Math.floor(this.#ports.clock.wallMs()),
      ...(source === null ? {} : { source }),
    };
  }

  async #openTokenizer(record: ModelRecord): Promise<Outcome<Tokenizer>> {
    const { modelId } = record.manifest;
    try {
      return ok(await this.#ports.tokenizers.open({ modelId, weightsPath: record.weightsPath }));
    } catch (thrown) {
      if (!(thrown instanceof FallowError)) throw thrown;
      return refuse("invalid-request", `the vocabulary of ${modelId} cannot be opened: ${describeFault(thrown)}`, {
        param: "path",
      });
    }
  }

  async #open(record: ModelRecord): Promise<void> {
    const tokenizer = await this.#openTokenizer(record);
    const { modelId } = record.manifest;
    if (!tokenizer.ok) {
      this.#ports.log.error({ modelId, reason: tokenizer.reason.message }, "model left out");
      return;
    }
    const isDescribed = await this.#isDescribed(record.manifest);
    this.#entries.set(modelId, { ...record, tokenizer: tokenizer.value, isDescribed });
    this.#changed();
  }

  /** A manifest that cannot be read counts as none. */
  async #isDescribed({ modelId, weightsSha256 }: ModelManifest): Promise<boolean> {
    try {
      return (await this.#ports.modelFiles.content(weightsSha256)) !== null;
    } catch (thrown) {
      this.#ports.log.error({ modelId, cause: describeFault(thrown) }, "model's manifest cannot be read");
      return false;
    }
  }

  /** Once in a grid's life: an operator who removed it does not get it back. */
  async #addBundled(bundled: { modelId: ModelId; path: string }): Promise<void> {
    const { store, log } = this.#ports;
    const { modelId, path } = bundled;
    const mark = `${BUNDLED_META}${modelId}`;
    if ((await store.meta.get(mark)) !== null) return;
    const added = await this.add({ path, id: modelId });
    if (added.ok) await store.meta.set(mark, added.value.manifest.weightsSha256);
    else log.error({ modelId, path, reason: added.reason.message }, "bundled model left out");
  }

  async #discardUnused(weightsSha256: Sha256Hex): Promise<void> {
    const isUsed = (await this.#ports.store.models.list()).some(
      ({ manifest }) => manifest.weightsSha256 === weightsSha256,
    );
    if (!isUsed) await this.#ports.modelFiles.discard(weightsSha256);
  }

  #changed(): void {
    this.#sorted = [...this.#entries.values()].sort((a, b) => (a.manifest.modelId < b.manifest.modelId ? -1 : 1));
    for (const listener of this.#listeners) listener();
  }
}

/** `/models/Qwen 2.5.Q8_0.gguf` gives `qwen-2.5.q8_0`. */
export function idFromPath(path: string): string {
  const name = path.split(/[/\\]/).at(-1) ?? "";
  return name
    .replace(/\.gguf$/i, "")
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, "-")
    .replace(/^[^a-z0-9]+/, "")
    .slice(0, 128);
}

function withDraft(manifest: ModelManifest, draftModelId: ModelId | null): ModelManifest {
  return draftModelId === null ? manifest : { ...manifest, draftModelId };
}

function takenId(known: ModelRecord | null, weightsSha256: Sha256Hex): Refusal | null {
  if (known === null || known.manifest.weightsSha256 === weightsSha256) return null;
  const message = `${known.manifest.modelId} is registered with other weights (${known.manifest.weightsSha256}); remove it first or choose another id`;
  return { code: "invalid-request", message, param: "id", retryAfterMs: null };
}
