/**
 * The coordinator's process: the real registry, dispatcher, replica pool and settlement on simulated ports, over a disk that
 * outlives it. Opening may fail when the store fails; then the process exits and whoever supervises it starts it again.
 */

import { startChainProbes } from "../coordinator/chains/chain-probes.ts";
import { Dispatcher } from "../coordinator/dispatch/dispatcher.ts";
import type { Outlook } from "../coordinator/dispatch/replica-pool.ts";
import type { ServedModel, ServedModels } from "../coordinator/dispatch/served-models.ts";
import { Forecast } from "../coordinator/forecast/forecast.ts";
import { observedDispatch } from "../coordinator/forecast/observed-dispatch.ts";
import type { GatewaySettlement } from "../coordinator/gateway/settlement-port.ts";
import { outlookOf } from "../coordinator/network/grid-outlook.ts";
import { LinkBook } from "../coordinator/network/link-book.ts";
import { NodeRegistry } from "../coordinator/registry/node-registry.ts";
import { Settlement } from "../coordinator/settlement/settlement.ts";
import { FallowError } from "../domain/fault.ts";
import type { Dispatch } from "../domain/generation.ts";
import type { Crypto, KeyPair } from "../ports/crypto.ts";
import type { Log } from "../ports/log.ts";
import type { Store } from "../ports/store.ts";
import type { Saboteur } from "./faults/sabotage.ts";
import type { SimInternet } from "./network/sim-dialer.ts";
import type { Witness } from "./observation.ts";
import { SimIds } from "./sim-ids.ts";
import { chaoticStore, type StoreConditions } from "./store/chaotic-store.ts";
import { type ClockFaults, SimClock } from "./time/clock.ts";
import type { Host } from "./time/host.ts";
import type { SeededRandom } from "./time/random.ts";

export const COORDINATOR = "coordinator";
/** A supervisor's pause before it starts a process again that ended. */
/** Often enough to meet faults that last seconds. */
const PROBE_MS = 4_000;
const RESTART_MS = 500;

/** Without hole punching; the relay is a carrier of its own in the simulator. */
const NETWORK = { bootstrap: [], hasRelay: false } as const;

/** A run lasts about a minute: what takes minutes in life takes seconds in it, so that it happens at all. */
const SIM_FORECAST = { countTurnMs: 1_000, countMs: 2_000, askMs: 7_000, keepMs: 9_000, stageMs: 3_000 };

/** What serves while the coordinator is open. */
export interface ServingGrid {
  readonly boot: number;
  readonly registry: NodeRegistry;
  readonly dispatcher: Dispatcher;
  /** What requests go through: the dispatcher, unless somebody tampers. */
  readonly dispatch: Pick<Dispatch, "generate">;
  readonly settlement: GatewaySettlement;
  readonly ids: SimIds;
}

export interface SimCoordinatorOptions {
  readonly host: Host;
  readonly random: SeededRandom;
  readonly crypto: Crypto;
  readonly gridId: string;
  readonly gridKey: KeyPair;
  readonly clockFaults: ClockFaults;
  readonly disk: Store;
  readonly storeConditions: () => StoreConditions;
  readonly internet: SimInternet;
  readonly models: readonly ServedModel[];
  readonly witness: Witness;
  readonly log: Log;
  /** What of some layers lies on a node, where nodes know each other and hold stages; null where they do not. */
  readonly shareOn: NonNullable<Outlook["shareOn"]> | null;
  /** Breaks a law on purpose, to show that the checkers see it; null in every honest run. */
  readonly saboteur: Saboteur | null;
}

export class SimCoordinator {
  readonly clock: SimClock;
  readonly #options: SimCoordinatorOptions;
  #grid: ServingGrid | null = null;
  #starts = 0;

  constructor(options: SimCoordinatorOptions) {
    this.#options = options;
    this.clock = new SimClock(options.host, options.clockFaults);
  }

  get gridId(): string {
    return this.#options.gridId;
  }

