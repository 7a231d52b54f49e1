/**
 * The real gateway (HTTP server, store, settlement, tokeniser) with the real engine behind it and nothing between: no lease, no
 * link, no agent. What the engine says is noted with its time, so that what the gateway adds can be read off each token.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Registry } from "prom-client";
import { SystemClock } from "../../src/adapters/clock-system/system-clock.ts";
import { SystemRandom } from "../../src/adapters/clock-system/system-random.ts";
import { NodeCrypto } from "../../src/adapters/crypto-node/node-crypto.ts";
import { engineEnvironment } from "../../src/adapters/engine-llama/child-environment.ts";
import { LlamaEngineHost } from "../../src/adapters/engine-llama/engine-host.ts";
import { startHttpServer } from "../../src/adapters/http-server/http-server.ts";
import { UlidIds } from "../../src/adapters/ids-ulid/ulid-ids.ts";
import { createPinoLog } from "../../src/adapters/log-pino/pino-log.ts";
import { openThreadedSqliteStore } from "../../src/adapters/store-sql/sqlite-thread.ts";
import { openFileByteSource } from "../../src/adapters/tokenizer-llama/file-byte-source.ts";
import { LlamaTokenizerHost } from "../../src/adapters/tokenizer-llama/tokenizer-host.ts";
import { keyFor, makeSecret } from "../../src/coordinator/admin/create-key.ts";
import { createGateway } from "../../src/coordinator/gateway/gateway.ts";
import { GATEWAY_DEFAULTS } from "../../src/coordinator/gateway/gateway-options.ts";
import { Settlement } from "../../src/coordinator/settlement/settlement.ts";
import type { AttemptRecord } from "../../src/domain/attempt.ts";
import type { Dispatch, GenerationRequest } from "../../src/domain/generation.ts";
import {
  attemptId,
  leaseId,
  type ModelId,
  modelId,
  nodeId,
  type Sha256Hex,
  sha256Hex,
  tenantId,
} from "../../src/domain/ids.ts";
import type { ModelManifest } from "../../src/domain/model.ts";
import { microUsd } from "../../src/domain/money.ts";
import { houseCredit } from "../../src/market/house.ts";
import type { Engine, GenerateTask } from "../../src/ports/engine.ts";
import { readManifest } from "../../src/weights/model-reader.ts";
import { machineMs } from "./timed-client.ts";

const WEIGHTS = fileURLToPath(new URL("../../models/tiny-q8_0.gguf", import.meta.url));
const CONTEXT_TOKENS = 1_024;
const NODE = nodeId(`node_${"0".repeat(32)}`);
/** What the engine did for one request. */
export interface EngineTimes {
  /** When it was asked. */
  readonly askedMs: number;
  /** For each token: when it was here, and how many bytes of text there were with it. */
  readonly tokens: { atMs: number; textBytes: number }[];
  endedMs: number;
}

export interface GatewayAlone {
  readonly port: number;
  readonly key: string;
  readonly engine: Engine;
  /** By request id. */
  readonly times: ReadonlyMap<string, EngineTimes>;
  stop(): Promise<void>;
}

