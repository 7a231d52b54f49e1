import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { responseId } from "../../../domain/ids.ts";
import type { OutputDelta } from "../../../inference/chat/conversation.ts";
import { responseEventSchema } from "../../../wire/openai/response-object.ts";
import type { ChoiceOutput } from "../answers/answer-format.ts";
import { type OutputEvent, ResponseOutput } from "./response-output.ts";

const ID = responseId(`resp_${"0".repeat(26)}`);

function output(): ResponseOutput {
  let calls = 0;
  return new ResponseOutput({ responseId: ID, makeCallId: () => `call_${calls++}` });
}

function step(deltas: readonly OutputDelta[], finishReason: ChoiceOutput["finishReason"] = null): ChoiceOutput {
  return { choice: 0, deltas, logprobs: [], finishReason };
}

const types = (events: readonly OutputEvent[]) => events.map((event) => event.type);

describe("the output of a response", () => {
  test("shows reasoning as an item of its own before the message", () => {
    const out = output();
    const events = [
      ...out.push(step([{ kind: "reasoning", text: "Hm" }])),
      ...out.push(
        step(
          [
            { kind: "reasoning", text: "m." },
            { kind: "text", text: "Yes." },
          ],
          "stop",
        ),
      ),
    ];
    expect(types(events)).toEqual([
      "response.output_item.added",
      "response.content_part.added",
      "response.reasoning_text.delta",
      "response.reasoning_text.delta",
      "response.reasoning_text.done",
      "response.content_part.done",
      "response.output_item.done",
      "response.output_item.added",
      "response.content_part.added",
      "response.output_text.delta",
      "response.output_text.done",
      "response.content_part.done",
      "response.output_item.done",
    ]);
    expect(out.items).toMatchObject([
      { type: "reasoning", content: [{ type: "reasoning_text", text: "Hmm." }], summary: [] },
      { type: "message", content: [{ text: "Yes." }] },
    ]);
    expect(out.reasoning).toBe("Hmm.");
  });

  test("is an empty message when the model says nothing", () => {
    const out = output();
    out.push(step([], "stop"));
    expect(out.items).toMatchObject([{ type: "message", status: "completed", content: [{ text: "" }] }]);
  });

  test("of any pieces: events fit their schema, every item is added before and done after its deltas, and deltas add up", () => {
    const text = fc.string({ minLength: 1, maxLength: 5 });
    const pieces = fc.array(
      fc.oneof(
        fc.record({ kind: fc.constant("text" as const), text }),
        fc.record({ kind: fc.constant("reasoning" as const), text }),
        fc.record({ kind: fc.constant("call" as const), text }),
      ),
      { maxLength: 12 },
    );
    fc.assert(
      fc.property(pieces, fc.constantFrom("stop", "length"), (drawn, finish) => {
        const out = output();
        let calls = 0;
        const events = drawn.flatMap((piece) => {
          if (piece.kind !== "call") return out.push(step([{ kind: piece.kind, text: piece.text }]));
          const index = calls++;
          const call: OutputDelta[] = [
            { kind: "tool-call", index, name: "f" },
            { kind: "tool-arguments", index, text: piece.text },
          ];
          return out.push(step(call));
        });
        const all = [...events, ...out.push(step([], finish === "stop" ? "stop" : "length"))];
        for (const [sequence, event] of all.entries()) {
          responseEventSchema.parse({ ...event, sequence_number: sequence });
        }
        for (const [index, item] of out.items.entries()) {
          const own = all.filter((event) => "output_index" in event && event.output_index === index);
          expect(own[0]?.type).toBe("response.output_item.added");
          expect(own.at(-1)).toEqual({ type: "response.output_item.done", output_index: index, item });
          const said = own.map((event) => ("delta" in event ? event.delta : "")).join("");
          const whole = item.type === "function_call" ? item.arguments : (item.content[0]?.text ?? "");
          expect(said).toBe(whole);
        }
        const saidInAll = drawn.map((piece) => piece.text).join("");
        const keptInAll = out.items
          .map((item) => (item.type === "function_call" ? item.arguments : (item.content[0]?.text ?? "")))
          .join("");
        expect(keptInAll).toBe(saidInAll);
      }),
    );
  });
});
