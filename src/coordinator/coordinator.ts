/**
 * Assembles the coordinator: registry, model catalogue, replica pool, dispatch, settlement and gateway over given ports.
 * Nothing here knows HTTP servers, sockets or files: the composition root hands in links and requests.
 */

import { describeFault } from "../domain/fault.ts";
import type { ModelId } from "../domain/ids.ts";
import type { Clock } from "../ports/clock.ts";
import type { Crypto, KeyPair } from "../ports/crypto.ts";
import type { Ids } from "../ports/ids.ts";
import type { Link } from "../ports/link.ts";
import type { Log } from "../ports/log.ts";
import type { ModelFiles } from "../ports/model-files.ts";
import type { Random } from "../ports/random.ts";
import type { Store } from "../ports/store.ts";
import type { TokenizerHost } from "../ports/tokenizer.ts";
import type { StatusPageFiles } from "./admin/status-page.ts";
import type { CoordinatorParts } from "./coordinator-parts.ts";
import type { DispatchOptions } from "./dispatch/dispatch-options.ts";
import { Dispatcher } from "./dispatch/dispatcher.ts";
import type { RequestOrigin } from "./gateway/gateway.ts";
import type { GatewayOptions } from "./gateway/gateway-options.ts";
import { startIdempotencySweep } from "./gateway/idempotency-sweep.ts";
import { takeGridIdentity } from "./grid-identity.ts";
import { httpSurface } from "./http-surface.ts";
import { ModelCatalogue } from "./models/model-catalogue.ts";
import { NodeRegistry } from "./registry/node-registry.ts";
import { Settlement } from "./settlement/settlement.ts";

export interface CoordinatorPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly ids: Ids;
  readonly crypto: Crypto;
  readonly log: Log;
  readonly store: Store;
  readonly tokenizers: TokenizerHost;
  readonly modelFiles: ModelFiles;
}

export interface CoordinatorOptions {
  /** The grid's identity: signs receipts and log heads. */
  readonly gridKey: KeyPair;
  /** Of this program, as `/health` and the challenge tell it. */
  readonly version: string;
  /** What join codes say about where this grid is. Called when a code is made, so after the server listens. */
  readonly addresses?: () => GridAddresses;
  /** Bounds of dispatch that differ from `DISPATCH_OPTIONS`. */
  readonly dispatch?: Partial<DispatchOptions>;
  /** Bounds of the gateway that differ from `GATEWAY_DEFAULTS`. */
  readonly gateway?: Partial<GatewayOptions>;
  /** Files of the status page; without them `/` answers 404. */
  readonly statusPage?: StatusPageFiles;
}

export interface GridAddresses {
  /** `http(s)://host:port`, best first; 1 to 4. */
  readonly urls: readonly string[];
  /** SHA-256 of the coordinator's certificate; null when the grid is on this machine only. */
  readonly certificateSha256: string | null;
}

export interface Coordinator extends CoordinatorParts {
  /** The whole HTTP surface: OpenAI API, grid API, weights for agents, status page. Never rejects. */
  fetch(request: Request, origin?: RequestOrigin): Promise<Response>;
  /** Takes over a link that an agent opened at `LINK_PATH`. */
  acceptLink(link: Link): void;
  /** Resolves when a replica of the model can take a request, or at the abort; false then. */
  whenServing(modelId: ModelId, signal: AbortSignal): Promise<boolean>;
  /** Takes no new requests; resolves when the running ones ended or `withinMs` passed. */
  drain(withinMs: number): Promise<void>;
  /** Ends everything that `createCoordinator` started, except the ports. May be called twice. */
  stop(): Promise<void>;
}

/** Opens the grid that the store holds, or founds it: takes the next boot number and opens every registered model. */
export async function createCoordinator(ports: CoordinatorPorts, options: CoordinatorOptions): Promise<Coordinator> {
  const { clock, store, log, random } = ports;
  const startedAtMs = Math.floor(clock.wallMs());
  const { gridId, boot } = await takeGridIdentity(store.meta, random);
  const registry = new NodeRegistry({ gridId, boot }, ports);
  const models = new ModelCatalogue(ports);
  const settlement = new Settlement({ gridId }, { ...ports, keyPair: options.gridKey });
  const dispatcher = new Dispatcher({ ...ports, gridId, boot, roster: registry, models }, options.dispatch);
  models.onChange(() => dispatcher.pool.planSoon());
  await settlement.start();
  await store.idempotency.sweep({ nowMs: startedAtMs, isStart: true });
  await models.start();
  await registry.start();
  dispatcher.start();
  const parts: CoordinatorParts = { gridId, boot, startedAtMs, registry, models, settlement, dispatcher };
  const surface = httpSurface(ports, options, parts);
  const sweep = startIdempotencySweep({ store: store.idempotency, clock, log });
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
    drain: async (withinMs) => {
      await Promise.all([surface.gateway.drain(withinMs), dispatcher.drain(withinMs)]);
    },
    stop: () => {
      dispatcher.stop();
      registry.stop();
      models.stop();
      settlement.stop();
      sweep.stop();
      return Promise.resolve();
    },
  };
}

const INTERNAL_ERROR = {
  error: { message: "the coordinator failed", type: "server_error", param: null, code: "internal" },
};
