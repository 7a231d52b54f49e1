/**
 * The SQLite store with its writes in a thread of their own. A durable commit blocks the thread that makes it for as long as
 * the disk takes, and streams must not stand still for that; reads take tens of microseconds and stay in the caller's thread,
 * where they need no answer from elsewhere.
 *
 * A write travels as the name of a method with its arguments, which are plain data. In the thread runs the same SqlStore, so
 * everything about writes (grouping, errors, order) is as there. A fault comes back with its code and data.
 */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { FallowError } from "../../domain/fault.ts";
import type { Store } from "../../ports/store.ts";
import { SqlStore } from "./sql-store.ts";
import { openSqliteReader, type SqliteOptions } from "./sqlite.ts";
import type { ThreadAnswer, ThreadCall, WriteName } from "./sqlite-thread-messages.ts";

type Pending = { resolve(value: unknown): void; reject(cause: unknown): void };

/** As `openSqliteStore`; the thread does not keep the process alive while nothing is being written. */
export async function openThreadedSqliteStore(options: SqliteOptions & { readonly nowMs: number }): Promise<Store> {
  const thread = new WriterThread(options);
  await thread.opened();
  try {
    return composed(new SqlStore(openSqliteReader(options)), thread);
  } catch (cause) {
    await thread.close();
    throw cause;
  }
}

class WriterThread {
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  #calls = 0;
  /** Asked for in this turn: they go over in one message. */
  #outbox: ThreadCall[] = [];
  #end: FallowError | null = null;

