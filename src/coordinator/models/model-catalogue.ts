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
import { type Outcome, ok, refuse } from "../../domain/refusal.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { Log } from "../../ports/log.ts";
import type { ModelFile, ModelFiles } from "../../ports/model-files.ts";
import type { ModelRecord, Store } from "../../ports/store.ts";
import type { Tokenizer, TokenizerHost } from "../../ports/tokenizer.ts";
import { type FileManifest, readManifest } from "../../weights/model-reader.ts";

export interface CatalogueEntry {
  readonly manifest: ModelManifest;
  readonly weightsPath: string;
  readonly tokenizer: Tokenizer;
}

export interface AddModelTerms {
  readonly path: string;
  /** Without it the file's name is taken. */
  readonly id?: string | undefined;
  readonly inputMicroUsdPerMtok?: number | undefined;
  readonly outputMicroUsdPerMtok?: number | undefined;
  readonly warmReplicas?: number | undefined;
}

export interface ModelCataloguePorts {
  readonly store: Pick<Store, "models" | "meta">;
  readonly tokenizers: TokenizerHost;
  readonly modelFiles: ModelFiles;
  readonly crypto: Crypto;
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
    const id = terms.id ?? idFromPath(terms.path);
    if (!ID_PATTERNS.model.test(id)) {
      return refuse(
        "invalid-request",
        `${JSON.stringify(id)} is no model id: name one with letters, digits, . _ : / or -`,
        { param: "id" },
      );
    }
    if (this.#entries.size >= MODELS_MAX) {
      return refuse("invalid-request", `${this.#entries.size} models are registered, at most ${MODELS_MAX} may be`);
    }
    let file: ModelFile;
    try {
      file = await this.#ports.modelFiles.open(terms.path);
    } catch (thrown) {
      if (!(thrown instanceof FallowError)) throw thrown;
      return refuse("invalid-request", thrown.message, { param: "path" });
    }
    try {
      return await this.#addFile(asModelId(id), terms, file);
    } finally {
      await file.close();
    }
  }

  async #addFile(modelId: ModelId, terms: AddModelTerms, file: ModelFile): Promise<Outcome<ModelRecord>> {
    const { modelFiles, store, crypto } = this.#ports;
    const source = { sizeBytes: file.fileBytes, read: readUpToEnd(file) };
    const read = await readManifest(source, (data) => crypto.sha256(data));
    if (!read.ok) {
      return refuse("invalid-request", `${file.path}: ${read.reason.code}: ${read.reason.message}`, { param: "path" });
    }
    const weightsSha256 = await file.sha256(this.#stopping.signal);
    const known = await store.models.get(modelId);
    if (known !== null && known.manifest.weightsSha256 !== weightsSha256) {
      const message = `${modelId} is registered with other weights (${known.manifest.weightsSha256}); remove it first or choose another id`;
      return refuse("invalid-request", message, { param: "id" });
    }
    const manifest = this.#manifest({ modelId, weightsSha256, terms, known, file: read.value.manifest });
    const name = file.path.split(/[/\\]/).at(-1) ?? "model.gguf";
    const [weightsPath] = await modelFiles.keep([{ path: file.path, name, isOurs: false }], weightsSha256);
    assert(weightsPath !== undefined, "what was kept has a path");
    const record: ModelRecord = { manifest, weightsPath };
    const open = this.#entries.get(modelId)?.tokenizer ?? null;
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
    this.#entries.set(modelId, { ...record, tokenizer: tokenizer.value });
    this.#changed();
    this.#ports.log.info({ modelId, weightsSha256, fileBytes: manifest.fileBytes }, "model registered");
    return ok(record);
  }

  #manifest(parts: {
    modelId: ModelId;
    weightsSha256: Sha256Hex;
    terms: AddModelTerms;
    known: ModelRecord | null;
    file: FileManifest;
  }): ModelManifest {
    const { modelId, weightsSha256, terms, known, file } = parts;
    const before = known?.manifest ?? null;
    const price = before?.price ?? PRICE_DEFAULT;
    return {
      ...file,
      modelId,
      weightsSha256,
      price: {
        inputMicroUsdPerMtok: terms.inputMicroUsdPerMtok ?? price.inputMicroUsdPerMtok,
        outputMicroUsdPerMtok: terms.outputMicroUsdPerMtok ?? price.outputMicroUsdPerMtok,
      },
      warmReplicas: terms.warmReplicas ?? before?.warmReplicas ?? WARM_REPLICAS_DEFAULT,
      addedAtMs: before?.addedAtMs ?? Math.floor(this.#ports.clock.wallMs()),
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
    this.#entries.set(modelId, { ...record, tokenizer: tokenizer.value });
    this.#changed();
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

/** A byte source may be asked past its end; a file may not. */
function readUpToEnd(file: ModelFile): (offset: number, length: number) => Promise<Uint8Array> {
  return (offset, length) => {
    const available = Math.max(0, Math.min(length, file.fileBytes - offset));
    return available === 0 ? Promise.resolve(new Uint8Array(0)) : file.read(offset, available);
  };
}
