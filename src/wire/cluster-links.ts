/**
 * The links of a cluster file: `[from, to, bytesPerSecond, seconds]`. A full mesh of a thousand nodes has half a million of them, so
 * they are checked by a loop and not by a schema.
 *
 * `source` and `sink` stand for the coordinator: a link leaves `source` and enters `sink`. Between nodes a link carries both ways;
 * where a file gives both directions, the faster one holds for both.
 */
import type { ClusterLink } from "../domain/cluster.ts";
import { BYTES_PER_SECOND_MAX } from "./cluster-schema.ts";
import type { ProblemList } from "./file-problems.ts";

/** Twice a full mesh of a thousand nodes. */
export const LINKS_MAX = 1_000_000;
/** A round trip to the moon takes less than three. */
export const LATENCY_SECONDS_MAX = 60;
const FIELDS = 4;

interface Half {
  readonly bytesPerSecond: number;
  readonly latencySeconds: number;
}

interface Entry extends Half {
  readonly from: string;
  readonly to: string;
}

export function readLinks(raw: unknown, known: ReadonlySet<string>, problems: ProblemList): ClusterLink[] {
  if (!Array.isArray(raw)) {
    problems.add(["links"], raw, "must be a list of [from, to, bytes per second, seconds]");
    return [];
  }
  if (raw.length > LINKS_MAX) {
    problems.add(["links"], raw, `must hold at most ${LINKS_MAX} links`);
    return [];
  }
  const halves = new Map<string, Map<string, Half>>();
  const given = new Map<string, Set<string>>();
  raw.forEach((one: unknown, at) => {
    const entry = readLink(one, { at, known, problems });
    if (entry === null) return;
    const seen = mapped(given, entry.from, () => new Set<string>());
    if (seen.has(entry.to))
      problems.addSaid(["links", at], `${entry.from} to ${entry.to}`, "stands there a second time");
    seen.add(entry.to);
    keepFaster(
      mapped(halves, entry.from, () => new Map()),
      entry.to,
      entry,
    );
    if (entry.from !== "source" && entry.to !== "sink")
      keepFaster(
        mapped(halves, entry.to, () => new Map()),
        entry.from,
        entry,
      );
  });
  const links = [...halves].flatMap(([from, row]) =>
    [...row].map(([to, { bytesPerSecond, latencySeconds }]) => ({ from, to, bytesPerSecond, latencySeconds })),
  );
  if (problems.count === 0) checkEnds(links, raw, problems);
  return links;
}

function readLink(
  one: unknown,
  more: { readonly at: number; readonly known: ReadonlySet<string>; readonly problems: ProblemList },
): Entry | null {
  const { at, known, problems } = more;
  if (!Array.isArray(one) || one.length !== FIELDS) {
    problems.add(["links", at], one, "must be a list of 4: from, to, bytes per second, seconds");
    return null;
  }
  const before = problems.count;
  const [rawFrom, rawTo, bytesPerSecond, latencySeconds]: unknown[] = one;
  const from = typeof rawFrom === "number" ? String(rawFrom) : rawFrom;
  const to = typeof rawTo === "number" ? String(rawTo) : rawTo;
  if (typeof from !== "string" || (from !== "source" && !known.has(from)))
    problems.add(["links", at, 0], rawFrom, "must be source or the id of a node");
  if (typeof to !== "string" || (to !== "sink" && !known.has(to)))
    problems.add(["links", at, 1], rawTo, "must be sink or the id of a node");
  if (from === to) problems.add(["links", at, 1], rawTo, "must be another node than the link's first");
  if (from === "source" && to === "sink") problems.add(["links", at], one, "must have a node at one end at least");
  if (typeof bytesPerSecond !== "number" || !(bytesPerSecond > 0 && bytesPerSecond <= BYTES_PER_SECOND_MAX)) {
    const rule = `must be a number above 0 and at most ${BYTES_PER_SECOND_MAX} (bytes per second); leave a link out that carries nothing`;
    problems.add(["links", at, 2], bytesPerSecond, rule);
  }
  if (typeof latencySeconds !== "number" || !(latencySeconds >= 0 && latencySeconds <= LATENCY_SECONDS_MAX))
    problems.add(
      ["links", at, 3],
      latencySeconds,
      `must be a number from 0 to ${LATENCY_SECONDS_MAX} (seconds, one way)`,
    );
  if (problems.count > before || typeof from !== "string" || typeof to !== "string") return null;
  return { from, to, bytesPerSecond: Number(bytesPerSecond), latencySeconds: Number(latencySeconds) };
}

function mapped<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const found = map.get(key) ?? make();
  map.set(key, found);
  return found;
}

function keepFaster(row: Map<string, Half>, to: string, half: Half): void {
  const other = row.get(to);
  const isBetter =
    other === undefined ||
    half.bytesPerSecond > other.bytesPerSecond ||
    (half.bytesPerSecond === other.bytesPerSecond && half.latencySeconds < other.latencySeconds);
  if (isBetter) row.set(to, { bytesPerSecond: half.bytesPerSecond, latencySeconds: half.latencySeconds });
}

function checkEnds(links: readonly ClusterLink[], raw: readonly unknown[], problems: ProblemList): void {
  if (!links.some(({ from }) => from === "source"))
    problems.add(["links"], raw, "must hold a link from source to a node: without one no request enters");
  if (!links.some(({ to }) => to === "sink"))
    problems.add(["links"], raw, "must hold a link from a node to sink: without one no answer leaves");
}
