/**
 * Assembles the coordinator: registry, model catalogue, replica pool, dispatch, settlement and gateway over given ports.
 * Nothing here knows HTTP servers, sockets or files: the composition root hands in links and requests.
 */

import { FallowError } from "../domain/fault.ts";
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
  /** Files of the status page; without them `/` answers 404. */
  readonly statusPage?: StatusPageFiles;
}

export interface GridAddresses {
  /** `http(s)://host:port`, best first; 1 to 4. */
  readonly urls: readonly string[];
  /** SHA-256 of the coordinator's certificate; null when the grid is on this machine only. */
  readonly certificateSha256: string | null;
}

export interface Coordinator {
  readonly gridId: string;
  /** Durable count of coordinator starts. */
  readonly boot: number;
  /** The whole HTTP surface: OpenAI API, grid API, weights for agents, status page. Never rejects. */
  fetch(request: Request): Promise<Response>;
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
export function createCoordinator(_ports: CoordinatorPorts, _options: CoordinatorOptions): Promise<Coordinator> {
  return Promise.reject(new FallowError("coordinator-unassembled", "the coordinator's rooms are not wired yet"));
}
