/**
 * How many lines of a batch are given to dispatch at once. Enough that no slot which nobody else wants stays empty, and hardly more: each one
 * that waits there costs memory, a hold of the tenant's money and a place in the order. So what counts is how many lines wait for
 * a slot: a few, and more the more run, so that all slots of a crowd of nodes that fall free in one moment find a line.
 */
/** Of all batches together, running or waiting in dispatch: memory of open answers. */
export const LINES_IN_FLIGHT_MAX = 1_024;
const WAITING_LEAST = 4;
const WAITING_PER_RUNNING = 0.5;

export interface FeedState {
  /** Of this batch. */
  readonly running: number;
  readonly waiting: number;
  /** Of all batches. */
  readonly inFlight: number;
  /** Its chunk killed coordinators, or so it seems: one line at a time. */
  readonly isCareful: boolean;
}

/** How many more lines may begin now. */
export function linesToBegin({ running, waiting, inFlight, isCareful }: FeedState): number {
  const room = Math.max(0, LINES_IN_FLIGHT_MAX - inFlight);
  if (isCareful) return Math.min(room, Math.max(0, 1 - running - waiting));
  const wanted = Math.max(WAITING_LEAST, Math.ceil(running * WAITING_PER_RUNNING));
  return Math.min(room, Math.max(0, wanted - waiting));
}
