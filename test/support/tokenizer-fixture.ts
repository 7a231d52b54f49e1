/** The real tokenizer over the bundled model. */
import { engineEnvironment } from "../../src/adapters/engine-llama/child-environment.ts";
import { LlamaTokenizerHost } from "../../src/adapters/tokenizer-llama/tokenizer-host.ts";
import { modelId } from "../../src/domain/ids.ts";
import type { Tokenizer } from "../../src/ports/tokenizer.ts";
import { TINY_PATH } from "./engine-fixture.ts";

export async function openTiny(): Promise<{
  readonly tokenizer: Tokenizer;
  readonly host: LlamaTokenizerHost;
  readonly close: () => Promise<void>;
}> {
  const host = new LlamaTokenizerHost({ libraryDirectory: null, environment: engineEnvironment(process.env) });
  const tokenizer = await host.open({ modelId: modelId("tiny"), weightsPath: TINY_PATH });
  return { tokenizer, host, close: () => host.close() };
}