export async function startGatewayAlone(options: { sequencesMax: number }): Promise<GatewayAlone> {
  const directory = mkdtempSync(join(tmpdir(), "fallow-bench-"));
  const clock = new SystemClock();
  const random = new SystemRandom();
  const crypto = new NodeCrypto();
  const ids = new UlidIds({ clock, random });
  const log = createPinoLog({ level: "error" });
  const store = await openThreadedSqliteStore({ path: join(directory, "grid.sqlite"), nowMs: Date.now() });
  const environment = engineEnvironment(process.env);
  const tokenizers = new LlamaTokenizerHost({ libraryDirectory: null, environment });
  const id = modelId("tiny");
  const tokenizer = await tokenizers.open({ modelId: id, weightsPath: WEIGHTS });
  const engines = new LlamaEngineHost({
    variant: "cpu",
    libraryDirectory: null,
    selfTestModelPath: WEIGHTS,
    environment,
  });
  const load = {
    modelId: id,
    weightsPath: WEIGHTS,
    weightsSha256: sha256Hex("0".repeat(64)),
    contextTokens: CONTEXT_TOKENS,
  };
  const engine = await engines.load(
    { ...load, sequencesMax: options.sequencesMax, threads: 1, gpuLayers: 0 },
    { signal: new AbortController().signal },
  );
  const tenant = { tenantId: tenantId(ids.make("ten")), name: "bench", createdAtMs: Date.now(), limits: null };
  await store.tenants.create(tenant);
  await store.ledger.apply([
    houseCredit({
      tenantId: tenant.tenantId,
      creditId: "bench",
      amountMicroUsd: microUsd(1_000_000_000),
      atMs: Date.now(),
    }),
  ]);
  const secret = makeSecret(random);
  await store.keys.create(
    keyFor({ clock, ids, crypto }, { secret, tenant: tenant.tenantId, terms: { name: "bench" } }),
  );
  const keyPair = crypto.keyPairFrom(new Uint8Array(32).fill(1));
  const settlement = new Settlement({ gridId: "bench" }, { store, clock, crypto, ids, log, keyPair });
  await settlement.start();
  const times = new Map<string, EngineTimes>();
  const manifest = await readTiny({ modelId: id, weightsSha256: load.weightsSha256 }, (data) => crypto.sha256(data));
  const gateway = createGateway(
    { ...GATEWAY_DEFAULTS, version: "bench", seedSecret: random.bytes(32) },
    {
      dispatch: directDispatch(engine, { times, ids, bytesOf: (tokenId) => tokenizer.piece(tokenId).length }),
      settlement,
      models: {
        list: () => [manifest],
        get: () => ({ manifest, tokenizer }),
        readyReplicas: () => 1,
        numericClass: () => engine.info.numericClass,
        priceOf: () => manifest.price,
      },
      ...{ store, clock, crypto, random, ids, log, registry: new Registry() },
    },
  );
  const server = await startHttpServer({
    host: "127.0.0.1",
    port: 0,
    tls: null,
    handler: (request, origin) => gateway.fetch(request, origin),
    links: { path: "/none", upgrade: ({ socket }) => socket.destroy() },
  });
  return {
    port: server.port,
    key: secret,
    engine,
    times,
    stop: async () => {
      await server.close(1_000);
      settlement.stop();
      await engine.close();
      await tokenizers.close();
      await store.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

async function readTiny(
  load: { modelId: ModelId; weightsSha256: Sha256Hex },
  sha256: (data: Uint8Array) => Uint8Array,
): Promise<ModelManifest> {
  const source = await openFileByteSource(WEIGHTS);
  const read = await readManifest(source, sha256);
  await source.close();
  if (!read.ok) throw new Error(read.reason.message);
  const price = { inputMicroUsdPerMtok: 50_000, outputMicroUsdPerMtok: 200_000 };
  return { ...read.value.manifest, ...load, price, warmReplicas: 1, addedAtMs: 0 };
}

export function taskOf(request: GenerationRequest): GenerateTask {
  return {
    tokenIds: request.promptTokenIds,
    generatedCount: 0,
    tokensMax: request.tokensMax,
    sampling: request.sampling,
    seed: request.seed,
    choice: request.choice,
    stopStrings: request.stopStrings,
    grammar: request.grammar,
    cacheScope: request.cacheScope,
    ignoreStopTokens: request.ignoreStopTokens,
    topLogprobs: request.topLogprobs,
  };
}

/** Dispatch without a grid: the engine of this very process, called as it is. */
function directDispatch(
  engine: Engine,
  more: { times: Map<string, EngineTimes>; ids: UlidIds; bytesOf: (tokenId: number) => number },
): Dispatch {
  return {
    embed: () => Promise.reject(new Error("this bench embeds nothing")),
    generate: (request, onEvent) => {
      const noted: EngineTimes = { askedMs: machineMs(), tokens: [], endedMs: 0 };
      more.times.set(request.terms.requestId, noted);
      let textBytes = 0;
      const record: AttemptRecord = {
        attemptId: attemptId(more.ids.make("att")),
        leaseId: leaseId(more.ids.make("lease")),
        epoch: 1,
        nodeId: NODE,
        nodePublicKeyHex: "00".repeat(32),
        choice: request.choice,
        acknowledgedTokens: 0,
        ending: "finished",
        detail: null,
        statementJson: null,
        signatureHex: null,
      };
      const attempts = () => [{ ...record, acknowledgedTokens: noted.tokens.length }];
      const sequence = engine.generate(taskOf(request), (event) => {
        if (event.kind === "failed") throw new Error(`${event.code}: ${event.message}`);
        const atMs = machineMs();
        if (event.kind === "end") {
          noted.endedMs = atMs;
          onEvent({ kind: "end", reason: event.reason });
          return;
        }
        for (const { tokenId } of event.tokens) {
          textBytes += more.bytesOf(tokenId);
          noted.tokens.push({ atMs, textBytes });
        }
        onEvent({ kind: "tokens", tokens: event.tokens });
      });
      queueMicrotask(() => onEvent({ kind: "started", nodeId: NODE, queuedMs: 0 }));
      return {
        attempts,
        finish: () => {
          sequence.abort();
          return Promise.resolve(attempts());
        },
      };
    },
  };
}
