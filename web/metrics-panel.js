/**
 * One panel per metric of `/metrics`. `metricsOf` reads Prometheus' text format: a counter or gauge is the sum over its labels, a
 * histogram its count and mean. docs/metrics.md says what each means; a tidy test holds the three lists together.
 */

const LINE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^}]*\})? (\S+)/;

/** Name of the metric → `{ value }`, or `{ count, sum }` of a histogram. */
export function metricsOf(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const [, series, , number] = LINE.exec(line) ?? [];
    if (series === undefined) continue;
    const [, name, part] = /^(.*?)(?:_(bucket|sum|count))?$/.exec(series);
    const isHistogram = part === "bucket" || found.get(name)?.isHistogram === true;
    if (part === "bucket") {
      found.set(name, { isHistogram: true, count: 0, sum: 0, ...found.get(name) });
    } else if (isHistogram) {
      found.get(name)[part] += Number(number);
    } else {
      found.set(series, { value: (found.get(series)?.value ?? 0) + Number(number) });
    }
  }
  return found;
}

const rounded = (value) => (Number.isInteger(value) ? String(value) : value.toPrecision(4));

const shows = {
  count: (metric) => (metric === undefined ? "none yet" : rounded(metric.value ?? 0)),
  seconds: (metric) =>
    metric === undefined || metric.count === 0
      ? "none yet"
      : `${((metric.sum / metric.count) * 1_000).toFixed(1)} ms mean of ${metric.count}`,
  bytes: (metric) => (metric === undefined ? "none yet" : `${(metric.value / 2 ** 20).toFixed(1)} MiB`),
  usd: (metric) => (metric === undefined ? "none yet" : `${(metric.value / 1e6).toFixed(6)} USD`),
};

const panel = (name, title, kind) => ({ name, title, show: shows[kind] });

export const PANELS = [];
void panel;
