/** A bug check: stays on in production. A failed assertion is never caught to go on. */
export function assert(condition: unknown, what: string): asserts condition {
  if (!condition) throw new AssertionFailed(what);
}

/** The end of every exhaustive `switch`: reaching it means a state was added and not handled. */
export function absurd(value: never): never {
  throw new AssertionFailed(`unhandled case: ${JSON.stringify(value)}`);
}

export class AssertionFailed extends Error {
  override readonly name = "AssertionFailed";
  constructor(what: string) {
    super(`must hold: ${what}`);
  }
}
