/** Keep-alive connections to one coordinator, each opened by `connectPinned`: nothing is sent to anybody else. */
import { Agent, type ClientRequestArgs } from "node:http";
import { Duplex } from "node:stream";
import type { LinkTarget } from "../../ports/link.ts";
import { connectPinned } from "../tls-identity/pinned-connect.ts";

/** Ranges at once, and the manifest of another model beside them. */
const CONNECTIONS_MAX = 8;
/** A coordinator closes what is idle after about so long itself. */
const IDLE_MS_MAX = 4_000;

/** Node's agent reads the error alone when there is one, and its type asks for a stream all the same. */
const NO_STREAM = new Duplex();

type Connected = (cause: Error | null, stream: Duplex) => void;

export class PinnedAgent extends Agent {
  readonly #target: LinkTarget;
  readonly #closing = new AbortController();

  constructor(target: LinkTarget) {
    super({ keepAlive: true, maxSockets: CONNECTIONS_MAX, maxFreeSockets: CONNECTIONS_MAX, timeout: IDLE_MS_MAX });
    this.#target = target;
  }

  override createConnection(_options: ClientRequestArgs, connected?: Connected): Duplex | null | undefined {
    connectPinned(this.#target, this.#closing.signal).then(
      ({ socket }) => connected?.(null, socket),
      (cause: unknown) => connected?.(cause instanceof Error ? cause : new Error(String(cause)), NO_STREAM),
    );
    return undefined;
  }

  override destroy(): void {
    this.#closing.abort();
    super.destroy();
  }
}
