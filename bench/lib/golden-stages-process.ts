/** `golden-stages-process.ts MODEL QUANTISATION...`: a model of the tests' in these quantisations; one line of JSON for each on standard output. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bindLlama } from "../../src/adapters/engine-llama/llama-ffi.ts";
import { findLlamaLibrary } from "../../src/adapters/engine-llama/llama-library.ts";
import { architectureModel, specNamed } from "../../test/support/architecture-model.ts";
import { openQuantiser, QUANTISATION_NAMES } from "../../test/support/quantise.ts";
import { goldenChains } from "./golden-chain.ts";

const [name = "", ...wanted] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), "fallow-golden-"));
try {
  const api = bindLlama(findLlamaLibrary({ directory: null, variant: "cpu" }));
  const quantise = openQuantiser();
  const source = join(folder, "f32.gguf");
  writeFileSync(source, await architectureModel(specNamed(name)));
  for (const quantisation of QUANTISATION_NAMES.filter((known) => wanted.includes(known))) {
    const path = quantisation === "F32" ? source : join(folder, `${quantisation}.gguf`);
    if (quantisation !== "F32") quantise(source, path, quantisation);
    const chains = await goldenChains(api, { path, bytes: readFileSync(path) });
    process.stdout.write(`${JSON.stringify({ model: name, quantisation, chains })}\n`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
