/** Puts the coordinator together with the machine: store, clock, keys, files, vocabulary process, HTTP server, links. */
import { X509Certificate } from "node:crypto";
import { DiskBlobFiles } from "../../adapters/blob-files-disk/disk-blob-files.ts";
import { SystemClock } from "../../adapters/clock-system/system-clock.ts";
import { SystemRandom } from "../../adapters/clock-system/system-random.ts";
import { NodeCrypto } from "../../adapters/crypto-node/node-crypto.ts";
import { startHttpServer } from "../../adapters/http-server/http-server.ts";
import { UlidIds } from "../../adapters/ids-ulid/ulid-ids.ts";
import { LinkServer } from "../../adapters/link-websocket/link-server.ts";
import { RelayServer } from "../../adapters/link-websocket/relay-server.ts";
import { DiskIncomingModels } from "../../adapters/model-files-disk/disk-incoming-models.ts";
import { DiskModelFiles } from "../../adapters/model-files-disk/disk-model-files.ts";
import { NetModelSources } from "../../adapters/model-source/model-sources.ts";
import { sourceSettings } from "../../adapters/model-source/source-settings.ts";
import { BusboyMultipart } from "../../adapters/multipart-busboy/busboy-multipart.ts";
import { isLoopback } from "../../adapters/tls-identity/loopback.ts";
import { givenTlsIdentity, keptTlsIdentity, type TlsIdentity } from "../../adapters/tls-identity/tls-identity.ts";
import { LlamaTokenizerHost } from "../../adapters/tokenizer-llama/tokenizer-host.ts";
import type { ChainProbesOptions } from "../../coordinator/chains/chain-probes.ts";
import { type Coordinator, createCoordinator } from "../../coordinator/coordinator.ts";
import type { GridAddresses } from "../../coordinator/coordinator-options.ts";
import type { DispatchOptions } from "../../coordinator/dispatch/dispatch-options.ts";
import { assert } from "../../domain/assert.ts";
import { modelId } from "../../domain/ids.ts";
import { fromHex } from "../../market/hex.ts";
import type { TierFactors } from "../../market/tier-price.ts";
import type { Log } from "../../ports/log.ts";
import { LINK_PATH, RELAY_PATH } from "../../wire/agent-link.ts";
import { BUNDLED_MODEL } from "../bundled-model.ts";
import { type HomeFolder, writeFileSafely } from "../home/home-folder.ts";
import { reachableHosts, unbracketed } from "./addresses.ts";
import { childEnvironment } from "./child-environment.ts";
import { openCloudUpstream } from "./cloud-upstream.ts";
import { foundGrid, keptSecrets } from "./found-grid.ts";
import { type NodeNetwork, type NodeNetworkOptions, startNodeNetwork } from "./node-network.ts";
import { openStore } from "./open-store.ts";
import { openReplicaPlanner } from "./replica-planner.ts";
import { readStatusPage } from "./status-page-files.ts";

export interface CoordinatorHost {
  readonly coordinator: Coordinator;
  /** `http://host:port` as this machine reaches it. */
  readonly localUrl: string;
  readonly addresses: GridAddresses;
  readonly apiKey: string;
  /** The grid's own certificate alone, for clients on other machines; null on loopback and where the operator gave his. */
  readonly certificatePath: string | null;
  /** Ends server, coordinator and store, in this order. May be called twice. */
  stop(): Promise<void>;
}

export interface CoordinatorHostOptions {
  readonly home: HomeFolder;
  readonly host: string;
  readonly port: number;
  readonly database: string | undefined;
  /** The operator's own certificate; null for the one that the home keeps. */
  readonly tlsFiles: { readonly certificatePath: string; readonly keyPath: string } | null;
  /** A client that reads nothing for so long, while there is something to read, is gone. */
  readonly clientStallMsMax: number;
  /** What tiers cost, in basis points of the model's price, where it differs from our own. */
  readonly tierFactors?: Partial<TierFactors>;
  /** Of models that are split over nodes. */
  readonly chains?: Pick<DispatchOptions, "stageWire" | "chainSpares">;
  readonly chainProbes?: ChainProbesOptions;
  /** How nodes reach each other. */
  readonly peering: NodeNetworkOptions & { readonly hasRelay: boolean };
  readonly version: string;
  readonly log: Log;
}

/** The operator's certificate is used wherever the grid listens; the grid's own only beyond this machine. */
async function tlsOf({ home, host, tlsFiles }: CoordinatorHostOptions): Promise<{
  readonly tls: TlsIdentity | null;
  readonly certificatePath: string | null;
}> {
  if (tlsFiles !== null) return { tls: await givenTlsIdentity(tlsFiles), certificatePath: null };
  if (isLoopback(host)) return { tls: null, certificatePath: null };
  const tls = await keptTlsIdentity(home.at("tls"), reachableHosts(host).map(unbracketed));
  const certificatePath = home.at("tls", "certificate.pem");
  writeFileSafely(certificatePath, new X509Certificate(tls.certificatePem).toString());
  return { tls, certificatePath };
}

