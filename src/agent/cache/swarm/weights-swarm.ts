/**
 * A node's weights, chunk by chunk: fetched from other nodes where they have them, from the coordinator's source where nobody does, kept in
 * the machine's store, and served to others while the owner lets it. One transfer for each model; one that somebody waits for holds
 * those back that run ahead of need. docs/weights.md tells the whole.
 */

import type { ChunkSet } from "../../../domain/chunk-set.ts";
import { describeFault, FallowError } from "../../../domain/fault.ts";
import { type Sha256Hex, sha256Hex } from "../../../domain/ids.ts";
import type { LayerShare, WeightsManifest } from "../../../domain/weights.ts";
import type { ChunkStore, StoredWeights } from "../../../ports/chunk-store.ts";
import type { Clock } from "../../../ports/clock.ts";
import type { Crypto, KeyPair } from "../../../ports/crypto.ts";
import type { Log } from "../../../ports/log.ts";
import type { PeerNetwork } from "../../../ports/peer-link.ts";
import type { Random } from "../../../ports/random.ts";
import type { CachedWeights, WeightsCache, WeightsWant } from "../../../ports/weights-cache.ts";
import type { WeightsSource } from "../../../ports/weights-source.ts";
import { NO_LIMITS, type TransferLimits } from "../../../scheduler/distribution/transfer-limits.ts";
import { bytesOfChunks, chunksOfLayers, isShareOf } from "../../../weights/chunks-of-layers.ts";
import type { Line, PeerHandler, PeerOrder } from "../../session.ts";
import { AskedBytes } from "./asked-bytes.ts";
import { ByteBudget } from "./byte-budget.ts";
import { CoordinatorLine } from "./coordinator-line.ts";
import { GrantDesk } from "./grant-desk.ts";
import { HaveNews } from "./have-news.ts";
import { ModelTransfer } from "./model-transfer.ts";
import { type OpenModel, OpenModels } from "./open-models.ts";
import { PeerConduct } from "./peer-conduct.ts";
import { Throttle } from "./throttle.ts";
import type { SwarmPorts } from "./transfer-env.ts";
import { keptContent, trustedContent } from "./trusted-content.ts";
import { UploadDesk } from "./upload-desk.ts";

export interface WeightsSwarmPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly crypto: Crypto;
  readonly log: Log;
  readonly store: ChunkStore;
  readonly source: WeightsSource;
  /** Null where the node takes weights from the coordinator alone. */
  readonly network: PeerNetwork | null;
}

export interface WeightsSwarmOptions {
  readonly keyPair: KeyPair;
  /** Asked for again and again: quiet hours follow the owner's clock. */
  readonly uploadLimits?: () => TransferLimits;
  readonly downloadLimits?: () => TransferLimits;
  /** What somebody waited for is here. */
  readonly onFetched?: (fetched: FetchedView) => void;
}

/** What was fetched for one who waited, and from whom; what lay here before does not count. */
export interface FetchedView {
  readonly weightsSha256: Sha256Hex;
  readonly label: string;
  readonly isIdle: boolean;
  readonly peerBytes: number;
  readonly sourceBytes: number;
  /** That brought some of it. */
  readonly nodes: number;
  readonly tookMs: number;
  /** To other nodes since the start, of all models. */
  readonly uploadedBytes: number;
}

/** What is told of a transfer while it runs. */
export interface TransferView {
  readonly weightsSha256: Sha256Hex;
  readonly label: string;
  readonly isIdle: boolean;
  readonly doneBytes: number;
  readonly neededBytes: number;
  /** Kept since it began, by where they came from. */
  readonly peerBytes: number;
  readonly sourceBytes: number;
  /** That something comes from at this moment. */
  readonly peers: number;
}

/** Of chunks on their way, all models together. */
const BUFFER_BYTES_MAX = 64 * 1024 * 1024;
/** How often what was verified may turn out damaged before it is given up. */
const DAMAGED_TRIES_MAX = 3;
const LABEL_CHARS = 12;

interface RunningTransfer {
  readonly transfer: ModelTransfer;
  readonly label: string;
  doneBytes: number;
  neededBytes: number;
}

