import { describe, expect, test } from "vitest";
import { messagesOf } from "./items-to-messages.ts";

describe("items as messages of a chat", () => {
  test("reasoning, words and calls of one turn are one message of the assistant", () => {
    const messages = messagesOf([
      { role: "user", content: "Weather?" },
      { type: "reasoning", summary: [], content: [{ type: "reasoning_text", text: "Hm." }] },
      { role: "assistant", content: [{ type: "output_text", text: "Let me look." }] },
      { type: "function_call", call_id: "a", name: "f", arguments: "{}" },
      { type: "function_call", call_id: "b", name: "g", arguments: "{}" },
      { type: "function_call_output", call_id: "a", output: "1" },
      { type: "function_call_output", call_id: "b", output: [{ type: "input_text", text: "2" }] },
    ]);
    expect(messages).toMatchObject([
      { role: "user", content: "Weather?" },
      {
        role: "assistant",
        content: "Let me look.",
        reasoning_content: "Hm.",
        tool_calls: [{ id: "a", function: { name: "f" } }, { id: "b" }],
      },
      { role: "tool", tool_call_id: "a", content: "1" },
      { role: "tool", tool_call_id: "b", content: "2" },
    ]);
  });

  test("two answers in a row are two messages", () => {
    const messages = messagesOf([
      { role: "assistant", content: "One." },
      { role: "assistant", content: "Two." },
      { type: "reasoning", summary: [{ type: "summary_text", text: "Hm." }] },
      { type: "function_call", call_id: "a", name: "f", arguments: "{}" },
      { role: "assistant", content: "Three." },
    ]);
    expect(messages).toMatchObject([
      { content: "One." },
      { content: "Two." },
      { content: null, reasoning_content: "Hm.", tool_calls: [{ id: "a" }] },
      { content: "Three." },
    ]);
  });
});
