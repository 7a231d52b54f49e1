/**
 * The whole HTTP surface as one function from request to answer: weights for agents, the status page, and everything else by
 * the gateway's application.
 */
import { statusPageResponse } from "./admin/status-page.ts";
import type { CoordinatorOptions, CoordinatorPorts } from "./coordinator.ts";
import type { CoordinatorParts } from "./coordinator-parts.ts";
import { weightsResponse } from "./models/weights-route.ts";

export function httpSurface(
  ports: CoordinatorPorts,
  options: CoordinatorOptions,
  parts: CoordinatorParts,
): (request: Request) => Promise<Response> {
  const weights = {
    ...ports,
    models: parts.models,
    nodeOfBearer: (bearer: string) => parts.registry.nodeOfBearer(bearer),
  };
  return async (request) => {
    const page = options.statusPage === undefined ? null : statusPageResponse(options.statusPage, request);
    return page ?? (await weightsResponse(request, weights)) ?? new Response(null, { status: 404 });
  };
}
