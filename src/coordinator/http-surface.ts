/**
 * The whole HTTP surface as one function from request to answer: weights for agents, the status page, and everything else by
 * the gateway's application, which also carries the operator's API.
 */
import { Registry } from "prom-client";
import type { ModelId, NodeId } from "../domain/ids.ts";
import { nodeClassOf } from "../domain/node-class.ts";
import { TIER_FACTORS, type TierFactors, tierPrice } from "../market/tier-price.ts";
import { addAdminRoutes } from "./admin/admin-routes.ts";
import { addChainRoutes } from "./admin/chain-routes.ts";
import { addProviderRoutes } from "./admin/provider-routes.ts";
import { adminSources } from "./admin/sources-of-parts.ts";
import { statusPageResponse } from "./admin/status-page.ts";
import { addDistributionRoutes } from "./admin/weights-routes.ts";
import { registerChainMetrics } from "./chains/chain-metrics.ts";
import { registerCloudMetrics } from "./cloud/cloud-metrics.ts";
import type { CoordinatorOptions, CoordinatorPorts } from "./coordinator-options.ts";
import type { CoordinatorParts } from "./coordinator-parts.ts";
import { registerDispatchMetrics } from "./dispatch/dispatch-metrics.ts";
import { registerPlacementMetrics } from "./dispatch/placement-metrics.ts";
import { placesOf } from "./dispatch/places.ts";
import { registerForecastMetrics } from "./forecast/forecast-metrics.ts";
import { observedDispatch } from "./forecast/observed-dispatch.ts";
import { createGateway, type Gateway, type RequestOrigin } from "./gateway/gateway.ts";
import { GATEWAY_DEFAULTS, type GatewayModels, type GatewayNodes } from "./gateway/gateway-options.ts";
import { samplingSeedSecret } from "./grid-identity.ts";
import type { JobPorts } from "./jobs/job-ports.ts";
import { addJobRoutes } from "./jobs/job-routes.ts";
import { Jobs } from "./jobs/jobs.ts";
import { backgroundDispatch, LineBook, lineSettlement } from "./jobs/line-book.ts";
import { registerIntakeMetrics } from "./models/intake-metrics.ts";
import { registerRelayMetrics } from "./peering/relay-metrics.ts";
import { registerWeightsMetrics } from "./weights/weights-metrics.ts";

export interface HttpSurface {
  readonly gateway: Gateway;
  /** Null where there is no place for files. */
  readonly jobs: Jobs | null;
  answer(request: Request, origin: RequestOrigin): Promise<Response>;
}

export function httpSurface(
  ports: CoordinatorPorts,
  options: CoordinatorOptions,
  parts: CoordinatorParts,
): HttpSurface {
  const metrics = new Registry();
  registerDispatchMetrics(metrics, parts.dispatcher);
  registerPlacementMetrics(metrics, parts.dispatcher.pool, ports.clock);
  registerChainMetrics(metrics, parts.dispatcher.pool.chains);
  registerForecastMetrics(metrics, parts.forecast);
  registerWeightsMetrics(metrics, parts.distribution, ports.clock);
  registerRelayMetrics(metrics, parts.relay);
  if (parts.intake !== null) registerIntakeMetrics(metrics, parts.intake);
  if (parts.cloud !== null) registerCloudMetrics(metrics, parts.cloud);
  const book = new LineBook();
  const observed = observedDispatch(parts.dispatcher, (terms) => parts.forecast.noteRequest(terms));
  const gateway = createGateway(
    {
      ...GATEWAY_DEFAULTS,
      ...options.gateway,
      version: options.version,
      seedSecret: samplingSeedSecret(ports.crypto, options.gridKey),
    },
    {
      ...ports,
      dispatch: backgroundDispatch(observed, book, ports.clock),
      settlement: lineSettlement(parts.settlement, book),
      nodes: gatewayNodes(parts),
      models: gatewayModels(parts, { ...TIER_FACTORS, ...options.tierFactors }),
      registry: metrics,
      ...(parts.cloud === null ? {} : { cloud: parts.cloud }),
    },
  );
  const gate = { ...gateway.gate, forgetKey: gateway.forgetKey, forgetTenant: gateway.forgetTenant };
  addAdminRoutes(gateway.app, adminSources(ports, options, parts, gate));
  const { registry: roster, links, distribution, dispatcher } = parts;
  addProviderRoutes(gateway.app, { gate, clock: ports.clock, cloud: cloudSources(ports, parts) });
  addChainRoutes(gateway.app, { gate, chains: dispatcher.pool.chains, links, roster });
  addDistributionRoutes(gateway.app, { gate, clock: ports.clock, roster, links, weights: () => distribution.rows() });
  const jobs = openJobs({ ports, options, parts }, { gateway, book, registry: metrics });
  return {
    gateway,
    jobs,
    answer: async (request, origin) => {
      const page = options.statusPage === undefined ? null : statusPageResponse(options.statusPage, request);
      return page ?? (await parts.distribution.endpoint.handle(request)) ?? (await gateway.fetch(request, origin));
    },
  };
}

