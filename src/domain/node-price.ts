/** What an operator wants for an hour of a machine while it serves. A wish: plans and matches weigh it, nothing is billed by it. */

/** A thousand USD: many times what a machine with eight of the dearest GPUs is rented for, so that a slip is refused. */
export const NODE_PRICE_MICRO_USD_PER_HOUR_MAX = 1_000_000_000;
