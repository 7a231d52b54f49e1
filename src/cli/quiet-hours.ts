/** `Mon-Fri 08:00-18:00; Sat,Sun 20:00-23:00` as windows of the week; an end that is not after its start runs into the next day. */
import { MINUTES_PER_WEEK, QUIET_WINDOWS_MAX, type WeeklyWindow } from "../scheduler/distribution/transfer-limits.ts";
import { CliError } from "./cli-error.ts";
import { EXIT } from "./exit-codes.ts";

const DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"] as const;
const MINUTES_PER_DAY = 24 * 60;

export function parseQuietHours(text: string): readonly WeeklyWindow[] {
  const windows = text
    .split(";")
    .map((part) => part.trim())
    .filter((part) => part !== "")
    .flatMap((part) => windowsOf(part, text));
  if (windows.length === 0 || windows.length > QUIET_WINDOWS_MAX) throw unreadable(text);
  return windows;
}

/** One part: days, or none for every day, and the hours. */
function windowsOf(part: string, text: string): WeeklyWindow[] {
  const [, days, fromHour = "", fromMinute = "", toHour = "", toMinute = ""] =
    /^(?:([a-z,\- ]+?)\s+)?(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})$/i.exec(part) ?? [];
  const from = minuteOf(fromHour, fromMinute);
  const to = minuteOf(toHour, toMinute);
  if (from === null || to === null || from === MINUTES_PER_DAY) throw unreadable(text);
  return daysOf(days ?? "mon-sun", text).map((day) => {
    const start = day * MINUTES_PER_DAY;
    const end = start + to + (to <= from ? MINUTES_PER_DAY : 0);
    return { fromMinute: start + from, toMinute: end % MINUTES_PER_WEEK };
  });
}

function daysOf(days: string, text: string): number[] {
  return days.split(",").flatMap((range) => {
    const [first = "", last = first, ...more] = range.split("-").map((day) => day.trim());
    const [from, to] = [dayOf(first), dayOf(last)];
    if (from === -1 || to === -1 || more.length > 0) throw unreadable(text);
    const count = ((to - from + DAYS.length) % DAYS.length) + 1;
    return Array.from({ length: count }, (_, step) => (from + step) % DAYS.length);
  });
}

function dayOf(name: string): number {
  return DAYS.findIndex((day) => name.toLowerCase().startsWith(day));
}

/** 24:00 ends a day. */
function minuteOf(hour: string, minute: string): number | null {
  const minutes = Number(hour) * 60 + Number(minute);
  return hour !== "" && Number(minute) < 60 && minutes <= MINUTES_PER_DAY ? minutes : null;
}

function unreadable(text: string): CliError {
  return new CliError(`${JSON.stringify(text)} names no hours of the week`, {
    exitCode: EXIT.usage,
    code: "usage",
    fix: 'write them as "Mon-Fri 08:00-18:00", more of them with a semicolon between',
  });
}
