/** What `fallow` says to the shell that called it. Scripts depend on these numbers: add, never renumber. */
export const EXIT = {
  ok: 0,
  /** The world failed: disk, engine, a bug. */
  failure: 1,
  /** Unknown command, option or argument. */
  usage: 2,
  /** No coordinator answers at the address. */
  unreachable: 3,
  /** The coordinator answered and said no: key, scope, join code, unknown id, or a second `up` on one home. */
  refused: 4,
  /** `doctor`, `receipts verify`, `ledger check`: the check ran and found something wrong. */
  checkFailed: 5,
} as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

export const EXIT_CODES_HELP = `
Exit codes:
  0  done
  1  failed (disk, engine, network); the message says what and how to mend it
  2  wrong command, option or argument
  3  no coordinator answers at the address
  4  the coordinator or this home refused (key, scope, join code, unknown id)
  5  a check found a problem`;
