/** Puts the coordinator together with the machine: store, clock, keys, files, vocabulary process, HTTP server, links. */
import { SystemClock } from "../../adapters/clock-system/system-clock.ts";
import { SystemRandom } from "../../adapters/clock-system/system-random.ts";
import { NodeCrypto } from "../../adapters/crypto-node/node-crypto.ts";
import { type HttpServer, startHttpServer } from "../../adapters/http-server/http-server.ts";
import { UlidIds } from "../../adapters/ids-ulid/ulid-ids.ts";
import { LinkServer } from "../../adapters/link-websocket/link-server.ts";
import { isLoopback } from "../../adapters/tls-identity/loopback.ts";
import { keptTlsIdentity } from "../../adapters/tls-identity/tls-identity.ts";
import { type Coordinator, createCoordinator, type GridAddresses } from "../../coordinator/coordinator.ts";
import { fromHex } from "../../market/hex.ts";
import type { Log } from "../../ports/log.ts";
import type { ModelFiles } from "../../ports/model-files.ts";
import type { Store } from "../../ports/store.ts";
import type { TokenizerHost } from "../../ports/tokenizer.ts";
import { LINK_PATH } from "../../wire/agent-link.ts";
import type { HomeFolder } from "../home/home-folder.ts";
import { reachableHosts } from "./addresses.ts";
import { foundGrid, keptSecrets } from "./found-grid.ts";
import { openStore } from "./open-store.ts";
import { readStatusPage } from "./status-page-files.ts";

export interface CoordinatorHost {
  readonly coordinator: Coordinator;
  /** `http://host:port` as this machine reaches it. */
  readonly localUrl: string;
  readonly addresses: GridAddresses;
  readonly apiKey: string;
  /** Ends in order: no new requests, the running ones within `drainMs`, then server, coordinator, store. May be called twice. */
  stop(drainMs: number): Promise<void>;
}

export interface CoordinatorHostOptions {
  readonly home: HomeFolder;
  readonly host: string;
  readonly port: number;
  readonly database: string | undefined;
  readonly version: string;
  readonly log: Log;
  readonly openModelFiles: (home: HomeFolder) => ModelFiles;
  readonly openTokenizers: (home: HomeFolder, log: Log) => TokenizerHost;
}
