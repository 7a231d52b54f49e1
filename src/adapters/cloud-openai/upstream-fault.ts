import type { CloudFailure } from "../../ports/cloud.ts";

/** A provider failed, in a way that the port has a name for. The message is for people and holds no secret. */
export class UpstreamFault extends Error {
  override readonly name = "UpstreamFault";
  readonly failure: CloudFailure;
  readonly retryAfterMs: number | null;
  constructor(failure: CloudFailure, message: string, more: { retryAfterMs?: number | null; cause?: unknown } = {}) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.failure = failure;
    this.retryAfterMs = more.retryAfterMs ?? null;
  }
}
