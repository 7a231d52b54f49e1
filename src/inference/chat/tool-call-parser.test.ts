import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { OutputDelta } from "./conversation.ts";
import { ReasoningSplitter } from "./reasoning-splitter.ts";
import { ToolCallParser } from "./tool-call-parser.ts";
import { HERMES, type ToolFormat, toolSupportOf } from "./tool-format.ts";

/** The beginnings of published templates that tell their family. */
const FAMILIES = {
  hermes: HERMES,
  qwen: toolSupportOf("{%- if tools %}…within <tool_call></tool_call> XML tags").format,
  llama: toolSupportOf('{% if tools %}{"name": function name, "parameters": …}<|python_tag|>').format,
  mistral: toolSupportOf('{% if tools %}[AVAILABLE_TOOLS]…{{ "[TOOL_CALLS] [" }}').format,
  functionTag: toolSupportOf("{% if tools %}<function=example_function_name>{…}</function>").format,
  deepseek: toolSupportOf("{% for tool in tools %}<｜tool▁call▁begin｜>…\n```json\n").format,
  deepseekNameFirst: toolSupportOf("{% for tool in tools %}<｜tool▁call▁begin｜>").format,
  phi: toolSupportOf("{% if tools %}<|tool|>…<|tool_call|>").format,
} as const;

interface Read {
  readonly text: string;
  readonly calls: readonly { name: string; arguments: string }[];
}

function read(format: ToolFormat, pieces: readonly string[], toolNames = ["get_weather", "get_time"]): Read {
  const parser = new ToolCallParser({ format, toolNames });
  return collected([...pieces.flatMap((piece) => parser.push(piece)), ...parser.finish()]);
}

function collected(deltas: readonly OutputDelta[]): Read {
  let text = "";
  const calls: { name: string; arguments: string }[] = [];
  for (const delta of deltas) {
    if (delta.kind === "text") text += delta.text;
    if (delta.kind === "tool-call") calls[delta.index] = { name: delta.name, arguments: "" };
    if (delta.kind === "tool-arguments")
      calls[delta.index] = {
        ...(calls[delta.index] ?? { name: "?" }),
        arguments: (calls[delta.index]?.arguments ?? "") + delta.text,
      };
  }
  return { text, calls };
}

const PARIS = { name: "get_weather", arguments: '{"city": "Paris"}' };
const CET = { name: "get_time", arguments: '{"zone": "CET"}' };

const EXAMPLES: readonly (readonly [string, ToolFormat, string, Read])[] = [
  [
    "hermes, one call",
    FAMILIES.hermes,
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>',
    { text: "", calls: [PARIS] },
  ],
  [
    "qwen, text and two calls",
    FAMILIES.qwen,
    'Let me look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>\n<tool_call>\n{"name": "get_time", "arguments": {"zone": "CET"}}\n</tool_call>',
    { text: "Let me look.\n", calls: [PARIS, CET] },
  ],
  [
    "hermes, arguments before the name",
    FAMILIES.hermes,
    '<tool_call>{"arguments": {"city":"Paris"}, "name": "get_weather"}</tool_call>',
    { text: "", calls: [{ ...PARIS, arguments: '{"city":"Paris"}' }] },
  ],
  [
    "hermes, arguments as a string",
    FAMILIES.hermes,
    '<tool_call>{"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\"}"}</tool_call>',
    { text: "", calls: [PARIS] },
  ],
  [
    "llama, bare JSON",
    FAMILIES.llama,
    '{"name": "get_weather", "parameters": {"city": "Paris"}}',
    { text: "", calls: [PARIS] },
  ],
  [
    "llama, behind its tag, two calls",
    FAMILIES.llama,
    '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}; {"name": "get_time", "parameters": {"zone": "CET"}}',
    { text: "", calls: [PARIS, CET] },
  ],
  [
    "mistral, list",
    FAMILIES.mistral,
    '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}}, {"name": "get_time", "arguments": {"zone": "CET"}}]',
    { text: "", calls: [PARIS, CET] },
  ],
  [
    "mistral, list without its marker",
    FAMILIES.mistral,
    '[{"name": "get_weather", "arguments": {"city": "Paris"}}]',
    { text: "", calls: [PARIS] },
  ],
  [
    "mistral, name first",
    FAMILIES.mistral,
    '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}[TOOL_CALLS]get_time{"zone": "CET"}',
    { text: "", calls: [PARIS, CET] },
  ],
  [
    "function tags",
    FAMILIES.functionTag,
    '<function=get_weather>{"city": "Paris"}</function><function=get_time>{"zone": "CET"}</function>',
    { text: "", calls: [PARIS, CET] },
  ],
  [
    "deepseek V3",
    FAMILIES.deepseek,
    '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{"city": "Paris"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_time\n```json\n{"zone": "CET"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    { text: "", calls: [PARIS, CET] },
  ],
  [
    "deepseek V3.1",
    FAMILIES.deepseekNameFirst,
    '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Paris"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    { text: "", calls: [PARIS] },
  ],
  [
    "phi, list",
    FAMILIES.phi,
    '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]<|/tool_call|>',
    { text: "", calls: [PARIS] },
  ],
];

