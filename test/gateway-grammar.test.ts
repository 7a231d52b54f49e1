/** The engine's own parser takes every grammar that schemas are compiled to, and what the tiny model writes under it is valid. */
import { Ajv2020 } from "ajv/dist/2020.js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { HERMES, toolSupportOf } from "../src/inference/chat/tool-format.ts";
import { GrammarBuilder, literal } from "../src/inference/grammar/grammar-builder.ts";
import { addSchema, jsonSchemaGrammar } from "../src/inference/grammar/json-schema-grammar.ts";
import type { Engine } from "../src/ports/engine.ts";
import type { Tokenizer } from "../src/ports/tokenizer.ts";
import { engineHost, generate, loadTiny, taskOf } from "./support/engine-fixture.ts";
import { SCHEMAS } from "./support/sample-schemas.ts";
import { openTiny } from "./support/tokenizer-fixture.ts";

/** Enough for most values to end; one that does not is not checked for its end, only for being accepted. */
const TOKENS_MAX = 48;

let engine: Engine;
let tokenizer: Tokenizer;
let close: () => Promise<void>;

beforeAll(async () => {
  engine = await loadTiny(engineHost(), { sequencesMax: 4 });
  ({ tokenizer, close } = await openTiny());
});
afterAll(async () => {
  await engine.close();
  await close();
});

async function written(grammar: string): Promise<{ text: string; isWhole: boolean }> {
  const { tokenIds, reason } = await generate(engine, taskOf({ grammar, tokensMax: TOKENS_MAX }));
  const bytes = tokenIds.flatMap((tokenId) => [...tokenizer.piece(tokenId)]);
  return { text: new TextDecoder().decode(Uint8Array.from(bytes)), isWhole: reason !== "length" };
}

describe("under a grammar of a schema the engine", () => {
  test.each(Object.entries(SCHEMAS))("writes a valid value: %s", async (_, schema) => {
    const grammar = jsonSchemaGrammar(schema);
    if (!grammar.ok) throw new Error(grammar.reason.message);
    const { text, isWhole } = await written(grammar.value);
    if (!isWhole) return expect(text).not.toBe("");
    const ajv = new Ajv2020({ strict: false, validateFormats: false });
    const validate = ajv.compile(typeof schema === "object" && schema !== null ? schema : schema === true);
    expect(validate(JSON.parse(text)), `${text}: ${ajv.errorsText(validate.errors)}`).toBe(true);
  });

  test("writes a call in each family's form", async () => {
    const deepseek = toolSupportOf("{{ tools }}<｜tool▁call▁begin｜>```json").format;
    for (const { written: form } of [HERMES, deepseek]) {
      const builder = new GrammarBuilder();
      const values = addSchema(builder, {
        type: "object",
        properties: { n: { type: "integer", maximum: 9, minimum: 0 } },
        required: ["n"],
      });
      if (!values.ok) throw new Error(values.reason.message);
      const grammar = builder.text(
        `${literal(`${form.before}f${form.between}`)} (${values.value}) ${literal(form.after)}`,
      );
      const { text } = await written(grammar);
      expect(`${form.before}f${form.between}`.startsWith(text.slice(0, 20))).toBe(true);
    }
  });
});
