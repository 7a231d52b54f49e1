/**
 * A fault: the world failed (socket, disk, engine). Caught where someone can retry or tell the caller.
 * `code` is stable kebab-case; `data` carries the values that a message or a test needs.
 */
export class FallowError extends Error {
  override readonly name = "FallowError";
  readonly code: string;
  readonly data: Readonly<Record<string, unknown>>;
  constructor(
    code: string,
    message: string,
    options: { data?: Readonly<Record<string, unknown>>; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.data = options.data ?? {};
  }
}

/** The message of anything that was thrown, with its causes, on one line. */
export function describeFault(thrown: unknown): string {
  const parts: string[] = [];
  let at: unknown = thrown;
  for (let depth = 0; depth < 5 && at !== undefined && at !== null; depth++) {
    parts.push(at instanceof Error ? at.message : String(at));
    at = at instanceof Error ? at.cause : undefined;
  }
  return parts.join(": ");
}
