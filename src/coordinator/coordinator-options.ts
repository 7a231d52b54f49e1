/** What a coordinator is made of and told by whoever composes it. */
import type { TierFactors } from "../market/tier-price.ts";
import type { BlobFiles } from "../ports/blob-files.ts";
import type { Clock } from "../ports/clock.ts";
import type { CloudUpstream } from "../ports/cloud-upstream.ts";
import type { Crypto, KeyPair } from "../ports/crypto.ts";
import type { Ids } from "../ports/ids.ts";
import type { IncomingModels } from "../ports/incoming-models.ts";
import type { Log } from "../ports/log.ts";
import type { ModelFiles } from "../ports/model-files.ts";
import type { ModelSources } from "../ports/model-source.ts";
import type { Multipart } from "../ports/multipart.ts";
import type { Random } from "../ports/random.ts";
import type { Store } from "../ports/store.ts";
import type { TokenizerHost } from "../ports/tokenizer.ts";
import type { StatusPageFiles } from "./admin/status-page.ts";
import type { ChainProbesOptions } from "./chains/chain-probes.ts";
import type { DispatchOptions } from "./dispatch/dispatch-options.ts";
import type { ReplicaPlanner } from "./dispatch/replica-planning.ts";
import type { ForecastOptions } from "./forecast/forecast-options.ts";
import type { GatewayOptions } from "./gateway/gateway-options.ts";
import type { JobOptions } from "./jobs/job-options.ts";
import type { RelayOptions } from "./peering/relay-options.ts";
import type { GridPeering } from "./registry/welcome.ts";

export interface CoordinatorPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly ids: Ids;
  readonly crypto: Crypto;
  readonly log: Log;
  readonly store: Store;
  readonly tokenizers: TokenizerHost;
  readonly modelFiles: ModelFiles;
  /** Where models are fetched from; without both, files of this machine are taken one at a time. */
  readonly modelSources?: ModelSources;
  readonly incomingModels?: IncomingModels;
  /** How cloud providers are asked; without it this grid has none. */
  readonly cloudUpstream?: CloudUpstream;
  /** Tenants' files; without both there are no files and no batches. */
  readonly blobs?: BlobFiles;
  readonly multipart?: Multipart;
  /** Where placements are planned; without it, in the turn that asks. */
  readonly planner?: ReplicaPlanner;
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
  /** What of `CHAIN_PROBES` differs. */
  readonly chainProbes?: Partial<ChainProbesOptions>;
  /** What of the forecast differs from `FORECAST_OPTIONS`. */
  readonly forecast?: Partial<ForecastOptions>;
  /** Bounds of files and batches that differ from `JOB_DEFAULTS`. */
  readonly jobs?: Partial<JobOptions>;
  /** Bounds of the gateway that differ from `GATEWAY_DEFAULTS`. */
  readonly gateway?: Partial<GatewayOptions>;
  /** What tiers cost that differ from `TIER_FACTORS`, in basis points of the model's price. */
  readonly tierFactors?: Partial<TierFactors>;
  /** Bounds of relayed connections that differ from `RELAY_OPTIONS`. */
  readonly relay?: Partial<RelayOptions>;
  /** How nodes reach each other, asked at each welcome; null while there is no peer network. Without it there is none. */
  readonly peering?: () => GridPeering | null;
  /** Files of the status page; without them `/` answers 404. */
  readonly statusPage?: StatusPageFiles;
}

export interface GridAddresses {
  /** `http(s)://host:port`, best first; 1 to 4. */
  readonly urls: readonly string[];
  /** SHA-256 of the coordinator's certificate; null when the grid is on this machine only. */
  readonly certificateSha256: string | null;
}
