/**
 * The coordinator's store as a machine that may be slow and may fail. Each call travels to the store, is carried out there
 * in one go, and its answer travels back. A coordinator that dies in between never hears of it: a write that had not
 * arrived is lost, one that had is kept; that is all that `kill -9` can do to a transactional store.
 *
 * A failed call fails before it was carried out (`refused`), or after it (`answer-lost`): the caller cannot tell which.
 */
import { FallowError } from "../../domain/fault.ts";
import type { Transfer } from "../../domain/ledger.ts";
import type { Store } from "../../ports/store.ts";
import type { Witness } from "../observation.ts";
import type { Host } from "../time/host.ts";
import type { SeededRandom } from "../time/random.ts";

export interface StoreConditions {
  /** Mean of each of the two ways. */
  readonly latencyMeanMs: number;
  readonly refusedProbability: number;
  readonly answerLostProbability: number;
  /** One call after the other, as SQLite does it; else several at the same time, as PostgreSQL does. */
  readonly isSerial: boolean;
}

export const CALM_STORE: StoreConditions = {
  latencyMeanMs: 0.5,
  refusedProbability: 0,
  answerLostProbability: 0,
  isSerial: true,
};

export interface ChaoticStoreOptions {
  readonly inner: Store;
  readonly host: Host;
  readonly random: SeededRandom;
  /** Asked at each call. */
  readonly conditions: () => StoreConditions;
}

type Call = <T>(name: string, carryOut: () => Promise<T>) => Promise<T>;

export function chaoticStore(options: ChaoticStoreOptions): Store {
  const { inner } = options;
  const call = caller(options);
  return {
    meta: far(inner.meta, "meta", call),
    tenants: far(inner.tenants, "tenants", call),
    keys: far(inner.keys, "keys", call),
    joinTokens: far(inner.joinTokens, "joinTokens", call),
    nodes: far(inner.nodes, "nodes", call),
    models: far(inner.models, "models", call),
    ledger: far(inner.ledger, "ledger", call),
    receipts: far(inner.receipts, "receipts", call),
    idempotency: far(inner.idempotency, "idempotency", call),
    leases: far(inner.leases, "leases", call),
    spending: far(inner.spending, "spending", call),
    responses: far(inner.responses, "responses", call),
    providers: far(inner.providers, "providers", call),
    files: far(inner.files, "files", call),
    batches: far(inner.batches, "batches", call),
    // The store outlives the coordinator's process; what it holds is the world's.
    close: () => Promise.resolve(),
  };
}

function caller({ host, random, conditions }: ChaoticStoreOptions): Call {
  let last: Promise<unknown> = Promise.resolve();
  const visit = async <T>(name: string, carryOut: () => Promise<T>): Promise<T> => {
    const { latencyMeanMs, refusedProbability, answerLostProbability } = conditions();
    await host.pause(random.gap(latencyMeanMs));
    if (random.chance(refusedProbability)) throw new FallowError("store-unavailable", `${name}: the store is away`);
    const answer = await carryOut();
    await host.pause(random.gap(latencyMeanMs));
    if (random.chance(answerLostProbability))
      throw new FallowError("store-unavailable", `${name}: the answer was lost`);
    return answer;
  };
  return (name, carryOut) => {
    if (!conditions().isSerial) return visit(name, carryOut);
    const answer = last.then(() => visit(name, carryOut));
    // The next caller waits its turn and has no part in this one's failure.
    last = answer.catch(() => null);
    return answer;
  };
}

/** The same part, with every call going through `call`. */
function far<T extends object>(part: T, partName: string, call: Call): T {
  return new Proxy(part, {
    get(target, key) {
      const method: unknown = Reflect.get(target, key);
      if (typeof method !== "function") return method;
      return (...args: readonly unknown[]) =>
        call(`${partName}.${String(key)}`, () => Promise.resolve(Reflect.apply(method, target, args)));
    },
  });
}

/** The store that tells what its ledger took, when it took it. */
export function witnessedStore(store: Store, witness: Witness): Store {
  const {
    meta,
    tenants,
    keys,
    joinTokens,
    nodes,
    models,
    ledger,
    receipts,
    idempotency,
    leases,
    spending,
    responses,
    providers,
    files,
    batches,
  } = store;
  const tell = (transfers: readonly Transfer[]) => witness({ kind: "transfers", transfers });
  return {
    meta,
    tenants,
    keys,
    joinTokens,
    nodes,
    models,
    idempotency,
    leases,
    spending,
    responses,
    providers,
    files,
    batches,
    close: () => store.close(),
    ledger: around(ledger, "apply", (apply) => async (transfers) => {
      const outcome = await apply(transfers);
      if (outcome.ok && !outcome.isReplay) tell(transfers);
      return outcome;
    }),
    receipts: around(receipts, "settle", (settle) => async (settlement) => {
      const outcome = await settle(settlement);
      if (!outcome.ok || outcome.isReplay) return outcome;
      tell(settlement.transfers);
      const { requestId, costMicroUsd } = settlement.receipt;
      witness({ kind: "settled", requestId, costMicroUsd, leafIndex: outcome.leafIndex });
      return outcome;
    }),
  };
}

/** The same part with one method replaced by what `wrap` makes of it. */
function around<T extends object, K extends keyof T>(part: T, name: K, wrap: (method: T[K]) => T[K]): T {
  const method = part[name];
  const bound: T[K] = typeof method === "function" ? method.bind(part) : method;
  const replaced = wrap(bound);
  return new Proxy(part, {
    get(target, key) {
      if (key === name) return replaced;
      const value: unknown = Reflect.get(target, key);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
