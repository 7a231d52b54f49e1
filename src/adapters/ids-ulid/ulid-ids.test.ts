import { expect, test } from "vitest";
import { requestId } from "../../domain/ids.ts";
import { SystemRandom } from "../clock-system/system-random.ts";
import { UlidIds } from "./ulid-ids.ts";

test("ids carry their prefix, sort by the time they were made, and never repeat, even when the clock steps back", () => {
  let wallMs = 1_700_000_000_000.5;
  const clock = { monoMs: () => 0, wallMs: () => wallMs, setTimer: () => ({ cancel: () => undefined }) };
  const ids = new UlidIds({ clock, random: new SystemRandom() });
  const made: string[] = [];
  for (let step = 0; step < 2_000; step++) {
    wallMs += step === 1_000 ? -3_600_000 : step % 3;
    made.push(requestId(ids.make("req")));
  }
  expect(new Set(made).size).toBe(made.length);
  expect([...made].sort()).toEqual(made);
  expect(ids.make("rcpt")).toMatch(/^rcpt_[0-9A-HJKMNP-TV-Z]{26}$/);
});
