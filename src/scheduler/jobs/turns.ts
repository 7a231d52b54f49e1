/**
 * Whose batch runs when more want to than may at once. The next is of the tenant of whom the fewest run, then the one that waits longest. A batch
 * steps aside, and waits again at the end, when nothing of it can run (its lines are refused, or it is paused), or when its tenant has two more
 * running than the tenant that waits: so nobody's batches keep everybody else's out.
 *
 * It does not weigh batches by their size.
 */
export interface RunningBatch<Id> {
  readonly batchId: Id;
  readonly tenantId: string;
  /** None of its lines is in flight, and none can begin. */
  readonly isIdle: boolean;
}

/** Place in the queue of the one that runs next; null of an empty queue. Both lists hold tenants, those that wait longest first. */
export function nextInTurn(queue: readonly string[], running: readonly string[]): number | null {
  const counts = countsOf(running);
  let best: number | null = null;
  let least = Number.POSITIVE_INFINITY;
  for (const [place, tenantId] of queue.entries()) {
    const count = counts.get(tenantId) ?? 0;
    if (count < least) [best, least] = [place, count];
  }
  return best;
}

/** Batches that give their places up; `running` in the order in which they began, `queue` holds tenants. */
export function stepAside<Id>(
  queue: readonly string[],
  running: readonly RunningBatch<Id>[],
  runningMax: number,
): readonly Id[] {
  if (queue.length === 0 || running.length < runningMax) return [];
  const idle = running.filter(({ isIdle }) => isIdle);
  if (idle.length > 0) return idle.slice(0, queue.length).map(({ batchId }) => batchId);
  const counts = countsOf(running.map(({ tenantId }) => tenantId));
  const place = nextInTurn(
    queue,
    running.map(({ tenantId }) => tenantId),
  );
  const waiting = place === null ? 0 : (counts.get(queue[place] ?? "") ?? 0);
  const most = Math.max(...counts.values());
  // One more is no reason: they would change places for ever.
  if (most <= waiting + 1) return [];
  const last = running.findLast(({ tenantId }) => counts.get(tenantId) === most);
  return last === undefined ? [] : [last.batchId];
}

function countsOf(tenants: readonly string[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const tenantId of tenants) counts.set(tenantId, (counts.get(tenantId) ?? 0) + 1);
  return counts;
}
