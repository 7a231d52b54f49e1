import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { CloudEvent } from "../../ports/cloud.ts";
import { AnswerReader } from "./answer-reader.ts";
import { UpstreamFault } from "./upstream-fault.ts";

type Told = CloudEvent | { readonly kind: "noticed"; readonly what: string };

function reading(limits: { choices: number; tokensMax: number }): { reader: AnswerReader; told: Told[] } {
  const told: Told[] = [];
  return { reader: new AnswerReader(limits, (event) => told.push(event)), told };
}

const delta = (index: number, content: string) => ({ choices: [{ index, delta: { content }, finish_reason: null }] });

describe("reading an answer", () => {
  test("law: however a text is cut and mixed with other choices, each choice's text is whole", () => {
    const anyParts = fc.array(fc.record({ choice: fc.nat(2), text: fc.string({ maxLength: 5 }) }), { maxLength: 60 });
    fc.assert(
      fc.property(anyParts, (parts) => {
        const { reader, told } = reading({ choices: 3, tokensMax: 1_000 });
        for (const { choice, text } of parts) reader.take(delta(choice, text));
        for (const index of [2, 0, 1]) reader.take({ choices: [{ index, delta: {}, finish_reason: "stop" }] });
        reader.end();
        for (const choice of [0, 1, 2]) {
          const text = told
            .map((event) => (event.kind === "text" && event.choice === choice ? event.text : ""))
            .join("");
          expect(text).toBe(parts.map((part) => (part.choice === choice ? part.text : "")).join(""));
        }
        expect(told.at(-1)).toEqual({ kind: "end", usage: null });
      }),
    );
  });

  test("law: a chunk of plain text is read as the same text among other things is", () => {
    const anyMore = fc.record(
      {
        finish_reason: fc.constantFrom(null, "stop"),
        logprobs: fc.constantFrom(null, {}),
        index: fc.constantFrom(0, 1, null),
        role: fc.constantFrom("assistant", null),
        refusal: fc.constantFrom(null, "no"),
        usage: fc.constantFrom(null, { prompt_tokens: 3, completion_tokens: 2 }),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(fc.string(), anyMore, (content, { role, refusal, usage, ...choice }) => {
        const delta = {
          content,
          ...(role === undefined ? {} : { role }),
          ...(refusal === undefined ? {} : { refusal }),
        };
        const chunk = { id: "c", choices: [{ ...choice, delta }], ...(usage === undefined ? {} : { usage }) };
        const { reader, told } = reading({ choices: 2, tokensMax: 1_000 });
        reader.take(chunk);
        const among = reading({ choices: 2, tokensMax: 1_000 });
        // A call's empty list keeps it from the short way.
        among.reader.take({ ...chunk, choices: [{ ...choice, delta: { ...delta, tool_calls: [] } }] });
        expect(told).toEqual(among.told);
        expect(reader.hasBegun).toBe(among.reader.hasBegun);
        expect(reader.isComplete).toBe(among.reader.isComplete);
      }),
    );
  });

  test("law: whatever JSON comes, it is read or refused by name, and an ended choice says nothing more", () => {
    const anyValue = fc.oneof(
      fc.jsonValue(),
      fc.record({ choices: fc.array(anyChoice, { maxLength: 4 }), usage: fc.jsonValue() }, { requiredKeys: [] }),
    );
    fc.assert(
      fc.property(fc.array(anyValue, { maxLength: 20 }), (values) => {
        const { reader, told } = reading({ choices: 2, tokensMax: 50 });
        try {
          for (const value of values) reader.take(value);
          reader.end();
        } catch (thrown) {
          if (!(thrown instanceof UpstreamFault)) throw thrown;
        }
        const ended = new Set<number>();
        for (const event of told) {
          if (event.kind === "noticed" || event.kind === "end" || event.kind === "opened" || event.kind === "failed")
            continue;
          expect(ended.has(event.choice)).toBe(false);
          if (event.kind === "choice-end") ended.add(event.choice);
        }
        expect(told.filter(({ kind }) => kind === "end").length).toBe(
          ended.size === 2 && told.at(-1)?.kind === "end" ? 1 : 0,
        );
      }),
      { numRuns: 500 },
    );
  });

  test("calls without numbers are told apart by their ids", () => {
    const { reader, told } = reading({ choices: 1, tokensMax: 100 });
    const call = (id: string | null, name: string | null, text: string) =>
      reader.take({ choices: [{ index: 0, delta: { tool_calls: [{ id, function: { name, arguments: text } }] } }] });
    call("a", "f", "{");
    call("a", null, '"x":1');
    call(null, null, "}");
    call("b", "g", "{}");
    expect(told.map((event) => (event.kind === "tool-arguments" ? `${event.index}${event.text}` : event.kind))).toEqual(
      ["tool-call", "0{", '0"x":1', "0}", "tool-call", "1{}"],
    );
  });

  test("one character a time is no endless answer, and a thousand characters a token is", () => {
    const { reader } = reading({ choices: 1, tokensMax: 100 });
    for (let count = 0; count < 400; count++) reader.take(delta(0, "a"));
    expect(() => reader.take(delta(0, "a".repeat(100_000)))).toThrow(UpstreamFault);
  });
});

const anyChoice = fc.record(
  {
    index: fc.oneof(fc.integer({ min: -1, max: 3 }), fc.jsonValue()),
    delta: fc.oneof(
      fc.record({ content: fc.string(), tool_calls: fc.array(fc.jsonValue(), { maxLength: 2 }) }, { requiredKeys: [] }),
      fc.jsonValue(),
    ),
    finish_reason: fc.constantFrom(null, "stop", "length", "error", "other"),
    text: fc.oneof(fc.string(), fc.jsonValue()),
  },
  { requiredKeys: [] },
);
