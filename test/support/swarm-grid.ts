/**
 * A grid that distributes weights for real: the coordinator's registry, tracker and source behind a real server on loopback, and agents with
 * real memberships, stores on the disk and links to each other over TLS. Only engines and planning are left out: a test says who needs what.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DiskChunkStore } from "../../src/adapters/chunk-store-disk/disk-chunk-store.ts";
import { SystemClock } from "../../src/adapters/clock-system/system-clock.ts";
import { SystemRandom } from "../../src/adapters/clock-system/system-random.ts";
import { NodeCrypto } from "../../src/adapters/crypto-node/node-crypto.ts";
import { type HttpServer, startHttpServer } from "../../src/adapters/http-server/http-server.ts";
import { LinkServer } from "../../src/adapters/link-websocket/link-server.ts";
import { WebSocketDialer } from "../../src/adapters/link-websocket/websocket-dialer.ts";
import { DiskModelFiles } from "../../src/adapters/model-files-disk/disk-model-files.ts";
import { openTcpCarrier, type TcpCarrier } from "../../src/adapters/peer-tcp/tcp-carrier.ts";
import { HttpWeightsSource } from "../../src/adapters/weights-http/http-weights-source.ts";
import { WeightsSwarm, type WeightsSwarmOptions } from "../../src/agent/cache/swarm/weights-swarm.ts";
import { AgentMembership } from "../../src/agent/membership/agent-membership.ts";
import { PeerDuties } from "../../src/agent/peer-duties.ts";
import { openPeerNetwork } from "../../src/agent/peering/peer-network.ts";
import { WayNews } from "../../src/agent/peering/way-news.ts";
import { describeWeights, readWeights } from "../../src/coordinator/models/read-weights.ts";
import { NodeRegistry } from "../../src/coordinator/registry/node-registry.ts";
import { WeightsDistribution } from "../../src/coordinator/weights/distribution.ts";
import { assert } from "../../src/domain/assert.ts";
import { toHex } from "../../src/domain/hex.ts";
import type { NodeId, Sha256Hex } from "../../src/domain/ids.ts";
import { CHUNK_BYTES_DEFAULT } from "../../src/domain/weights.ts";
import { pause } from "../../src/ports/clock.ts";
import type { KeyPair } from "../../src/ports/crypto.ts";
import type { Log } from "../../src/ports/log.ts";
import type { PeerCarrier } from "../../src/ports/peer-carrier.ts";
import type { PeerFetchAnswer, PeerNetwork } from "../../src/ports/peer-link.ts";
import type { WeightsSource } from "../../src/ports/weights-source.ts";
import { simLog } from "../../src/sim/sim-log.ts";
import { MemoryStore } from "../../src/sim/store/memory-store.ts";
import { LINK_PATH } from "../../src/wire/agent-link.ts";
import { decodeChunkRequest } from "../../src/wire/chunk-request.ts";
import { CAPABILITIES, RecordedWork } from "./membership-grid.ts";

export const SWARM_GRID_ID = "grid-swarm";

export interface SwarmModel {
  readonly weightsSha256: Sha256Hex;
  readonly fileBytes: number;
}

export interface SwarmAgentOptions {
  readonly keyPair?: KeyPair;
  /** Shared with another agent, or kept over a restart. */
  readonly folder?: string;
  readonly limits?: Omit<WeightsSwarmOptions, "keyPair">;
  readonly source?: (real: WeightsSource) => WeightsSource;
  readonly carriers?: (tcp: TcpCarrier) => readonly PeerCarrier[];
  readonly headroomBytes?: number;
}

export interface SwarmAgent {
  readonly nodeId: NodeId;
  readonly keyPair: KeyPair;
  readonly folder: string;
  readonly swarm: WeightsSwarm;
  readonly network: PeerNetwork;
  readonly membership: AgentMembership;
  /** What the coordinator told it and it told the coordinator. */
  readonly sent: { readonly type: string }[];
  /** Order, then fetch; resolves with the path. */
  fetch(model: SwarmModel, more?: FetchOptions): Promise<string>;
  stop(): Promise<void>;
}