  constructor(options: SqliteOptions & { readonly nowMs: number }) {
    // Compiled, this file and the worker's are .js; in a clone both are .ts.
    const extension = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
    this.#worker = new Worker(new URL(`./sqlite-thread-worker${extension}`, import.meta.url), { workerData: options });
    this.#worker.on("message", (answers: readonly ThreadAnswer[]) => {
      for (const answer of answers) this.#settle(answer);
      if (this.#pending.size === 0) this.#worker.unref();
    });
    this.#worker.on("error", (cause) => this.#fail(cause));
    this.#worker.on("exit", (code) => this.#fail(new Error(`the writing thread ended with code ${code}`)));
  }

  opened(): Promise<void> {
    return this.#call("open", []);
  }

  write<T>(name: WriteName, ...values: readonly unknown[]): Promise<T> {
    return this.#call(name, values);
  }

  async close(): Promise<void> {
    if (this.#end !== null) return;
    const exited = once(this.#worker, "exit");
    await this.#call("close", []);
    this.#end = new FallowError("store-closed", "the store was closed");
    this.#worker.ref();
    await exited;
  }

  #call<T>(name: ThreadCall["name"], values: readonly unknown[]): Promise<T> {
    if (this.#end !== null) return Promise.reject(this.#end);
    return new Promise<T>((resolve, reject) => {
      const id = this.#calls++;
      // The answer to a call has the type that the same method of SqlStore resolves with.
      this.#pending.set(id, { resolve: (value) => resolve(value as T), reject });
      if (this.#pending.size === 1) this.#worker.ref();
      if (this.#outbox.length === 0) setImmediate(() => this.#send());
      this.#outbox.push({ id, name, values });
    });
  }

  #send(): void {
    const calls = this.#outbox;
    this.#outbox = [];
    this.#worker.postMessage(calls);
  }

  #settle(answer: ThreadAnswer): void {
    const pending = this.#pending.get(answer.id);
    this.#pending.delete(answer.id);
    if (answer.fault === null) pending?.resolve(answer.value);
    else pending?.reject(revived(answer.fault));
  }

  #fail(cause: unknown): void {
    this.#end ??= new FallowError("store-unavailable", "the thread that writes to the database ended", { cause });
    for (const { reject } of this.#pending.values()) reject(this.#end);
    this.#pending.clear();
  }
}

function revived(fault: NonNullable<ThreadAnswer["fault"]>): Error {
  const cause = fault.cause === null ? undefined : new Error(fault.cause);
  if (fault.code === null) return new Error(fault.message, { cause });
  return new FallowError(fault.code, fault.message, { data: fault.data, cause });
}

/** Reads from `local`, whose connection can only read; writes through the thread. */
function composed(local: SqlStore, thread: WriterThread): Store {
  const { meta, tenants, keys, joinTokens, nodes, models, ledger, receipts } = local;
  let closing: Promise<void> | null = null;
  return {
    meta: {
      get: (name) => meta.get(name),
      set: (name, value) => thread.write("meta.set", name, value),
      increment: (name) => thread.write("meta.increment", name),
    },
    tenants: {
      create: (tenant) => thread.write("tenants.create", tenant),
      get: (id) => tenants.get(id),
      list: () => tenants.list(),
      setLimits: (id, limits) => thread.write("tenants.setLimits", id, limits),
    },
    keys: {
      create: (key) => thread.write("keys.create", key),
      findBySecret: (secretSha256) => keys.findBySecret(secretSha256),
      get: (id) => keys.get(id),
      list: () => keys.list(),
      revoke: (id, atMs) => thread.write("keys.revoke", id, atMs),
      update: (id, terms) => thread.write("keys.update", id, terms),
      spent: (id) => keys.spent(id),
    },
    joinTokens: {
      create: (token) => thread.write("joinTokens.create", token),
      use: (use) => thread.write("joinTokens.use", use),
      list: () => joinTokens.list(),
    },
    nodes: {
      put: (node) => thread.write("nodes.put", node),
      get: (id) => nodes.get(id),
      list: () => nodes.list(),
    },
    models: {
      put: (model) => thread.write("models.put", model),
      get: (id) => models.get(id),
      list: () => models.list(),
      remove: (id) => thread.write("models.remove", id),
    },
    ledger: {
      apply: (transfers) => thread.write("ledger.apply", transfers),
      account: (id) => ledger.account(id),
      accounts: () => ledger.accounts(),
      transfers: (page) => ledger.transfers(page),
      openHolds: () => ledger.openHolds(),
      heldShares: (filter) => ledger.heldShares(filter),
    },
    receipts: {
      settle: (settlement) => thread.write("receipts.settle", settlement),
      get: (id) => receipts.get(id),
      byRequest: (id) => receipts.byRequest(id),
      list: (page) => receipts.list(page),
      leafCount: () => receipts.leafCount(),
      leaves: (range) => receipts.leaves(range),
      usage: (filter) => receipts.usage(filter),
    },
    idempotency: {
      begin: (entry) => thread.write("idempotency.begin", entry),
      finish: (entry) => thread.write("idempotency.finish", entry),
      forget: (entry) => thread.write("idempotency.forget", entry),
      sweep: (options) => thread.write("idempotency.sweep", options),
    },
    leases: leasesThrough(thread, local.leases),
    spending: local.spending,
    responses: responsesThrough(thread, local.responses),
    providers: providersThrough(thread, local.providers),
    files: filesThrough(thread, local.files),
    batches: batchesThrough(thread, local.batches),
    close: () => {
      // The reader closes last and folds the log into the file.
      closing ??= thread.close().then(() => local.close());
      return closing;
    },
  };
}

function leasesThrough(thread: WriterThread, leases: Store["leases"]): Store["leases"] {
  return {
    offer: (offered) => thread.write("leases.offer", offered),
    grant: (wants) => thread.write("leases.grant", wants),
    renew: (renewals) => thread.write("leases.renew", renewals),
    end: (refs) => thread.write("leases.end", refs),
    expire: (options) => thread.write("leases.expire", options),
    live: (page) => leases.live(page),
    nodes: () => leases.nodes(),
  };
}

function responsesThrough(thread: WriterThread, responses: Store["responses"]): Store["responses"] {
  return {
    put: (response, quota) => thread.write("responses.put", response, quota),
    get: (ref, nowMs) => responses.get(ref, nowMs),
    chain: (ref, options) => responses.chain(ref, options),
    remove: (ref) => thread.write("responses.remove", ref),
    sweep: (options) => thread.write("responses.sweep", options),
  };
}

function providersThrough(thread: WriterThread, providers: Store["providers"]): Store["providers"] {
  return {
    put: (spec) => thread.write("providers.put", spec),
    get: (providerId) => providers.get(providerId),
    list: () => providers.list(),
    remove: (providerId) => thread.write("providers.remove", providerId),
  };
}

function filesThrough(thread: WriterThread, files: Store["files"]): Store["files"] {
  return {
    create: (file) => thread.write("files.create", file),
    get: (id) => files.get(id),
    list: (page) => files.list(page),
    remove: (id) => thread.write("files.remove", id),
    bytesOf: (id) => files.bytesOf(id),
    countOf: (id) => files.countOf(id),
    expired: (filter) => files.expired(filter),
  };
}

function batchesThrough(thread: WriterThread, batches: Store["batches"]): Store["batches"] {
  return {
    create: (record) => thread.write("batches.create", record),
    get: (id) => batches.get(id),
    list: (page) => batches.list(page),
    live: () => batches.live(),
    update: (record, from) => thread.write("batches.update", record, from),
    begin: (record, chunks) => thread.write("batches.begin", record, chunks),
    claim: (claim) => thread.write("batches.claim", claim),
    renew: (claims) => thread.write("batches.renew", claims),
    release: (claims) => thread.write("batches.release", claims),
    commit: (group) => thread.write("batches.commit", group),
    results: (range) => batches.results(range),
    standing: (range) => batches.standing(range),
    chunks: (page) => batches.chunks(page),
    clear: (batch) => thread.write("batches.clear", batch),
  };
}