/** Where join codes lead before the server listens: nowhere, and none is made then. */
const NOWHERE: GridAddresses = { urls: [], certificateSha256: null };

export async function startCoordinatorHost(options: CoordinatorHostOptions): Promise<CoordinatorHost> {
  const { home, host, port, log } = options;
  const clock = new SystemClock();
  const random = new SystemRandom();
  const crypto = new NodeCrypto();
  const ids = new UlidIds({ clock, random });
  const secrets = keptSecrets(home, { random });
  const seed = fromHex(secrets.coordinatorSeedHex);
  assert(seed !== null, "home.json was parsed: the seed is hex");
  const undo: Array<() => Promise<void>> = [];
  const stopAll = async () => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  try {
    const store = await openStore(options.database, home);
    undo.push(() => store.close());
    const apiKey = await foundGrid({ clock, random, ids, crypto, store }, home, secrets);
    const { tls, certificatePath } = await tlsOf(options);
    const tokenizers = new LlamaTokenizerHost({ libraryDirectory: null, environment: childEnvironment() });
    undo.push(() => tokenizers.close());
    const planner = openReplicaPlanner();
    undo.push(() => planner.stop());
    const cloudUpstream = openCloudUpstream(home, { clock, log });
    undo.push(() => cloudUpstream.close());
    let addresses = NOWHERE;
    let network: NodeNetwork | null = null;
    const { hasRelay } = options.peering;
    const coordinator = await createCoordinator(
      { clock, random, ids, crypto, log, store, tokenizers, planner, cloudUpstream, ...modelPorts(home) },
      {
        gridKey: crypto.keyPairFrom(seed),
        version: options.version,
        addresses: () => addresses,
        gateway: { clientStallMsMax: options.clientStallMsMax },
        ...(options.tierFactors === undefined ? {} : { tierFactors: options.tierFactors }),
        ...(options.chains === undefined ? {} : { dispatch: options.chains }),
        ...(options.chainProbes === undefined ? {} : { chainProbes: options.chainProbes }),
        peering: () => ({ bootstrap: network?.bootstrap() ?? [], hasRelay }),
        ...(hasRelay ? {} : { relay: { relaysMax: 0 } }),
        statusPage: readStatusPage(),
      },
    );
    undo.push(() => coordinator.stop());
    const links = new LinkServer((link) => coordinator.acceptLink(link));
    const relays = new RelayServer((relayId, bearer) => coordinator.relay.seat(relayId, bearer));
    const openNetwork = async (own: number) => {
      const { gridId, registry: roster } = coordinator;
      const opened = await startNodeNetwork(options.peering, { gridId, host, port: own, roster, log });
      undo.push(() => opened.stop());
      return opened;
    };
    // Before the first node can come, so that it is told of them.
    if (port !== 0) network = await openNetwork(port);
    const server = await startHttpServer({
      host,
      port,
      tls,
      handler: (request, origin) => coordinator.fetch(request, origin),
      links: { path: LINK_PATH, upgrade: (upgrade) => links.upgrade(upgrade) },
      relays: { pathPrefix: RELAY_PATH, upgrade: (upgrade) => relays.upgrade(upgrade) },
      unreadMsMax: options.clientStallMsMax + UNREAD_MARGIN_MS,
    });
    addresses = addressesOf({ host, port: server.port, certificateSha256: tls?.certificateSha256 ?? null });
    undo.push(() => server.close(CLOSE_GRACE_MS));
    network ??= await openNetwork(server.port);
    return {
      coordinator,
      localUrl: server.localUrl,
      addresses,
      apiKey,
      certificatePath,
      stop: stopAll,
    };
  } catch (thrown) {
    await stopAll();
    throw thrown;
  }
}

/** Where models are fetched from and kept. */
function modelPorts(home: HomeFolder) {
  return {
    modelFiles: new DiskModelFiles({
      folder: home.at("models"),
      bundled: [{ modelId: modelId(BUNDLED_MODEL.id), path: BUNDLED_MODEL.path }],
    }),
    modelSources: new NetModelSources({ settings: sourceSettings(process.env) }),
    incomingModels: new DiskIncomingModels({ folder: home.at("models", "incoming") }),
    blobs: new DiskBlobFiles({ folder: home.at("files") }),
    multipart: new BusboyMultipart(),
  };
}

/** The gateway settles and ends a stalled answer first; this is for all else that is sent and not read. */
const UNREAD_MARGIN_MS = 10_000;
/** After the drain only answers that nobody reads are left. */
const CLOSE_GRACE_MS = 500;

function addressesOf(grid: { host: string; port: number; certificateSha256: string | null }): GridAddresses {
  const scheme = grid.certificateSha256 === null ? "http" : "https";
  const urls = reachableHosts(grid.host).map((name) => `${scheme}://${name}:${grid.port}`);
  return { urls, certificateSha256: grid.certificateSha256 };
}
