/**
 * The Store port in memory, for the simulator. What is durable lives in a `MemoryDisk`, which outlives the store: after
 * `crash()` a new store over the same disk sees exactly what was acknowledged, and whatever was still on its way is lost, or
 * (as on a real disk) written without anybody having heard of it.
 *
 * It passes the contract suite of the real stores. It does no input or output, and a write takes its time on the Clock port.
 */
import { FallowError } from "../../domain/fault.ts";
import type { BatchStore, FileStore } from "../../ports/batch-store.ts";
import type { Clock } from "../../ports/clock.ts";
import type { ResponseStore } from "../../ports/response-store.ts";
import type {
  IdempotencyStore,
  JoinTokenStore,
  KeyStore,
  LeaseStore,
  LedgerStore,
  MetaStore,
  ModelStore,
  NodeStore,
  ProviderStore,
  ReceiptStore,
  SpendingStore,
  Store,
  TenantStore,
} from "../../ports/store.ts";
import { memoryBatches, memoryFiles } from "./memory-batches.ts";
import { createMemoryDisk, type MemoryDisk, type MemoryRead, type MemoryWrite } from "./memory-disk.ts";
import { memoryLeases } from "./memory-leases.ts";
import { memoryLedger, memoryReceipts, memorySpending } from "./memory-ledger.ts";
import { memoryProviders } from "./memory-providers.ts";
import {
  memoryIdempotency,
  memoryJoinTokens,
  memoryKeys,
  memoryMeta,
  memoryModels,
  memoryNodes,
  memoryTenants,
} from "./memory-records.ts";
import { memoryResponses } from "./memory-responses.ts";

export interface MemoryStoreOptions {
  /** What a durable write takes on the clock; 0 writes at once. */
  readonly writeLatencyMs: number;
}

interface PendingWrite {
  apply(): void;
  acknowledge(): void;
}

export class MemoryStore implements Store {
  readonly meta: MetaStore;
  readonly tenants: TenantStore;
  readonly keys: KeyStore;
  readonly joinTokens: JoinTokenStore;
  readonly nodes: NodeStore;
  readonly models: ModelStore;
  readonly ledger: LedgerStore;
  readonly receipts: ReceiptStore;
  readonly idempotency: IdempotencyStore;
  readonly leases: LeaseStore;
  readonly spending: SpendingStore;
  readonly responses: ResponseStore;
  readonly providers: ProviderStore;
  readonly files: FileStore;
  readonly batches: BatchStore;
  readonly disk: MemoryDisk;
  readonly #options: MemoryStoreOptions;
  readonly #clock: Clock;
  readonly #pending: PendingWrite[] = [];
  #state: "open" | "closed" | "crashed" = "open";
  #fault: FallowError | null = null;

  constructor(options: MemoryStoreOptions, ports: { clock: Clock; disk?: MemoryDisk }) {
    this.#options = options;
    this.#clock = ports.clock;
    this.disk = ports.disk ?? createMemoryDisk();
    const write: MemoryWrite = (work) => this.#write(work);
    const read: MemoryRead = (work) => this.#read(work);
    this.meta = memoryMeta(read, write);
    this.tenants = memoryTenants(read, write);
    this.keys = memoryKeys(read, write);
    this.joinTokens = memoryJoinTokens(read, write);
    this.nodes = memoryNodes(read, write);
    this.models = memoryModels(read, write);
    this.ledger = memoryLedger(read, write);
    this.receipts = memoryReceipts(read, write);
    this.idempotency = memoryIdempotency(write);
    this.leases = memoryLeases(read, write);
    this.spending = memorySpending(read);
    this.responses = memoryResponses(read, write);
    this.providers = memoryProviders(read, write);
    this.files = memoryFiles(read, write);
    this.batches = memoryBatches(read, write);
  }

  /** The process dies: nothing pending is ever acknowledged; the first `appliedWrites` of it reached the disk all the same. */
  crash(options: { appliedWrites: number } = { appliedWrites: 0 }): void {
    this.#state = "crashed";
    for (const write of this.#pending.splice(0).slice(0, options.appliedWrites)) write.apply();
  }

  /** From now on every write fails with this fault (a full disk); null: the disk works again. */
  breakWith(fault: FallowError | null): void {
    this.#fault = fault;
  }

  get pendingWrites(): number {
    return this.#pending.length;
  }

  close(): Promise<void> {
    if (this.#state === "open") this.#state = "closed";
    return this.#pending.length === 0 ? Promise.resolve() : this.#afterPending();
  }

  #afterPending(): Promise<void> {
    return new Promise((resolve) => {
      this.#pending.push({ apply: () => undefined, acknowledge: resolve });
      this.#clock.setTimer(this.#options.writeLatencyMs, () => this.#landNext());
    });
  }

  #read<T>(work: (disk: MemoryDisk) => T): Promise<T> {
    if (this.#state === "crashed") return new Promise(() => undefined);
    return attempt(() => work(this.disk));
  }

  #write<T>(work: (disk: MemoryDisk) => T): Promise<T> {
    if (this.#state === "crashed") return new Promise(() => undefined);
    if (this.#state === "closed") return Promise.reject(new FallowError("store-closed", "the store was closed"));
    if (this.#options.writeLatencyMs === 0) return attempt(() => this.#land(work));
    return new Promise((resolve, reject) => {
      let landed: Promise<T> | null = null;
      this.#pending.push({
        apply: () => {
          landed = attempt(() => this.#land(work));
          landed.catch(() => undefined); // whoever asked gets it below; after a crash nobody does
        },
        acknowledge: () => void landed?.then(resolve, reject),
      });
      this.#clock.setTimer(this.#options.writeLatencyMs, () => this.#landNext());
    });
  }

  /** Writes land in the order in which they were asked for. */
  #landNext(): void {
    const write = this.#pending.shift();
    write?.apply();
    write?.acknowledge();
  }

  #land<T>(work: (disk: MemoryDisk) => T): T {
    if (this.#fault !== null) throw this.#fault;
    return work(this.disk);
  }
}

function attempt<T>(work: () => T): Promise<T> {
  try {
    return Promise.resolve(work());
  } catch (cause) {
    return Promise.reject(cause);
  }
}
