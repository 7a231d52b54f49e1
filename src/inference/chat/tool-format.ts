/**
 * How model families write tool calls. A template tells its family by the markers in it; one without any gets the Hermes
 * format, explained in a system message, because it is the one most models have met.
 *
 * | family       | a call looks like                                                        | source                                   |
 * | ------------ | ------------------------------------------------------------------------ | ---------------------------------------- |
 * | hermes       | `<tool_call>{"name": …, "arguments": {…}}</tool_call>`                    | Nous Hermes 2 Pro, Qwen 2.5 and 3 cards  |
 * | llama        | `{"name": …, "parameters": {…}}`, maybe after `<\|python_tag\|>`          | Llama 3.1 and 3.2 prompt formats         |
 * | mistral      | `[TOOL_CALLS][{"name": …, "arguments": {…}}]` or `[TOOL_CALLS]name[ARGS]{…}` | mistral-common v3, v11                |
 * | function-tag | `<function=name>{…}</function>`                                          | Llama 3.1 custom tools, functionary v3.1 |
 * | deepseek     | `<｜tool▁call▁begin｜>…<｜tool▁sep｜>…<｜tool▁call▁end｜>`                | DeepSeek V3, R1, V3.1 templates          |
 * | list         | `<\|tool_call\|>[{"name": …, "arguments": {…}}]`                          | Phi-4-mini, Granite 3 cards              |
 *
 * Not handled: calls written as XML elements (Qwen3-Coder) or in channels (gpt-oss); their text reaches the caller as it is.
 */
export interface ToolFormat {
  readonly family: "hermes" | "llama" | "mistral" | "function-tag" | "deepseek" | "list";
  /** Any of these begins calls. */
  readonly open: readonly string[];
  /** Any of these ends them; the rest is text again. */
  readonly close: readonly string[];
  /** A JSON object or list at the very start of an answer is a call as well. */
  readonly startsBare: boolean;
  /** A call that begins with its name: group 1 is the name, and the arguments follow the match. Null: calls are JSON objects. */
  readonly named: RegExp | null;
  /** How a forced call is written around its name and its arguments. */
  readonly written: { readonly before: string; readonly between: string; readonly after: string };
}

const json = (key: string) => ({ before: '{"name": "', between: `", "${key}": `, after: "}" });

export const HERMES: ToolFormat = {
  family: "hermes",
  open: ["<tool_call>"],
  close: ["</tool_call>"],
  startsBare: false,
  named: null,
  written: { before: '<tool_call>\n{"name": "', between: '", "arguments": ', after: "}\n</tool_call>" },
};

const LLAMA: ToolFormat = {
  family: "llama",
  open: ["<|python_tag|>"],
  close: ["<|eom_id|>", "<|eot_id|>"],
  startsBare: true,
  named: null,
  written: json("parameters"),
};

const MISTRAL: ToolFormat = {
  family: "mistral",
  open: ["[TOOL_CALLS]"],
  close: ["[/TOOL_CALLS]"],
  startsBare: true,
  named: /^([A-Za-z0-9_-]{1,64})(?:\[CALL_ID\][A-Za-z0-9]{1,64})?(?:\[ARGS\])?(?=\{)/,
  written: { before: '[TOOL_CALLS][{"name": "', between: '", "arguments": ', after: "}]" },
};

const FUNCTION_TAG: ToolFormat = {
  family: "function-tag",
  open: ["<function="],
  close: ["</function>"],
  startsBare: false,
  named: /^([A-Za-z0-9_-]{1,64})>\s*(?=\{)/,
  written: { before: "<function=", between: ">", after: "</function>" },
};

const DEEPSEEK: ToolFormat = {
  family: "deepseek",
  open: ["<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>"],
  close: ["<｜tool▁calls▁end｜>", "<｜tool▁call▁end｜>"],
  startsBare: false,
  named: /^(?:function<｜tool▁sep｜>)?([A-Za-z0-9_-]{1,64})(?:<｜tool▁sep｜>|\n```json\n)\s*(?=\{)/,
  written: {
    before: "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>",
    between: "\n```json\n",
    after: "\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
  },
};

/** DeepSeek V3.1 writes the name first and no code fence. */
const DEEPSEEK_NAME_FIRST: ToolFormat = {
  ...DEEPSEEK,
  written: {
    before: "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>",
    between: "<｜tool▁sep｜>",
    after: "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
  },
};

const LIST: ToolFormat = {
  family: "list",
  open: ["<|tool_call|>", "<tool_call>"],
  close: ["<|/tool_call|>", "</tool_call>"],
  startsBare: false,
  named: null,
  written: { before: '<|tool_call|>[{"name": "', between: '", "arguments": ', after: "}]" },
};

export interface ToolSupport {
  readonly format: ToolFormat;
  /** False: the template has no place for tools, so a system message has to explain them. */
  readonly isNative: boolean;
}

/** What a template's source says about tools; the first marker in this order decides. */
export function toolSupportOf(templateSource: string): ToolSupport {
  const has = (marker: string) => templateSource.includes(marker);
  if (!/\btools\b/.test(templateSource)) return { format: HERMES, isNative: false };
  if (has("<｜tool▁call▁begin｜>")) {
    return { format: has("```json") ? DEEPSEEK : DEEPSEEK_NAME_FIRST, isNative: true };
  }
  if (has("[TOOL_CALLS]")) return { format: MISTRAL, isNative: true };
  if (has("<|tool_call|>")) return { format: LIST, isNative: true };
  if (has("<tool_call>")) return { format: HERMES, isNative: true };
  if (has("<function=")) return { format: FUNCTION_TAG, isNative: true };
  if (has("<|python_tag|>") || has('"parameters"')) return { format: LLAMA, isNative: true };
  return { format: HERMES, isNative: true };
}

/** The markers that may be control tokens, whose text a detokeniser would leave out. */
export function markersOf(format: ToolFormat): readonly string[] {
  const inside = format.family === "mistral" ? ["[ARGS]", "[CALL_ID]"] : [];
  const separators = format.family === "deepseek" ? ["<｜tool▁sep｜>"] : [];
  return [...format.open, ...format.close, ...inside, ...separators];
}
