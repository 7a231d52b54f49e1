import { describe, expect, test } from "vitest";
import { ChatTemplate, type TemplateInput } from "./template.ts";

const INPUT: TemplateInput = {
  messages: [{ role: "user", content: "hi" }],
  tools: null,
  bosToken: "<s>",
  eosToken: "</s>",
  wallMs: Date.UTC(2026, 1, 3, 13, 4, 5),
  variables: {},
};

function render(source: string, more: Partial<TemplateInput> = {}) {
  const compiled = ChatTemplate.compile(source);
  if (!compiled.ok) throw new Error(compiled.reason);
  return compiled.value.render({ ...INPUT, ...more });
}

const DOUBLE = "{% set ns.t = ns.t + ns.t %}";
/** 65,536, then 8,388,608 characters; a list of two lists of two lists … forty deep. */
const LONG = `{% set ns = namespace(t='a') %}{% for i in range(16) %}${DOUBLE}{% endfor %}`;
const VERY_LONG = `{% set ns = namespace(t='a') %}{% for i in range(23) %}${DOUBLE}{% endfor %}`;
const TREE = "{% set ns = namespace(t=[1]) %}{% for i in range(40) %}{% set ns.t = [ns.t, ns.t] %}{% endfor %}";

describe("a chat template", () => {
  test("renders messages with the generation prompt and the model's own tokens", () => {
    const source =
      "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
    expect(render(source)).toEqual({ ok: true, value: "<s><|user|>hi</s><|assistant|>" });
  });

  test("prints values as JSON the way Python does", () => {
    const rendered = render("{{ tools | tojson }}", { tools: [{ a: 1, b: ["é", null, true], c: 0.5 }] });
    expect(rendered).toEqual({ ok: true, value: '[{"a": 1, "b": ["é", null, true], "c": 0.5}]' });
  });

  test("reads the date from the clock that it is given", () => {
    const rendered = render("{{ strftime_now('%d %b %Y %A %H:%M:%S %p %y') }}");
    expect(rendered).toEqual({ ok: true, value: "03 Feb 2026 Tuesday 13:04:05 PM 26" });
    expect(render("{{ strftime_now('%Y-%m-%d') }}", { wallMs: Date.UTC(2024, 1, 29) })).toEqual({
      ok: true,
      value: "2024-02-29",
    });
  });

  test("that raises refuses with its own words", () => {
    const rendered = render("{{ raise_exception('roles must alternate') }}");
    expect(rendered.ok ? "" : rendered.reason).toMatchObject({
      code: "invalid-request",
      param: "messages",
      message: "the model's chat template refuses these messages: roles must alternate",
    });
  });

  test.each([
    [
      "a loop without end",
      "{% for a in range(100000) %}{% for b in range(100000) %}{% set c = b %}{% endfor %}{% endfor %}",
    ],
    ["a range without end", "{% for a in range(10000000000) %}{% endfor %}"],
    [
      "a text that doubles",
      "{% set ns = namespace(t='ab') %}{% for a in range(60) %}{% set ns.t = ns.t + ns.t %}{% endfor %}{{ ns.t }}",
    ],
    ["long lists at every turn", "{% for a in range(100) %}{% set b = range(100000) %}{% endfor %}"],
    [
      "a long text that is read at every turn",
      "{% set ns = namespace(t='ab') %}{% for a in range(20) %}{% set ns.t = ns.t + ns.t %}{% endfor %}{% for a in range(10000) %}{% set b = 'c' in ns.t %}{% endfor %}",
    ],
    ["a macro that calls itself", "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}"],
    ["a missing method", "{{ messages.nothing() }}"],
    ["a width of a billion", "{{ 'a\nb' | indent(1000000000) }}"],
    [
      "many lines, each far to the right",
      "{{ ('a\n' | indent) | replace('a', 'b\n' | replace('', 'c\nd')) | indent(9000000) }}",
    ],
    ["a width by its name in a filter block", "{% filter indent(width=100000000, first=true) %}a{% endfilter %}"],
    ["JSON far to the right", "{{ [[1]] | tojson(indent=100000000) }}"],
    ["JSON with long separators", `${LONG}{{ range(1000)|list | tojson(separators=[ns.t, ns.t]) }}`],
    ["letters that become books", `${LONG}{{ ns.t | replace('a', ns.t) }}`],
    ["letters that become books by a method", `${LONG}{{ ns.t.replace('a', ns.t) }}`],
    [
      "letters that become books by a method with another name",
      `${LONG}{% set f = ns.t['repl' + 'ace'] %}{{ f('', ns.t) }}`,
    ],
    ["a long text between many", `${LONG}{{ range(1000) | join(ns.t) }}`],
    ["a long text between the letters of another", `${LONG}{{ ns.t | join(ns.t) }}`],
    ["a text that is split into its letters", `${VERY_LONG}{{ ns.t.split('a') | length }}`],
    ["a text that is taken apart", `${VERY_LONG}{{ ns.t[::2] }}`],
    ["a list that holds itself twice, again and again", `${TREE}{{ ns.t | tojson }}`],
    ["such a list as text", `${TREE}{{ ns.t | string }}`],
    ["such a list compared with a text", `${TREE}{{ ns.t == 'x' }}`],
    ["such a list printed", `${TREE}{{ ns.t }}`],
    [
      "long lists printed again and again",
      `${LONG}{% set l = [ns.t] %}{% for a in range(100000) %}{{ l }}{% endfor %}`,
    ],
    [
      "long lists compared again and again",
      `${LONG}{% set l = [ns.t] %}{% for a in range(100000) %}{% if l == 'x' %}{% endif %}{% endfor %}`,
    ],
    ["a namespace that holds itself", "{% set ns = namespace() %}{% set ns.ns = ns %}{{ ns }}"],
    ["a namespace in a list", "{% set ns = namespace() %}{% set l = [ns, ns] %}{{ l }}"],
    ["a method that texts do not have", "{{ 'a'.center(1000000000) }}{{ 'a'.ljust(1000000000) }}"],
    ["a text times a number", "{{ 'a' * 1000000000 }}"],
  ])("with %s is refused and ends", (_, source) => {
    const rendered = render(source);
    expect(rendered.ok ? "" : rendered.reason.message).toMatch(
      /^the model's chat template cannot render these messages: /,
    );
  });

  test("may name the messages at each of a thousand messages", () => {
    const messages = Array.from({ length: 1_000 }, () => ({ role: "user", content: "x" }));
    const source =
      "{% for m in messages %}{% if messages[0].role == 'user' and messages|length > 2 %}{{ m.content }}{% endif %}{% endfor %}";
    expect(render(source, { messages })).toEqual({ ok: true, value: "x".repeat(1_000) });
  });

  test("allocates no more than a fixed amount before it is refused, whatever it asks for", () => {
    for (const source of [
      "{{ 'a\nb\nc\nd\ne' | indent(100000000) }}",
      "{{ [[1, 2, 3], [4]] | tojson(indent=50000000) }}",
      `${LONG}{{ ns.t | replace('a', 'b' | replace('b', ns.t[:4096])) }}`,
    ]) {
      const before = process.resourceUsage().maxRSS;
      expect(render(source).ok).toBe(false);
      // 400 MB and more without the bounds; maxRSS is in kilobytes.
      expect(process.resourceUsage().maxRSS - before).toBeLessThan(200_000);
    }
  });

  test("may indent, replace, split, slice and join as templates do", () => {
    const source =
      "{{ 'a\nb' | indent(2) }}|{{ 'think</think>answer'.split('</think>')[-1] }}|{{ messages[0].content.replace('h', 'H') }}|{{ 'abc'[1:] }}|{{ ['x', 'y'] | join(', ') }}|{{ tools | tojson(indent=2) }}|{{ 'aXbX' | replace('X', '-', 1) }}";
    expect(render(source, { tools: [{ a: 1 }] })).toEqual({
      ok: true,
      value: 'a\n  b|answer|Hi|bc|x, y|[\n  {\n    "a": 1\n  }\n]|a-bX',
    });
  });

  test("that is none is refused when it is compiled", () => {
    expect(ChatTemplate.compile("{% for x in %}")).toMatchObject({ ok: false });
    expect(ChatTemplate.compile("x".repeat(300_000))).toMatchObject({ ok: false });
  });
});
