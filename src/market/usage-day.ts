/** The UTC day that a moment belongs to, as `2026-11-22`. Usage is added up by it. */

const DAY_MS = 86_400_000;
/** No month is longer. */
const MONTH_DAYS_MAX = 31;

/** Days to civil date by Howard Hinnant's algorithm (chrono-Compatible Low-Level Date Algorithms), for years 1970 to 9999. */
export function dayOf(atMs: number): string {
  const z = Math.floor(atMs / DAY_MS) + 719_468;
  const era = Math.floor(z / 146_097);
  const dayOfEra = z - era * 146_097;
  const leapDays = Math.floor(dayOfEra / 1_460) - Math.floor(dayOfEra / 36_524) + Math.floor(dayOfEra / 146_096);
  const yearOfEra = Math.floor((dayOfEra - leapDays) / 365);
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const marchMonth = Math.floor((5 * dayOfYear + 2) / 153);
  const day = dayOfYear - Math.floor((153 * marchMonth + 2) / 5) + 1;
  const month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9;
  const year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0);
  return `${String(year).padStart(4, "0")}-${String(month).padStart(2, "0")}-${String(day).padStart(2, "0")}`;
}

/** The UTC month, as `2026-11`. */
export function monthOf(atMs: number): string {
  return dayOf(atMs).slice(0, "2026-11".length);
}

/** When the UTC month of this moment ends and the next begins. */
export function monthEndMs(atMs: number): number {
  const month = monthOf(atMs);
  const day = Math.floor(atMs / DAY_MS);
  for (let ahead = 1; ahead <= MONTH_DAYS_MAX; ahead++) {
    if (monthOf((day + ahead) * DAY_MS) !== month) return (day + ahead) * DAY_MS;
  }
  return (day + MONTH_DAYS_MAX) * DAY_MS;
}
