/**
 * Assembles the coordinator: registry, model catalogue, replica pool, dispatch, settlement and gateway over given ports.
 * Nothing here knows HTTP servers, sockets or files: the composition root hands in links and requests.
 */

import { describeFault } from "../domain/fault.ts";
import { toHex } from "../domain/hex.ts";
import type { ModelId, NodeId } from "../domain/ids.ts";
import type { Link } from "../ports/link.ts";
import { startChainProbes } from "./chains/chain-probes.ts";
import { CloudDesk } from "./cloud/cloud-desk.ts";
import type { CoordinatorOptions, CoordinatorPorts } from "./coordinator-options.ts";
import type { CoordinatorParts } from "./coordinator-parts.ts";
import { Dispatcher } from "./dispatch/dispatcher.ts";
import { Forecast } from "./forecast/forecast.ts";
import { startIdempotencySweep } from "./gateway/callers/idempotency-sweep.ts";
import type { RequestOrigin } from "./gateway/gateway.ts";
import { startResponseSweep } from "./gateway/responses/response-sweep.ts";
import { takeGridIdentity } from "./grid-identity.ts";
import { type HttpSurface, httpSurface } from "./http-surface.ts";
import { ModelCatalogue } from "./models/model-catalogue.ts";
import { ModelIntake } from "./models/model-intake.ts";
import { outlookOf } from "./network/grid-outlook.ts";
import { LinkBook } from "./network/link-book.ts";
import { RelayDesk } from "./peering/relay-desk.ts";
import { NodeRegistry } from "./registry/node-registry.ts";
import { Settlement } from "./settlement/settlement.ts";
import { WeightsDistribution } from "./weights/distribution.ts";

export interface Coordinator extends CoordinatorParts {
  /** The whole HTTP surface: OpenAI API, grid API, weights for agents, status page. Never rejects. */
  fetch(request: Request, origin?: RequestOrigin): Promise<Response>;
  /** Takes over a link that an agent opened at `LINK_PATH`. */
  acceptLink(link: Link): void;
  /** Resolves when a replica of the model can take a request, or at the abort; false then. */
  whenServing(modelId: ModelId, signal: AbortSignal): Promise<boolean>;
  /** Takes no new requests; resolves when the running ones have ended. Those that still run after `withinMs` end with `draining`. */
  drain(withinMs: number): Promise<void>;
  /** Ends everything that `createCoordinator` started, except the ports. May be called twice. */
  stop(): Promise<void>;
}

/** For the last event of each answer that is read. */
const LAST_WORD_MS = 500;

/** Opens the grid that the store holds, or founds it: takes the next boot number and opens every registered model. */
export async function createCoordinator(ports: CoordinatorPorts, options: CoordinatorOptions): Promise<Coordinator> {
  const { clock, store, log, random } = ports;
  const startedAtMs = Math.floor(clock.wallMs());
  const { gridId, boot } = await takeGridIdentity(store.meta, random);
  const { gridKey, peering } = options;
  const gridPublicKeyHex = toHex(gridKey.publicKey);
  const told = { gridId, boot, gridPublicKeyHex, ...(peering === undefined ? {} : { peering }) };
  const registry = new NodeRegistry(told, ports);
  const models = new ModelCatalogue({ ...ports, gridKey: options.gridKey });
  const settlement = new Settlement({ gridId }, { ...ports, keyPair: options.gridKey });
  const links = new LinkBook({ clock, roster: registry });
  const link = (from: NodeId, to: NodeId) => links.estimate(from, to);
  const distribution = new WeightsDistribution(
    { gridId, gridKey },
    { ...ports, meta: store.meta, registry, models, link },
  );
  const forecast = await Forecast.open(
    { ...ports, meta: store.meta, roster: registry, models, uplink: distribution },
    options.forecast,
  );
  const dispatcher = new Dispatcher(
    { ...ports, gridId, boot, roster: registry, models, outlook: outlookOf(forecast, links, distribution) },
    options.dispatch,
  );
  forecast.followPlan(() => dispatcher.pool.plan()?.plan ?? null);
  const relay = new RelayDesk({ ...ports, roster: registry, sessions: registry }, options.relay);
  models.onChange(() => dispatcher.pool.planSoon());
  await settlement.start();
  await store.idempotency.sweep({ nowMs: startedAtMs, isStart: true });
  await models.start();
  const intake = openIntake(ports, options, models);
  await intake?.start();
  const cloud = await openCloud(ports);
  await registry.start();
  dispatcher.start();
  const probes = startChainProbes({ ...ports, roster: registry, models, dispatcher }, options.chainProbes);
  const parts: CoordinatorParts = {
    gridId,
    boot,
    startedAtMs,
    registry,
    models,
    intake,
    settlement,
    cloud,
    dispatcher,
    forecast,
    relay,
    distribution,
    links,
  };
  // Reads whole files of older homes: nobody waits for it.
  const describing = models.describeOlder();
  const surface = httpSurface(ports, options, parts);
  await surface.jobs?.start();
  const sweep = startIdempotencySweep({ store: store.idempotency, clock, log });
  const responseSweep = startResponseSweep({ store: store.responses, clock, log });
  log.info({ gridId, boot, models: models.list().length }, "grid open");
  return {
    ...parts,
    fetch: async (request, origin = { remoteAddress: null }) => {
      try {
        return await surface.answer(request, origin);
      } catch (thrown) {
        log.error({ cause: describeFault(thrown) }, "request crashed");
        return Response.json(INTERNAL_ERROR, { status: 500 });
      }
    },
    acceptLink: (link) => registry.accept(link),
    whenServing: (modelId, signal) => dispatcher.pool.whenServing(modelId, signal),
    drain: (withinMs) => drainAll(surface, dispatcher, withinMs),
    stop: async () => {
      const isKept = forecast.stop();
      for (const part of [probes, dispatcher, relay, registry, distribution, models]) part.stop();
      await Promise.all([describing, intake?.stop(), surface.jobs?.stop()]);
      settlement.stop();
      sweep.stop();
      responseSweep.stop();
      await isKept;
    },
  };
}

async function drainAll(
  { gateway, jobs }: Pick<HttpSurface, "gateway" | "jobs">,
  dispatcher: Dispatcher,
  withinMs: number,
): Promise<void> {
  // Batches go on in the next life: nobody waits for their lines.
  await jobs?.stop();
  await Promise.all([gateway.drain(withinMs), dispatcher.drain(withinMs)]);
  // Who is still answered hears why it ends: a connection that is cut looks like a fault of the network.
  dispatcher.endAll();
  await gateway.drain(LAST_WORD_MS);
}

function openIntake(
  ports: CoordinatorPorts,
  { gridKey }: CoordinatorOptions,
  catalogue: ModelCatalogue,
): ModelIntake | null {
  const { modelSources: sources, incomingModels: incoming } = ports;
  if (sources === undefined || incoming === undefined) return null;
  return new ModelIntake({ ...ports, sources, incoming, catalogue, gridKey });
}

async function openCloud({ cloudUpstream: upstream, store, clock, log }: CoordinatorPorts): Promise<CloudDesk | null> {
  if (upstream === undefined) return null;
  const desk = new CloudDesk({ providers: store.providers, upstream, clock, log });
  await desk.start();
  return desk;
}

const INTERNAL_ERROR = {
  error: { message: "the coordinator failed", type: "server_error", param: null, code: "internal" },
};