/** What begins like a call and is none comes out as it went in. */
const NO_CALLS: readonly (readonly [string, ToolFormat, string])[] = [
  ["plain text", FAMILIES.hermes, "The tool <tool> is {not} called."],
  ["an unknown tool", FAMILIES.hermes, '<tool_call>{"name": "rm", "arguments": {}}</tool_call>'],
  ["a JSON answer", FAMILIES.llama, '{"answer": 42, "name": "nobody"}'],
  ["a JSON list", FAMILIES.mistral, "[1, 2, 3]"],
  ["broken JSON", FAMILIES.hermes, '<tool_call>{"name": get_weather}</tool_call>'],
  ["a marker cut short", FAMILIES.hermes, "see <tool_ca"],
  ["a call cut short before its name", FAMILIES.hermes, '<tool_call>\n{"na'],
  ["a bracket", FAMILIES.llama, "{"],
];

describe("tool calls", () => {
  test.each(EXAMPLES)("are read as %s writes them, in whole and letter by letter", (_, format, answer, expected) => {
    expect(read(format, [answer])).toEqual(expected);
    expect(read(format, [...answer])).toEqual(expected);
  });

  test.each(EXAMPLES)("are read the same however %s is cut", (_, format, answer, expected) => {
    fc.assert(
      fc.property(fc.array(fc.nat(answer.length), { maxLength: 12 }), (cuts) => {
        const at = [0, ...cuts.sort((a, b) => a - b), answer.length];
        const pieces = at.slice(1).map((end, index) => answer.slice(at[index], end));
        expect(read(format, pieces)).toEqual(expected);
      }),
      { numRuns: 50 },
    );
  });

  test.each(NO_CALLS)("are not seen in %s", (_, format, answer) => {
    expect(read(format, [answer])).toEqual({ text: answer, calls: [] });
    expect(read(format, [...answer])).toEqual({ text: answer, calls: [] });
  });

  test("lose nothing of any text that holds none", () => {
    const text = fc.string({ unit: fc.constantFrom(...'<tool_call>{}[]"\\: ,nameé\n') });
    for (const format of Object.values(FAMILIES)) {
      fc.assert(
        fc.property(text, (answer) => {
          expect(read(format, [...answer])).toEqual({ text: answer, calls: [] });
        }),
        { numRuns: 200 },
      );
    }
  });

  test("stream: the name comes first, and arguments as they are written", () => {
    const parser = new ToolCallParser({ format: HERMES, toolNames: ["get_weather"] });
    expect(parser.push('<tool_call>{"name": "get_weather", "arguments": {"ci')).toEqual([
      { kind: "tool-call", index: 0, name: "get_weather" },
      { kind: "tool-arguments", index: 0, text: '{"ci' },
    ]);
    expect(parser.push('ty": "P')).toEqual([{ kind: "tool-arguments", index: 0, text: 'ty": "P' }]);
    expect(parser.finish()).toEqual([]);
  });

  test("of templates that know no tools are read in the Hermes format", () => {
    expect(toolSupportOf("{% for m in messages %}{{ m.content }}{% endfor %}")).toEqual({
      format: HERMES,
      isNative: false,
    });
  });
});

describe("reasoning", () => {
  const split = (prompt: string, pieces: readonly string[]) => {
    const answer = new ToolCallParser({ format: HERMES, toolNames: [] });
    const splitter = new ReasoningSplitter({ prompt, answer });
    const deltas = [...pieces.flatMap((piece) => splitter.push(piece)), ...splitter.finish()];
    const of = (kind: OutputDelta["kind"]) =>
      deltas.map((delta) => (delta.kind === kind && "text" in delta ? delta.text : "")).join("");
    return { reasoning: of("reasoning"), text: of("text") };
  };

  test.each([
    ["<|assistant|>", "<think>\nHm.</think>\n\nYes.", { reasoning: "Hm.", text: "Yes." }],
    ["<|assistant|><think>\n", "Hm.\n</think>\n\nYes.", { reasoning: "Hm.\n", text: "Yes." }],
    ["<|assistant|>", "No <think>thought</think>.", { reasoning: "", text: "No <think>thought</think>." }],
    ["<|assistant|>", "<think>cut sh", { reasoning: "cut sh", text: "" }],
    ["<|assistant|>", "<thi", { reasoning: "", text: "<thi" }],
  ])("after %j, %j is split", (prompt, answer, expected) => {
    expect(split(prompt, [answer])).toEqual(expected);
    expect(split(prompt, [...answer])).toEqual(expected);
  });
});