export interface FetchOptions {
  readonly layers?: { first: number; count: number; hasEmbedding: boolean; hasOutput: boolean };
  readonly isIdle?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (doneBytes: number) => void;
}

export class SwarmGrid {
  readonly folder: string;
  readonly clock = new SystemClock();
  readonly random = new SystemRandom();
  readonly crypto = new NodeCrypto();
  readonly gridKey: KeyPair;
  readonly log: Log;
  readonly logged: { readonly event: string; readonly fields: Readonly<Record<string, unknown>> }[] = [];
  readonly #store: MemoryStore;
  readonly #models = new Map<string, string>();
  readonly #ends: (() => Promise<void>)[] = [];
  readonly #ordered: { readonly nodeId: NodeId; readonly model: SwarmModel }[] = [];
  #boot = 0;
  #port = 0;
  registry: NodeRegistry;
  distribution: WeightsDistribution;
  server: HttpServer | null = null;

  private constructor(folder: string) {
    this.folder = folder;
    this.gridKey = this.crypto.generateKeyPair();
    this.log = simLog(({ event, fields }) => this.logged.push({ event, fields }));
    this.#store = new MemoryStore({ writeLatencyMs: 0 }, { clock: this.clock });
    [this.registry, this.distribution] = this.#coordinator();
  }

  static async open(): Promise<SwarmGrid> {
    const grid = new SwarmGrid(await mkdtemp(join(tmpdir(), "fallow-swarm-")));
    await grid.#listen();
    return grid;
  }

