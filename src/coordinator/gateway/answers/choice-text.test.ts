import fc from "fast-check";
import { expect, test } from "vitest";
import { PLAIN_PARSER } from "../../../inference/chat/conversation.ts";
import { type ChoiceStep, ChoiceText } from "./choice-text.ts";

function textOf(steps: readonly Pick<ChoiceStep, "deltas">[]): string {
  return steps.flatMap(({ deltas }) => deltas.map((delta) => (delta.kind === "text" ? delta.text : ""))).join("");
}

function choice(stopStrings: readonly string[]): ChoiceText {
  return new ChoiceText({
    vocabulary: null,
    parser: PLAIN_PARSER,
    stopStrings,
    markers: new Map(),
    ignoreStopTokens: false,
    hasLogprobs: false,
  });
}

/** Few letters, so that stop strings begin everywhere; and characters of one to four bytes. */
const piece = fc.string({ unit: fc.constantFrom("a", "b", "é", "😀", "‱"), minLength: 1, maxLength: 4 });
const pieces = fc.array(piece, { minLength: 1, maxLength: 6 });
const stops = fc.uniqueArray(piece, { maxLength: 2 });

test("text that a provider parsed and text that goes on after it are one text, up to the first stop string that ends after the change", () => {
  fc.assert(
    fc.property(pieces, pieces, stops, (parsed, more, stopStrings) => {
      const text = choice(stopStrings);
      const passed = parsed.join("");
      // What a provider shows has no stop string: it looks for them itself.
      fc.pre(!stopStrings.some((stop) => passed.includes(stop)));
      const steps: Pick<ChoiceStep, "deltas">[] = parsed.map((one) => text.pass({ kind: "text", text: one }));
      for (const one of more) if (!text.isStopped) steps.push(text.pushText(one));
      steps.push(text.finish(text.isStopped ? "stop-string" : "stop-token"));
      const whole = passed + more.join("");
      const ends = stopStrings.flatMap((stop) => (whole.includes(stop) ? [whole.indexOf(stop) + stop.length] : []));
      const firstEnd = Math.min(...ends);
      const met = stopStrings
        .filter((stop) => whole.includes(stop) && whole.indexOf(stop) + stop.length === firstEnd)
        .sort((a, b) => b.length - a.length)[0];
      const cut = met === undefined ? whole : whole.slice(0, firstEnd - met.length);
      // What was shown before the change stays shown, though a stop string began in it.
      expect(textOf(steps)).toBe(cut.length < passed.length ? passed : cut);
    }),
    { numRuns: 2_000 },
  );
});

test("nothing counts as held once it can no longer begin a stop string", () => {
  const text = choice(["end"]);
  text.pushText("the e");
  expect(text.isHolding).toBe(true);
  expect(textOf([text.pushText("gg")])).toBe("egg");
  expect(text.isHolding).toBe(false);
});
