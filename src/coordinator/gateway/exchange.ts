/**
 * One request and its answer, as every route sees them. Kept beside the request, so that routes mounted by others get the
 * same id, headers, errors and metrics.
 */
import type { Context } from "hono";
import { assert } from "../../domain/assert.ts";
import type { ModelId, RequestId } from "../../domain/ids.ts";
import type { ApiKey } from "../../ports/store.ts";

export interface Exchange {
  readonly requestId: RequestId;
  readonly startedMonoMs: number;
  readonly createdAtMs: number;
  readonly remoteAddress: string | null;
  /** Ends the client's connection; null where there is none. */
  readonly cut: (() => void) | null;
  /** Set by `requireKey`. */
  key: ApiKey | null;
  /** Set once the model is known. */
  modelId: ModelId | null;
}

export class Exchanges {
  readonly #open = new WeakMap<Request, Exchange>();

  begin(request: Request, exchange: Exchange): void {
    this.#open.set(request, exchange);
  }

  of(context: Context): Exchange {
    return this.ofRequest(context.req.raw);
  }

  ofRequest(request: Request): Exchange {
    const exchange = this.#open.get(request);
    assert(exchange !== undefined, "every request has begun an exchange");
    return exchange;
  }
}
