/** Axes: where ticks stand, how their numbers read, how a value becomes a place. */

export interface Scale {
  /** Place of a value; values outside the domain land outside the range. */
  readonly at: (value: number) => number;
  readonly ticks: readonly number[];
}

interface ScaleSettings {
  readonly from: number;
  readonly to: number;
  /** Places of `from` and `to`, in pixels. */
  readonly range: readonly [number, number];
}

const TICKS_WANTED = 6;
/** A tick at the very end of the domain counts as in it, whatever rounding made of it. */
const EDGE = 1e-9;

/**
 * An empty or single-valued domain gets a width of 1. Ends are widened to whole ticks, unless the scale is tight: then it ends where
 * the domain does, and ticks stand within.
 */
export function linearScale(settings: ScaleSettings & { readonly isTight?: boolean }): Scale {
  const from = Number.isFinite(settings.from) ? settings.from : 0;
  const to = Number.isFinite(settings.to) && settings.to > from ? settings.to : from + 1;
  const step = niceStep((to - from) / TICKS_WANTED);
  const isTight = settings.isTight === true;
  const first = isTight ? Math.ceil(from / step - EDGE) : Math.floor(from / step + EDGE);
  const last = isTight ? Math.floor(to / step + EDGE) : Math.ceil(to / step - EDGE);
  const [low, high] = isTight ? [from, to] : [first * step, last * step];
  const [start, end] = settings.range;
  return {
    at: (value) => start + ((value - low) / (high - low)) * (end - start),
    ticks: Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step),
  };
}

/** For times that range over powers of ten; `from` must be above 0. Ticks at 1, 2 and 5 of each power. */
export function logScale(settings: ScaleSettings): Scale {
  const low = Math.log10(settings.from);
  const high = Math.max(low + 0.1, Math.log10(settings.to));
  const [start, end] = settings.range;
  const ticks: number[] = [];
  for (let power = Math.floor(low); power <= Math.ceil(high); power++) {
    for (const lead of high - low > 4 ? [1] : [1, 2, 5]) {
      const tick = lead * 10 ** power;
      if (Math.log10(tick) >= low - EDGE && Math.log10(tick) <= high + EDGE) ticks.push(tick);
    }
  }
  return { at: (value) => start + ((Math.log10(value) - low) / (high - low)) * (end - start), ticks };
}

function niceStep(rough: number): number {
  const power = 10 ** Math.floor(Math.log10(rough));
  const lead = rough / power;
  return (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10) * power;
}

/** 1,290 · 12.4 · 0.093 · 1.2e-7: three figures, and thousands apart. */
export function readable(value: number): string {
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (!Number.isFinite(value)) return "–";
  if (size >= 1e9 || size < 1e-4) return value.toExponential(1);
  if (size >= 100) return grouped(Math.round(value));
  return String(Number(value.toPrecision(3)));
}

/** Ticks of one axis share their decimals. */
export function tickText(value: number, ticks: readonly number[]): string {
  const step = ticks.length > 1 ? Math.abs((ticks[1] ?? 0) - (ticks[0] ?? 0)) : 1;
  if (Math.abs(value) >= 1e9) return value.toExponential(0);
  const decimals = step >= 1 ? 0 : Math.min(6, Math.ceil(-Math.log10(step) - EDGE));
  return decimals === 0 ? grouped(Math.round(value)) : value.toFixed(decimals);
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(share < 0.0995 && share > 0 ? 1 : 0)} %`;
}

function grouped(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}
