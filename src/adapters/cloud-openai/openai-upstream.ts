/**
 * The CloudUpstream port over HTTP(S), for any service that speaks OpenAI's API. Connections are kept per origin; redirects are not followed,
 * bodies are not unpacked, headers and connection times are bounded, and a name that leads into a private network leads nowhere
 * (provider-address.ts).
 */
import { Agent } from "undici";
import type { CredentialRef } from "../../domain/provider.ts";
import { no, type Outcome, ok } from "../../domain/refusal.ts";
import type { Clock } from "../../ports/clock.ts";
import type { CloudRun } from "../../ports/cloud.ts";
import type { CloudUpstream, UpstreamCall, UpstreamEvent, UpstreamFailure } from "../../ports/cloud-upstream.ts";
import type { Log } from "../../ports/log.ts";
import type { CredentialBook } from "./credential-book.ts";
import { faultOf } from "./failure-of.ts";
import { listModels } from "./list-models.ts";
import { addressProblem, guardedLookup, type PrivateHosts } from "./provider-address.ts";
import { CallRun } from "./run-call.ts";

/** A provider's address answers within a second or not at all. */
const CONNECT_MS_MAX = 10_000;
/** As Node's own server; providers send some 2 kB. */
const HEADERS_BYTES_MAX = 16_384;
/** Below the idle times of usual load balancers, so that a kept connection is still there when it is used. */
const KEEP_ALIVE_MS = 4_000;
const SILENT_MS_MAX = 30_000;

export interface OpenAiUpstreamOptions {
  readonly credentials: CredentialBook;
  /** Names that may lead into private networks. */
  readonly privateHosts: PrivateHosts;
  readonly clock: Clock;
  readonly log: Log;
  /** A stream that says nothing for so long in its middle is dead. */
  readonly silentMsMax?: number;
  /** Certificates beside the system's that are trusted, as PEM; for tests of TLS. */
  readonly extraCertificates?: readonly string[];
}

export class OpenAiUpstream implements CloudUpstream {
  readonly #options: OpenAiUpstreamOptions;
  readonly #agent: Agent;

  constructor(options: OpenAiUpstreamOptions) {
    this.#options = options;
    const { extraCertificates } = options;
    this.#agent = new Agent({
      maxHeaderSize: HEADERS_BYTES_MAX,
      // The run's own clocks say how long each step may take.
      headersTimeout: 0,
      bodyTimeout: 0,
      keepAliveTimeout: KEEP_ALIVE_MS,
      allowH2: false,
      connect: {
        timeout: CONNECT_MS_MAX,
        lookup: guardedLookup(options.privateHosts),
        ...(extraCertificates === undefined ? {} : { ca: [...extraCertificates] }),
      },
    });
  }

  addressProblem(baseUrl: string): string | null {
    return addressProblem(baseUrl, this.#options.privateHosts);
  }

  hasCredential(credential: CredentialRef | null): boolean {
    return this.#options.credentials.has(credential);
  }

  call(call: UpstreamCall, onEvent: (event: UpstreamEvent) => void): CloudRun {
    const { credentials, privateHosts, clock, log, silentMsMax = SILENT_MS_MAX } = this.#options;
    return new CallRun(call, { dispatcher: this.#agent, credentials, privateHosts, clock, log, silentMsMax }, onEvent);
  }

  async models(
    provider: UpstreamCall["provider"],
    limit: { readonly totalMsMax: number },
  ): Promise<Outcome<readonly string[], UpstreamFailure>> {
    const { credentials, privateHosts, clock } = this.#options;
    try {
      return ok(await listModels(provider, { dispatcher: this.#agent, credentials, privateHosts, clock, ...limit }));
    } catch (thrown) {
      const { failure, message, retryAfterMs } = faultOf(thrown, true);
      return no({ failure, message, retryAfterMs });
    }
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }
}
