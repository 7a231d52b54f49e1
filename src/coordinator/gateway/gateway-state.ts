/** What the routes share. */
import type { Context, MiddlewareHandler } from "hono";
import { assert } from "../../domain/assert.ts";
import type { Outcome, Refusal } from "../../domain/refusal.ts";
import type { ApiKey, KeyScope } from "../../ports/store.ts";
import { BodyBudget } from "./bodies/body-budget.ts";
import { ApiKeys } from "./callers/api-keys.ts";
import { Holds } from "./callers/holds.ts";
import { RateLimiter } from "./callers/rate-limiter.ts";
import { errorResponse } from "./error-table.ts";
import { Exchanges } from "./exchange.ts";
import { GatewayMetrics } from "./gateway-metrics.ts";
import type { GatewayDeps, GatewayOptions } from "./gateway-options.ts";
import type { PlannedRequest, PlanRequest } from "./plans/plan-request.ts";
import { PreparedModels } from "./plans/prepared-model.ts";

/** Plans a body as its route would, and runs nothing. */
export type Quotable = (body: unknown, more: Omit<PlanRequest<unknown>, "body">) => Promise<Outcome<PlannedRequest>>;

/** For routes that others mount, so that keys and errors mean the same on every path. */
export interface GatewayGate {
  requireKey(scope: KeyScope): MiddlewareHandler;
  /** The key that `requireKey` let in. */
  callerKey(context: Context): ApiKey;
  refusal(context: Context, reason: Refusal): Response;
}

export class GatewayState {
  readonly options: GatewayOptions;
  readonly deps: GatewayDeps;
  readonly metrics: GatewayMetrics;
  readonly limiter: RateLimiter;
  readonly keys: ApiKeys;
  readonly exchanges = new Exchanges();
  readonly prepared = new PreparedModels();
  readonly holds: Holds;
  readonly bodies: BodyBudget;
  readonly gate: GatewayGate;
  /** By path: how a body of the route is planned, for quotes. */
  readonly quotable = new Map<string, Quotable>();
  isDraining = false;
  #openRequests = 0;
  readonly #whenEmpty = new Set<() => void>();

  constructor(options: GatewayOptions, deps: GatewayDeps) {
    this.options = options;
    this.deps = deps;
    this.metrics = new GatewayMetrics(deps.registry);
    this.limiter = new RateLimiter(deps.clock);
    this.bodies = new BodyBudget(options.bodiesBytesMax);
    this.holds = new Holds({ settlement: deps.settlement, ledger: deps.store.ledger, clock: deps.clock });
    const { store, clock, crypto } = deps;
    this.keys = new ApiKeys({ store: store.keys, tenants: store.tenants, clock, crypto, cacheMs: options.keyCacheMs });
    this.gate = {
      requireKey: (scope) => (context, next) => this.#authenticated(context, { scope, next }),
      callerKey: (context) => {
        const { key } = this.exchanges.of(context);
        assert(key !== null, "requireKey let a key in");
        return key;
      },
      refusal: (_context, reason) => errorResponse(reason),
    };
  }

  get openRequests(): number {
    return this.#openRequests;
  }

  /** A request began to run; what is given back is called when nothing of it runs any more. */
  opened(): () => void {
    this.#openRequests++;
    this.metrics.requestsOpen.set(this.#openRequests);
    return () => {
      this.#openRequests--;
      this.metrics.requestsOpen.set(this.#openRequests);
      if (this.#openRequests > 0) return;
      for (const resolve of this.#whenEmpty) resolve();
      this.#whenEmpty.clear();
    };
  }

  whenEmpty(): Promise<void> {
    if (this.#openRequests === 0) return Promise.resolve();
    return new Promise((resolve) => this.#whenEmpty.add(resolve));
  }

  async #authenticated(
    context: Context,
    step: { scope: KeyScope; next: () => Promise<void> },
  ): Promise<Response | undefined> {
    const exchange = this.exchanges.of(context);
    if (exchange.key !== null) {
      // Asked by this coordinator itself, for a key that it holds.
      await step.next();
      return undefined;
    }
    // Anthropic's clients send the key in a header of their own.
    const apiKey = context.req.header("x-api-key");
    const bearer = apiKey === undefined ? null : `Bearer ${apiKey}`;
    const found = await this.keys.authenticate(context.req.header("authorization") ?? bearer, step.scope);
    if (!found.ok) return errorResponse(found.reason);
    exchange.key = found.value;
    await step.next();
    return undefined;
  }
}
