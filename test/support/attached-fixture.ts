/** The adapter for attached servers over a server that runs somewhere, with the bundled model's vocabulary. */
import { createHash } from "node:crypto";
import { engineEnvironment } from "../../src/adapters/engine-llama/child-environment.ts";
import { ATTACHED_TIMES, type AttachedTimes } from "../../src/adapters/engine-openai/attached-engine.ts";
import { AttachedHost } from "../../src/adapters/engine-openai/attached-host.ts";
import { readAttachedModel } from "../../src/adapters/engine-openai/read-attached-model.ts";
import { ServerHttp } from "../../src/adapters/engine-openai/server-http.ts";
import { LlamaTokenizerHost } from "../../src/adapters/tokenizer-llama/tokenizer-host.ts";
import type { AttachedKind } from "../../src/domain/attached-engine.ts";
import { modelId, sha256Hex } from "../../src/domain/ids.ts";
import type { Engine, EngineLoadSpec } from "../../src/ports/engine.ts";
import { TINY_PATH } from "./engine-fixture.ts";

export interface AttachedFixture extends AsyncDisposable {
  readonly host: AttachedHost;
  readonly tokenizers: LlamaTokenizerHost;
  load(spec?: Partial<EngineLoadSpec>, signal?: AbortSignal): Promise<Engine>;
}

/** `servedAs`: what the server calls the model that the grid calls `tiny`. */
export function attachedFixture(
  baseUrl: string,
  options: { kind?: AttachedKind | "auto"; servedAs?: string; times?: Partial<AttachedTimes> } = {},
): AttachedFixture {
  const { kind = "auto", servedAs = null, times = {} } = options;
  const tokenizers = new LlamaTokenizerHost({ libraryDirectory: null, environment: engineEnvironment(process.env) });
  const host = new AttachedHost({
    server: new ServerHttp({ baseUrl, apiKey: null }),
    wish: { kind, names: new Map(servedAs === null ? [] : [["tiny", servedAs]]), sequencesMax: null },
    tokenizers,
    readModel: readAttachedModel,
    times: { ...ATTACHED_TIMES, ...times },
  });
  const engines: Engine[] = [];
  return {
    host,
    tokenizers,
    async load(spec = {}, signal = new AbortController().signal) {
      const engine = await host.load({ ...TINY_SPEC, ...spec }, { signal });
      engines.push(engine);
      return engine;
    },
    async [Symbol.asyncDispose]() {
      for (const engine of engines) await engine.close();
      await tokenizers.close();
    },
  };
}

const TINY_SPEC: EngineLoadSpec = {
  modelId: modelId("tiny"),
  weightsPath: TINY_PATH,
  weightsSha256: sha256Hex(createHash("sha256").update("tiny").digest("hex")),
  contextTokens: 512,
  sequencesMax: 4,
  threads: 1,
  gpuLayers: 0,
};
