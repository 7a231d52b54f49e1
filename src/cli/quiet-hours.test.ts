import { expect, test } from "vitest";
import { isQuietHour } from "../scheduler/distribution/transfer-limits.ts";
import { parseQuietHours } from "./quiet-hours.ts";

/** Monday, 5 January 1970, in UTC. */
const at = (day: number, hour: number, minute = 0) => Date.UTC(1970, 0, 5 + day, hour, minute);
const isQuiet = (text: string, nowMs: number) =>
  isQuietHour({ quietHours: parseQuietHours(text), utcOffsetMinutes: 0 }, nowMs);

test("working hours are quiet on working days only", () => {
  const text = "Mon-Fri 08:00-18:00";
  expect([0, 4].map((day) => isQuiet(text, at(day, 8)))).toEqual([true, true]);
  expect([5, 6].map((day) => isQuiet(text, at(day, 12)))).toEqual([false, false]);
  expect([at(0, 7, 59), at(0, 18), at(4, 17, 59)].map((ms) => isQuiet(text, ms))).toEqual([false, false, true]);
});

test("hours that end before they begin run over midnight, also over the week's end", () => {
  expect([at(6, 23), at(0, 5), at(0, 7)].map((ms) => isQuiet("Sun 22:00-06:00", ms))).toEqual([true, true, false]);
  expect([at(2, 23), at(2, 12)].map((ms) => isQuiet("22:00-06:00", ms))).toEqual([true, false]);
});

test("several days and several hours are read, and a range of days goes over the week's end", () => {
  const text = "Sat-Mon 10:00-11:00; wednesday,Thu 20:00-24:00";
  const quiet = [at(5, 10), at(6, 10), at(0, 10), at(1, 10), at(2, 23, 59), at(3, 21), at(4, 0)];
  expect(quiet.map((ms) => isQuiet(text, ms))).toEqual([true, true, true, false, true, true, false]);
});

test.each(["", "Mon-Fri", "Foo 08:00-10:00", "Mon 25:00-26:00", "Mon 08:60-09:00", "Mon-Tue-Wed 08:00-09:00", "8-18"])(
  "%j is refused with what would be right",
  (text) => {
    expect(() => parseQuietHours(text)).toThrow(/names no hours of the week/);
  },
);
