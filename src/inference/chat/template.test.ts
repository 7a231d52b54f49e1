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

  test("that is none is refused when it is compiled", () => {
    expect(ChatTemplate.compile("{% for x in %}")).toMatchObject({ ok: false });
    expect(ChatTemplate.compile("x".repeat(300_000))).toMatchObject({ ok: false });
  });
});
