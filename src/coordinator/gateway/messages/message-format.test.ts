import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { modelId, requestId } from "../../../domain/ids.ts";
import { refuse } from "../../../domain/refusal.ts";
import type { OutputDelta } from "../../../inference/chat/conversation.ts";
import { type MessageEvent, messageEventSchema, messageSchema } from "../../../wire/anthropic/message.ts";
import type { ChoiceOutput } from "../answers/answer-format.ts";
import { MessageFormat } from "./message-format.ts";

const USAGE = { prompt_tokens: 7, completion_tokens: 5, total_tokens: 12, cost: 0.001 };

function format(more: { isContextBound?: boolean } = {}): MessageFormat {
  let calls = 0;
  return new MessageFormat({
    head: {
      requestId: requestId(`req_${"0".repeat(26)}`),
      createdAtMs: 0,
      modelId: modelId("m"),
      tier: "default",
      systemFingerprint: "fp_0",
      hasUsageChunk: false,
    },
    promptTokens: 7,
    isContextBound: more.isContextBound ?? false,
    makeCallId: () => `toolu_${calls++}`,
    countTokens: (text) => Promise.resolve(text.length),
  });
}

function step(deltas: readonly OutputDelta[], finishReason: ChoiceOutput["finishReason"] = null): ChoiceOutput {
  return { choice: 0, deltas, logprobs: [], finishReason };
}

function read(text: string): readonly MessageEvent[] {
  return text
    .split("\n\n")
    .filter((block) => block.startsWith("event: "))
    .map((block) => messageEventSchema.parse(JSON.parse(block.slice(block.indexOf("data: ") + "data: ".length))));
}

describe("a message in Anthropic's shape", () => {
  test("thinks in a block of its own, signed with nothing, and counts it", async () => {
    const out = format();
    const events = read(
      out.events(step([{ kind: "reasoning", text: "Hm." }])) +
        out.events(
          step(
            [
              { kind: "reasoning", text: "!" },
              { kind: "text", text: "Yes." },
            ],
            "stop",
          ),
        ),
    );
    await out.keep(USAGE);
    expect(events.map((event) => event.type)).toEqual([
      "message_start",
      "ping",
      "content_block_start",
      "content_block_delta",
      "content_block_delta",
      "content_block_delta",
      "content_block_stop",
      "content_block_start",
      "content_block_delta",
      "content_block_stop",
    ]);
    const body = messageSchema.parse(JSON.parse(out.body(USAGE)));
    expect(body.content).toEqual([
      { type: "thinking", thinking: "Hm.!", signature: "" },
      { type: "text", text: "Yes.", citations: null },
    ]);
    expect(body.usage).toMatchObject({ output_tokens: 5, output_tokens_details: { thinking_tokens: 4 }, cost: 0.001 });
  });

  test("keeps the text of a call that is no JSON object", () => {
    for (const [text, input] of [
      ['{"a":1}', { a: 1 }],
      ["", {}],
      ['{"a":', { unparsed_arguments: '{"a":' }],
      ["[1]", { unparsed_arguments: "[1]" }],
    ] as const) {
      const out = format();
      const call: OutputDelta[] = [{ kind: "tool-call", index: 0, name: "f" }];
      if (text !== "") call.push({ kind: "tool-arguments", index: 0, text });
      out.collect(step(call, "tool_calls"));
      expect(messageSchema.parse(JSON.parse(out.body(USAGE)))).toMatchObject({
        stop_reason: "tool_use",
        content: [{ type: "tool_use", name: "f", input }],
      });
    }
  });

  test("tells whether max_tokens or the context ended it", () => {
    for (const [isContextBound, reason] of [
      [false, "max_tokens"],
      [true, "model_context_window_exceeded"],
    ] as const) {
      const out = format({ isContextBound });
      out.collect(step([{ kind: "text", text: "a" }], "length"));
      expect(JSON.parse(out.body(USAGE))).toMatchObject({ stop_reason: reason });
    }
  });

  test("fails with an error event", () => {
    const events = read(format().failure(refuse("no-capacity", "all are busy").reason));
    expect(events).toMatchObject([{ type: "error", error: { type: "overloaded_error", message: "all are busy" } }]);
  });

  test("of any pieces: what is streamed adds up to the blocks of the whole", () => {
    const text = fc.string({ minLength: 1, maxLength: 5 });
    const pieces = fc.array(
      fc.record({ kind: fc.constantFrom("text" as const, "reasoning" as const, "call" as const), text }),
      { maxLength: 10 },
    );
    fc.assert(
      fc.property(pieces, (drawn) => {
        const out = format();
        let calls = 0;
        let written = "";
        for (const piece of drawn) {
          const index = piece.kind === "call" ? calls++ : 0;
          const deltas: OutputDelta[] =
            piece.kind === "call"
              ? [
                  { kind: "tool-call", index, name: "f" },
                  { kind: "tool-arguments", index, text: piece.text },
                ]
              : [{ kind: piece.kind, text: piece.text }];
          written += out.events(step(deltas));
        }
        written += out.events(step([], "stop")) + out.end(USAGE, ": a comment\n\n");
        const events = read(written);
        const blocks = messageSchema.parse(JSON.parse(out.body(USAGE))).content;
        const said = blocks.map(() => "");
        for (const event of events) {
          if (event.type !== "content_block_delta") continue;
          const { delta } = event;
          if (delta.type === "text_delta") said[event.index] += delta.text;
          if (delta.type === "thinking_delta") said[event.index] += delta.thinking;
          if (delta.type === "input_json_delta") said[event.index] += delta.partial_json;
        }
        expect(said.join("")).toBe(drawn.map((piece) => piece.text).join(""));
        expect(events.filter((event) => event.type === "content_block_stop")).toHaveLength(blocks.length);
        expect(events.at(-1)?.type).toBe("message_stop");
      }),
    );
  });
});