export class WeightsSwarm implements WeightsCache, PeerHandler {
  readonly #ports: WeightsSwarmPorts;
  readonly #line: CoordinatorLine;
  readonly #models: OpenModels;
  readonly #have: HaveNews;
  readonly #uploads: UploadDesk;
  readonly #upload: Throttle;
  readonly #shared: SwarmPorts;
  readonly #transfers = new Map<string, RunningTransfer>();
  readonly #onFetched: (fetched: FetchedView) => void;
  #isYielding = false;
  #restored: Promise<void> | null = null;

  constructor(ports: WeightsSwarmPorts, options: WeightsSwarmOptions) {
    const { clock, random, log, crypto, network, source, store } = ports;
    this.#ports = ports;
    this.#onFetched = options.onFetched ?? (() => undefined);
    this.#line = new CoordinatorLine(clock);
    const line = this.#line;
    this.#models = new OpenModels(store);
    this.#upload = new Throttle(clock, options.uploadLimits ?? (() => NO_LIMITS));
    const grants = new GrantDesk({ crypto, line, gridId: () => line.gridId }, options.keyPair);
    this.#uploads = new UploadDesk({
      models: this.#models,
      grants,
      throttle: this.#upload,
      onChange: (weightsSha256) => this.#have.changed(weightsSha256),
    });
    this.#have = new HaveNews({ clock, line, models: this.#models, uploads: () => this.#uploads });
    this.#shared = {
      clock,
      log,
      random,
      line,
      network,
      source,
      buffers: new ByteBudget(BUFFER_BYTES_MAX, () => this.#lookAll()),
      asked: new AskedBytes(clock),
      download: new Throttle(clock, options.downloadLimits ?? (() => NO_LIMITS)),
      conduct: new PeerConduct({ clock, random, log, line }),
    };
    network?.serve({
      admit: (credential, peerKeyHex) => {
        const admission = grants.admit(credential, peerKeyHex);
        if (!admission.ok) {
          log.info({ peerKeyHex, reason: admission.reason.message }, "grant refused");
          return admission;
        }
        return { ok: true, expiresAtMs: clock.wallMs() + admission.grant.expiresAtMs - (line.nowMs() ?? 0) };
      },
      onFetch: (request, peerKeyHex) => this.#uploads.answer(request, peerKeyHex),
      // Weights need none; whoever sends one anyway has said it to nobody.
      onMessage: () => undefined,
    });
  }

  // ------------------------------------------------------------ the cache

  async ensure(
    want: WeightsWant,
    options: { signal: AbortSignal; onProgress: (doneBytes: number) => void },
  ): Promise<string> {
    const { signal, onProgress } = options;
    const { weightsSha256, layers = null } = want;
    const model = await this.#opened(weightsSha256, signal);
    const { manifest } = model.content;
    const need = neededChunks(manifest, layers);
    for (let tries = 1; ; tries++) {
      if (!model.stored.have.includes(need)) await this.#fetch(model, want, { need, signal, onProgress });
      try {
        const path = await model.stored.path(layers === null ? undefined : need, { signal });
        onProgress(bytesOfChunks(manifest, need));
        this.#have.changed(weightsSha256); // what lay here before this boot was checked only now
        return path;
      } catch (thrown) {
        const isIncomplete = thrown instanceof FallowError && thrown.code === "weights-incomplete";
        if (!isIncomplete || tries >= DAMAGED_TRIES_MAX) throw thrown;
        this.#ports.log.warn({ weightsSha256, cause: describeFault(thrown) }, "weights were damaged on the disk");
        this.#have.changed(weightsSha256);
      }
    }
  }

  async bytesOf({ weightsSha256, layers = null }: WeightsWant, { signal }: { signal: AbortSignal }): Promise<number> {
    const { manifest } = (await this.#opened(weightsSha256, signal)).content;
    return bytesOfChunks(manifest, neededChunks(manifest, layers));
  }

  rest(weightsSha256: Sha256Hex): void {
    this.#models.get(weightsSha256)?.stored.rest();
  }

  async has(weightsSha256: Sha256Hex): Promise<boolean> {
    const models = await this.#ports.store.list();
    return models.some((model) => model.weightsSha256 === weightsSha256 && model.isWhole);
  }

  async list(): Promise<readonly CachedWeights[]> {
    const models = await this.#ports.store.list();
    return models
      .filter(({ isWhole }) => isWhole)
      .map(({ weightsSha256, totalBytes }) => ({ weightsSha256, fileBytes: totalBytes }));
  }

  async listPartial(): Promise<readonly CachedWeights[]> {
    const models = await this.#ports.store.list();
    return models
      .filter(({ isWhole }) => !isWhole)
      .map(({ weightsSha256, onDiskBytes, totalBytes }) => ({ weightsSha256, fileBytes: onDiskBytes, totalBytes }));
  }

  async remove(weightsSha256: Sha256Hex): Promise<void> {
    await this.#models.close(weightsSha256);
    this.#transfers.delete(weightsSha256);
    this.#have.changed(weightsSha256);
    await this.#ports.store.remove(weightsSha256);
  }

  freeBytes(): Promise<number | null> {
    return this.#ports.store.freeBytes();
  }

  /** Opens what lies in the store, for the caller to close; null when it is not there, or not this grid's. */
  async openKept(weightsSha256: Sha256Hex, signal: AbortSignal): Promise<StoredWeights | null> {
    const { store, source, crypto, log } = this.#ports;
    const content = await keptContent({ store, source, crypto, log, line: this.#line }, weightsSha256);
    return content === null ? null : await store.open(content, { signal });
  }

  /** The grid is known, nothing is being fetched, and the owner is not at the machine. */
  get isQuiet(): boolean {
    return (
      this.#line.gridKeyHex !== null &&
      !this.#isYielding &&
      ![...this.#transfers.values()].some(({ transfer }) => transfer.isBusy)
    );
  }

  /** Chunks turned out damaged: others are told that they are not here. */
  onDamaged(weightsSha256: Sha256Hex): void {
    this.#have.changed(weightsSha256);
  }

  // ------------------------------------------------------------ the line

  onLineUp(line: Line): void {
    this.#line.up(line);
    for (const { transfer } of this.#transfers.values()) transfer.onLineUp();
    this.#restored ??= this.#restore();
    void this.#restored.then(() => this.#have.changedAll());
  }

  onLineDown(): void {
    this.#line.down();
  }

  onPeerOrder(order: PeerOrder): void {
    switch (order.type) {
      case "weights.holders":
        this.#transfers.get(order.weightsSha256)?.transfer.onHolders(order);
        return;
      case "weights.claimed":
        this.#transfers.get(order.weightsSha256)?.transfer.onClaimed(order);
        return;
      case "relay.offer":
      case "relay.refused":
        return; // the relay's
    }
  }

  /** The owner came (true) or left: nothing moves while he is here. */
  onYield(isYielding: boolean): void {
    this.#isYielding = isYielding;
    this.#upload.yields(isYielding);
    this.#uploads.pause(isYielding);
    this.#lookAll();
    this.#have.changedAll();
  }

  // ------------------------------------------------------------ the owner

  /** Transfers that somebody waits for, in the order in which they began. */
  transfers(): readonly TransferView[] {
    return [...this.#transfers.values()]
      .filter(({ transfer }) => transfer.isBusy)
      .map(({ transfer, label, doneBytes, neededBytes }) => ({
        weightsSha256: transfer.model.weightsSha256,
        label,
        isIdle: transfer.isIdle,
        doneBytes,
        neededBytes,
        ...transfer.counts,
        peers: transfer.peerCount,
      }));
  }

  /** Since the start. */
  get uploadedBytes(): number {
    return this.#uploads.sentBytes;
  }

  /** After the agent's own end. May be called twice. */
  async close(): Promise<void> {
    this.#have.stop();
    this.#uploads.pause(true);
    await this.#models.closeAll();
  }

  // ------------------------------------------------------------ within

  async #opened(weightsSha256: Sha256Hex, signal: AbortSignal): Promise<OpenModel> {
    const { store, source, crypto, log } = this.#ports;
    const known = this.#models.get(weightsSha256);
    if (known !== null) return known;
    const content = await trustedContent({ store, source, crypto, log, line: this.#line }, weightsSha256, signal);
    return await this.#models.open(content, signal);
  }

  async #fetch(
    model: OpenModel,
    want: WeightsWant,
    { need, signal, onProgress }: { need: ChunkSet; signal: AbortSignal; onProgress: (doneBytes: number) => void },
  ): Promise<void> {
    if (this.#shared.download.isShut) {
      const what = `the owner of this machine lets nothing be downloaded now (quiet hours, or a cap of 0): ${want.weightsSha256} is not here`;
      const code = this.#isYielding ? "weights-unreachable" : "downloads-shut";
      throw new FallowError(code, what, { data: { weightsSha256: want.weightsSha256 } });
    }
    const running = this.#running(model, want);
    running.neededBytes = bytesOfChunks(model.content.manifest, need);
    const { clock, log } = this.#ports;
    const [before, startedMs, isIdle] = [running.transfer.counts, clock.monoMs(), want.isIdle ?? false];
    await running.transfer.want({
      need,
      isIdle,
      signal,
      onProgress: (doneBytes) => {
        running.doneBytes = doneBytes;
        onProgress(doneBytes);
      },
    });
    const { counts } = running.transfer;
    const fetched: FetchedView = {
      weightsSha256: want.weightsSha256,
      label: running.label,
      isIdle,
      peerBytes: counts.peerBytes - before.peerBytes,
      sourceBytes: counts.sourceBytes - before.sourceBytes,
      nodes: counts.nodes,
      tookMs: Math.round(clock.monoMs() - startedMs),
      uploadedBytes: this.uploadedBytes,
    };
    log.info({ ...fetched }, "weights fetched");
    this.#onFetched(fetched);
  }

  #running(model: OpenModel, { label }: WeightsWant): RunningTransfer {
    const { weightsSha256 } = model;
    const known = this.#transfers.get(weightsSha256);
    if (known !== undefined && known.transfer.model === model) return known;
    const transfer: ModelTransfer = new ModelTransfer(model, this.#shared, {
      mayMove: () => this.#mayMove(transfer),
      onKept: () => this.#have.changed(weightsSha256),
      tellHave: () => this.#have.flush(weightsSha256),
      onBusy: () => this.#lookAll(),
    });
    const running = { transfer, label: label ?? weightsSha256.slice(0, LABEL_CHARS), doneBytes: 0, neededBytes: 0 };
    this.#transfers.set(weightsSha256, running);
    return running;
  }

  #mayMove(transfer: ModelTransfer): boolean {
    if (this.#isYielding || this.#shared.download.isShut) return false;
    if (!transfer.isIdle) return true;
    return ![...this.#transfers.values()].some((other) => other.transfer.isBusy && !other.transfer.isIdle);
  }

  #lookAll(): void {
    for (const { transfer } of this.#transfers.values()) if (transfer.isBusy) transfer.look();
  }

  /** Opens what lies in the store, to serve it. Never rejects. */
  async #restore(): Promise<void> {
    const { store, source, crypto, log, network } = this.#ports;
    if (network === null) return;
    const never = new AbortController().signal;
    try {
      for (const { weightsSha256 } of await store.list()) {
        if (this.#models.get(weightsSha256) !== null) continue;
        const content = await keptContent({ store, source, crypto, log, line: this.#line }, sha256Hex(weightsSha256));
        if (content !== null) await this.#models.open(content, never);
        this.#have.changed(weightsSha256);
      }
    } catch (thrown) {
      // What cannot be opened is not served; it is looked at again when it is needed.
      log.warn({ cause: describeFault(thrown) }, "stored weights cannot be served");
    }
  }
}

function neededChunks(manifest: WeightsManifest, layers: LayerShare | null): ChunkSet {
  if (layers === null || isShareOf(manifest, layers)) return chunksOfLayers(manifest, layers);
  const what = `layers ${layers.first} to ${layers.first + layers.count - 1} of a model of ${manifest.layerCount}`;
  throw new FallowError("weights-share-invalid", what, { data: { weightsSha256: manifest.weightsSha256, ...layers } });
}
