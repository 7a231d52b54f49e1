/** Some architectures have no stage of certain numbers of layers (weights/stage-architectures.ts); what was spread over nodes is moved off them. */

/**
 * The counts with the same sum that differ least from `wanted`, each from 1 to its room and none refused; null when there are none. Among equals the
 * first stages keep what they have.
 */
export function nearestAllowed(
  wanted: readonly number[],
  by: { readonly rooms: readonly number[]; readonly refused: ReadonlySet<number> },
): readonly number[] | null {
  if (!wanted.some((count) => by.refused.has(count))) return wanted;
  const layers = wanted.reduce((sum, count) => sum + count, 0);
  // Layers that stages from one on take, and the least difference with which they can; from the last stage to the first.
  let after = new Map<number, Tail>([[0, { difference: 0, counts: [] }]]);
  for (let at = wanted.length - 1; at >= 0; at--) {
    const next = new Map<number, Tail>();
    const most = Math.min(by.rooms[at] ?? 0, layers);
    for (const [taken, tail] of after) {
      for (let count = 1; count <= most && taken + count <= layers; count++) {
        if (by.refused.has(count)) continue;
        const difference = tail.difference + Math.abs(count - (wanted[at] ?? 0));
        const known = next.get(taken + count);
        const isBetter = known === undefined || difference < known.difference;
        if (isBetter) next.set(taken + count, { difference, counts: [count, ...tail.counts] });
      }
    }
    after = next;
  }
  return after.get(layers)?.counts ?? null;
}

interface Tail {
  readonly difference: number;
  readonly counts: readonly number[];
}