  /** Null while the coordinator is down or opening. */
  get grid(): ServingGrid | null {
    return this.#grid;
  }

  start(): void {
    const { host, witness, log } = this.#options;
    if (host.state === "dead") host.restart();
    witness({ kind: "host", host: host.name, change: "started" });
    this.#open().catch((fault: unknown) => {
      if (!(fault instanceof FallowError)) throw fault;
      log.warn({ fault: fault.message }, "the coordinator could not open");
      host.after(RESTART_MS, () => {
        this.crash({ isPowerLoss: false });
        this.start();
      });
    });
  }

  crash(how: { isPowerLoss: boolean }): void {
    const { host, internet, witness } = this.#options;
    if (host.state === "dead") return;
    this.#grid = null;
    internet.listen(null);
    internet.drop(host.name, how);
    host.kill(how);
    witness({ kind: "host", host: host.name, change: how.isPowerLoss ? "lost-power" : "killed" });
  }

  async #open(): Promise<void> {
    const { host, crypto, random, gridId, gridKey, internet, log, disk, storeConditions, saboteur } = this.#options;
    const { shareOn } = this.#options;
    const models = saboteur?.models(this.#options.models) ?? this.#options.models;
    const life = random.fork(`life/${++this.#starts}`);
    const { clock } = this;
    const store = chaoticStore({ inner: disk, host, random: life.fork("store"), conditions: storeConditions });
    const ids = new SimIds(clock, life.fork("ids"));
    const boot = await store.meta.increment("boot");
    const settlement = new Settlement({ gridId }, { store, crypto, clock, ids, log, keyPair: gridKey });
    await settlement.start();
    // Nodes that know the coordinator alone are told nothing of ways to others.
    const told = shareOn === null ? { gridId, boot } : { gridId, boot, peering: () => NETWORK };
    const registry = new NodeRegistry(told, { store, clock, crypto, random: life.fork("registry"), log });
    const catalogue = servedModels(models);
    const roster = saboteur?.roster(registry) ?? registry;
    const forecast = await Forecast.open(
      { clock, log, meta: store.meta, roster: registry, models: catalogue },
      SIM_FORECAST,
    );
    const links = shareOn === null ? null : new LinkBook({ clock, roster: registry });
    const outlook: Outlook = shareOn === null || links === null ? forecast : { ...outlookOf(forecast, links), shareOn };
    const dispatcher = new Dispatcher({ gridId, boot, clock, ids, crypto, log, roster, models: catalogue, outlook });
    await registry.start();
    dispatcher.start();
    if (shareOn !== null) {
      const asked = { clock, crypto, ids, log, random: life.fork("probes"), roster: registry, models: catalogue };
      startChainProbes(
        { ...asked, dispatcher: probedDispatcher(dispatcher, this.#options.witness) },
        { everyMs: PROBE_MS },
      );
    }
    const dispatch = observedDispatch(dispatcher, (terms) => forecast.noteRequest(terms));
    const grid = { boot, registry, dispatcher, dispatch, settlement, ids };
    this.#grid = saboteur?.grid(grid, store) ?? grid;
    internet.listen({ host, onLink: (link) => registry.accept(link) });
  }
}

/** Every request of a probe is told of. */
function probedDispatcher(
  dispatcher: Dispatcher,
  witness: Witness,
): Parameters<typeof startChainProbes>[0]["dispatcher"] {
  return {
    pool: dispatcher.pool,
    generate: (request, onEvent) => {
      witness({ kind: "probed", requestId: request.terms.requestId });
      return dispatcher.generate(request, onEvent);
    },
  };
}

function servedModels(models: readonly ServedModel[]): ServedModels {
  return {
    get: (modelId) => models.find(({ manifest }) => manifest.modelId === modelId) ?? null,
    byWeights: (weightsSha256) => models.find(({ manifest }) => manifest.weightsSha256 === weightsSha256) ?? null,
    list: () => models,
  };
}