function cloudSources({ cloudUpstream: upstream }: CoordinatorPorts, { cloud: desk }: CoordinatorParts) {
  return desk === null || upstream === undefined ? null : { desk, upstream };
}

function openJobs(
  { ports, options, parts }: { ports: CoordinatorPorts; options: CoordinatorOptions; parts: CoordinatorParts },
  { gateway, book, registry }: { gateway: Gateway; book: LineBook; registry: Registry },
): Jobs | null {
  const { blobs, multipart } = ports;
  if (blobs === undefined || multipart === undefined) return null;
  const isServed: JobPorts["isServed"] = (modelId) => parts.models.get(modelId) !== null;
  const ask: JobPorts["ask"] = ({ path, body, requestId, key, signal }) => {
    const headers = { "content-type": "application/json" };
    const request = new Request(new URL(path, INNER_URL), { method: "POST", headers, body, signal });
    return gateway.fetch(request, { remoteAddress: null, inner: { requestId, key } });
  };
  const { boot } = parts;
  const jobs = new Jobs(
    { ...ports, blobs, multipart, book, isServed, ask },
    { boot, registry, jobs: options.jobs ?? {} },
  );
  addJobRoutes(gateway.app, { gate: gateway.gate, jobs, blobs });
  return jobs;
}

/** Nothing is sent there: lines go to the gateway's application without a socket. */
const INNER_URL = "http://coordinator.invalid";

function gatewayNodes({ registry, models, dispatcher }: CoordinatorParts): GatewayNodes {
  const ports = {
    node: (nodeId: NodeId) => registry.node(nodeId),
    manifest: (modelId: ModelId) => models.get(modelId)?.manifest ?? null,
    pool: dispatcher.pool,
  };
  return {
    label: (nodeId) => {
      const node = registry.node(nodeId);
      return node === null ? null : { nodeClass: nodeClassOf(node.capabilities), region: node.region ?? null };
    },
    places: (question) => placesOf(question, ports),
  };
}

function gatewayModels({ models, dispatcher }: CoordinatorParts, factors: TierFactors): GatewayModels {
  return {
    list: () => models.list().map(({ manifest }) => manifest),
    get: (modelId) => models.get(modelId),
    readyReplicas: (modelId) => dispatcher.pool.ready(modelId).length,
    regions: (modelId) => {
      const { pool } = dispatcher;
      return [...new Set(pool.ready(modelId).flatMap(({ nodeId }) => pool.node(nodeId)?.region ?? []))].sort();
    },
    isOnlySplit: (modelId) => {
      const ready = dispatcher.pool.ready(modelId);
      return ready.length > 0 && ready.every(({ stage }) => stage !== undefined);
    },
    numericClass: (modelId) => dispatcher.pool.numericClass(modelId),
    priceOf: (manifest, tier) => tierPrice(manifest.price, factors[tier]),
  };
}
