/**
 * How much JSON schema one request may bring. Checking and compiling a schema takes time by the pair of its parts, in the event
 * loop that all answers share, so what is too much is refused before it is looked at any closer.
 */

/** Keys' values and items of lists: OpenAI takes 5,000 properties and 1,000 enum values. */
export const SCHEMA_VALUES_MAX = 10_000;
/** Of all keys and texts: more than a grammar may have, with room for descriptions. */
export const SCHEMA_CHARS_MAX = 262_144;

export class SchemaBudget {
  #valuesLeft = SCHEMA_VALUES_MAX;
  #charsLeft = SCHEMA_CHARS_MAX;

  /** Takes a schema out of the budget. Null when it fits, else what is too much. */
  take(schema: unknown): string | null {
    const open: unknown[] = [schema];
    while (open.length > 0) {
      const value = open.pop();
      this.#valuesLeft--;
      if (typeof value === "string") this.#charsLeft -= value.length;
      if (typeof value === "object" && value !== null) {
        for (const [key, child] of Object.entries(value)) {
          if (!Array.isArray(value)) this.#charsLeft -= key.length;
          open.push(child);
          if (open.length > this.#valuesLeft) break;
        }
      }
      if (open.length > this.#valuesLeft) return `the schemas of a request hold at most ${SCHEMA_VALUES_MAX} values`;
      if (this.#charsLeft < 0) return `the schemas of a request hold at most ${SCHEMA_CHARS_MAX} characters`;
    }
    return null;
  }
}