  /** What the coordinator sent of all models. */
  get sourceBytes(): number {
    return this.distribution.tracker.swarms().reduce((sum, swarm) => sum + swarm.sourceBytes, 0);
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Keeps a file, cuts and signs it as `fallow models add` does. */
  async addModel(path: string): Promise<SwarmModel> {
    const files = this.#modelFiles();
    const facts = await readWeights([{ path, name: "model.gguf", digests: null }], {
      modelFiles: files,
      crypto: this.crypto,
      signal: new AbortController().signal,
    });
    assert(facts.ok, `${path} is a model`);
    const { weightsSha256, read } = facts.value;
    await files.keep([{ path, name: "model.gguf", isOurs: false }], weightsSha256);
    const keys = { crypto: this.crypto, gridKey: this.gridKey };
    const description = describeWeights(facts.value, { origin: { kind: "local" }, licence: null }, keys);
    assert(description.ok, "its manifest can be signed");
    await files.describe(weightsSha256, description.value);
    this.#models.set(weightsSha256, path);
    return { weightsSha256, fileBytes: read.manifest.fileBytes };
  }

  async agent(options: SwarmAgentOptions = {}): Promise<SwarmAgent> {
    const { clock, random, crypto, log } = this;
    const keyPair = options.keyPair ?? crypto.generateKeyPair();
    const folder = options.folder ?? (await mkdtemp(join(this.folder, "agent-")));
    const target = { url: this.url, certificateSha256: null };
    const tcp = await openTcpCarrier({ keyPair, host: "127.0.0.1", port: 0 });
    const network = openPeerNetwork({ clock, random, crypto, log, carriers: options.carriers?.(tcp) ?? [tcp] });
    const http = new HttpWeightsSource({ target });
    const { headroomBytes = null } = options;
    const swarm = new WeightsSwarm(
      {
        clock,
        random,
        crypto,
        log,
        store: new DiskChunkStore({ folder, headroomBytes }),
        source: options.source?.(http) ?? http,
        network,
      },
      { keyPair, ...options.limits },
    );
    const news = new WayNews({ clock, crypto, network, endpoints: () => tcp.endpoints() });
    const duties = new PeerDuties({ weights: swarm, relay: null, news });
    const sent: { readonly type: string }[] = [];
    const { token } = await this.registry.issueJoinToken({ usesMax: 1, ttlMs: 60_000 });
    const online = Promise.withResolvers<void>();
    const membership = new AgentMembership(
      {
        name: "swarm",
        target,
        gridId: SWARM_GRID_ID,
        joinToken: token,
        version: "0.0.0-test",
        onStatus: ({ kind }) => {
          if (kind === "online") online.resolve();
        },
      },
      {
        dialer: new WebSocketDialer(),
        clock,
        crypto,
        random,
        log,
        keyPair,
        capabilities: () => CAPABILITIES,
        work: new RecordedWork(),
        peers: {
          onLineUp: (line) =>
            duties.onLineUp({
              ...line,
              send: (message) => {
                sent.push(message);
                line.send(message);
              },
            }),
          onLineDown: () => duties.onLineDown(),
          onPeerOrder: (order) => duties.onPeerOrder(order),
          onYield: (isYielding) => duties.onYield(isYielding),
        },
      },
    );
    membership.start();
    await online.promise;
    const { nodeId } = membership;
    const agent: SwarmAgent = {
      nodeId,
      keyPair,
      folder,
      swarm,
      network,
      membership,
      sent,
      fetch: (model, more = {}) => {
        this.order(nodeId, model);
        const { signal = new AbortController().signal, onProgress = () => undefined, layers, isIdle } = more;
        const want = {
          ...model,
          ...(layers === undefined ? {} : { layers }),
          ...(isIdle === undefined ? {} : { isIdle }),
        };
        return swarm.ensure(want, { signal, onProgress });
      },
      stop: async () => {
        await membership.stop({ drainMs: 0 });
        await network.close();
        http.close();
        await swarm.close();
      },
    };
    this.#ends.push(() => agent.stop());
    return agent;
  }

  /** A node that tells of the whole model, lets everybody in, and answers with a lie made of the right bytes. */
  async liar(
    model: SwarmModel,
    path: string,
    lie: (chunk: Uint8Array) => PeerFetchAnswer,
  ): Promise<{ readonly nodeId: NodeId; asked(): number }> {
    const { clock, random, crypto, log } = this;
    const keyPair = crypto.generateKeyPair();
    const tcp = await openTcpCarrier({ keyPair, host: "127.0.0.1", port: 0 });
    const network = openPeerNetwork({ clock, random, crypto, log, carriers: [tcp] });
    const content = await readFile(path);
    let asked = 0;
    network.serve({
      admit: () => ({ ok: true, expiresAtMs: clock.wallMs() + 600_000 }),
      onFetch: async (request) => {
        asked += 1;
        const { chunk = 0, part = null } = decodeChunkRequest(request) ?? {};
        const whole = content.subarray(chunk * CHUNK_BYTES_DEFAULT, (chunk + 1) * CHUNK_BYTES_DEFAULT);
        return lie(part === null ? whole : whole.subarray(part.offset, part.offset + part.length));
      },
      onMessage: () => undefined,
    });
    this.#ends.push(() => network.close());
    return { nodeId: await this.claimant(model, { keyPair, tcp }), asked: () => asked };
  }

  /** Joins in the name of a key, and tells that it has the whole model there. */
  async claimant(model: SwarmModel, { keyPair, tcp }: { keyPair: KeyPair; tcp: TcpCarrier }): Promise<NodeId> {
    const { clock, random, crypto, log } = this;
    const { token } = await this.registry.issueJoinToken({ usesMax: 1, ttlMs: 60_000 });
    const online = Promise.withResolvers<void>();
    const membership = new AgentMembership(
      {
        name: "liar",
        target: { url: this.url, certificateSha256: null },
        gridId: SWARM_GRID_ID,
        joinToken: token,
        version: "0.0.0-test",
      },
      {
        dialer: new WebSocketDialer(),
        clock,
        crypto,
        random,
        log,
        keyPair,
        capabilities: () => CAPABILITIES,
        work: new RecordedWork(),
        peers: {
          onLineUp: (line) => {
            line.send({ type: "peer.endpoints", endpoints: { tcp: [...tcp.endpoints().tcp], hasUdp: false } });
            this.order(membership.nodeId, model);
            const count = Math.ceil(model.fileBytes / CHUNK_BYTES_DEFAULT);
            const { weightsSha256 } = model;
            line.send({ type: "weights.have", weightsSha256, runs: [[0, count]], uploads: 0, uploadsMax: 16 });
            online.resolve();
          },
          onLineDown: () => undefined,
          onPeerOrder: () => undefined,
        },
      },
    );
    membership.start();
    await online.promise;
    this.#ends.push(() => membership.stop({ drainMs: 0 }));
    return membership.nodeId;
  }

  /** Resolves when the coordinator has heard that the node has so much of the model: it is told twice a second. */
  async heard(
    nodeId: NodeId,
    { weightsSha256 }: SwarmModel,
    isEnough: (chunks: number, of: number) => boolean,
  ): Promise<void> {
    for (;;) {
      const swarm = this.distribution.tracker.swarms().find((one) => one.weightsSha256 === weightsSha256);
      if (swarm !== undefined && isEnough(swarm.holdings.get(nodeId)?.have.size ?? 0, swarm.chunkCount)) return;
      await pause(this.clock, 20);
    }
  }

  /** The coordinator tells a node to have a model: only then it may ask for it. */
  order(nodeId: NodeId, model: SwarmModel): void {
    this.#ordered.push({ nodeId, model });
    this.registry.send(nodeId, { type: "weights.stage", ...model });
  }

  /** The coordinator's process ends; with `start` another begins on the same port. */
  async stopCoordinator(): Promise<void> {
    this.registry.stop();
    this.distribution.stop();
    await this.server?.close(0);
    this.server = null;
  }

  async startCoordinator(): Promise<void> {
    [this.registry, this.distribution] = this.#coordinator();
    this.registry.subscribe({
      // Its plans were kept: who was told before is told again.
      onOnline: (nodeId) => {
        for (const order of this.#ordered.filter((one) => one.nodeId === nodeId)) {
          this.registry.send(nodeId, { type: "weights.stage", ...order.model });
        }
      },
      onSuspect: () => undefined,
      onWithdrawn: () => undefined,
      onGone: () => undefined,
      onWork: () => undefined,
      onReplicas: () => undefined,
    });
    await this.#listen();
  }

  async close(): Promise<void> {
    await Promise.all(this.#ends.map((end) => end()));
    await this.stopCoordinator();
    await rm(this.folder, { recursive: true, force: true });
  }

  #coordinator(): [NodeRegistry, WeightsDistribution] {
    const { clock, crypto, random, log, gridKey } = this;
    const registry = new NodeRegistry(
      {
        gridId: SWARM_GRID_ID,
        boot: ++this.#boot,
        gridPublicKeyHex: toHex(gridKey.publicKey),
        peering: () => ({ bootstrap: [], hasRelay: false }),
      },
      { store: this.#store, clock, crypto, random, log },
    );
    const distribution = new WeightsDistribution(
      { gridId: SWARM_GRID_ID, gridKey },
      {
        clock,
        crypto,
        random,
        log,
        modelFiles: this.#modelFiles(),
        meta: this.#store.meta,
        registry,
        models: {
          byWeights: (weightsSha256) => (this.#models.has(weightsSha256) ? { manifest: { modelId: "random" } } : null),
          list: () => [],
          onChange: () => undefined,
        },
      },
    );
    return [registry, distribution];
  }

  async #listen(): Promise<void> {
    await this.registry.start();
    const links = new LinkServer((link) => this.registry.accept(link));
    this.server = await startHttpServer({
      host: "127.0.0.1",
      port: this.#port,
      tls: null,
      handler: async (request) =>
        (await this.distribution.endpoint.handle(request)) ?? new Response(null, { status: 404 }),
      links: { path: LINK_PATH, upgrade: (upgrade) => links.upgrade(upgrade) },
    });
    this.#port = this.server.port;
  }

  #modelFiles(): DiskModelFiles {
    return new DiskModelFiles({ folder: join(this.folder, "models"), bundled: [] });
  }
}
