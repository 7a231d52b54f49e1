import { describe, expect, test } from "vitest";
import { SpecialTexts } from "../../../inference/chat/content-guard.ts";
import { renderPrompt } from "../../../inference/chat/prompt.ts";
import { ChatTemplate } from "../../../inference/chat/template.ts";
import { toolSupportOf } from "../../../inference/chat/tool-format.ts";
import type { ChatMessage } from "../../../wire/openai/chat-request.ts";
import { chatTurns } from "./chat-turns.ts";

const asking = (ids: readonly string[]): ChatMessage => ({
  role: "assistant",
  content: null,
  tool_calls: ids.map((id) => ({ id, type: "function", function: { name: `f_${id}`, arguments: "{}" } })),
});
const answering = (id: string): ChatMessage => ({ role: "tool", tool_call_id: id, content: "x" });

const SOURCE =
  "{% for m in messages %}{% if m.role == 'tool' %}{{ m.name }} {% elif tools %}{{ m.tool_calls }}{% endif %}{% endfor %}";

function rendered(messages: readonly ChatMessage[]): string {
  const turns = chatTurns(messages);
  const template = ChatTemplate.compile(SOURCE);
  if (!turns.ok || !template.ok) throw new Error("turns and template are right");
  const model = { template: template.value, specials: new SpecialTexts([]), bosToken: "", eosToken: "" };
  const tools = { ...toolSupportOf(SOURCE), isNative: true };
  const prompt = renderPrompt({ ...model, tools }, { turns: turns.value, tools: [], variables: {}, wallMs: 0 });
  if (!prompt.ok) throw new Error(prompt.reason.message);
  return prompt.value.text;
}

describe("a tool's answer", () => {
  test("has the name of the latest call with its id", () => {
    expect(rendered([asking(["a", "b"]), answering("a"), answering("b"), asking(["a"]), answering("a")])).toBe(
      "f_a f_b f_a ",
    );
  });

  test("to a call that comes later, or never, is refused", () => {
    expect(chatTurns([answering("a"), asking(["a"])])).toMatchObject({
      ok: false,
      reason: { param: "messages[0].tool_call_id" },
    });
  });

  // Looked for call by call, this takes many seconds of everybody's event loop.
  test("finds its call among as many as a request may hold", () => {
    const messages = Array.from({ length: 2_000 }, (_, at) => {
      const ids = Array.from({ length: 128 }, (_, call) => `${at}-${call}`);
      return [asking(ids), answering(`${at}-127`)];
    }).flat();
    expect(chatTurns(messages)).toMatchObject({ ok: true });
  });
});
