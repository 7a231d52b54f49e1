/** Why a schema cannot be enforced: where, which keyword, and what would be right. */
export interface SchemaProblem {
  /** JSON pointer into the schema, `#` for the whole. */
  readonly pointer: string;
  readonly message: string;
}

/** Ends a compilation; caught where it began. */
export class SchemaStop extends Error {
  readonly pointer: string;
  constructor(pointer: string, message: string) {
    super(message);
    this.pointer = pointer;
  }
}

export type Schema = Readonly<Record<string, unknown>>;

export function isSchemaObject(value: unknown): value is Schema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** One token of a JSON pointer (RFC 6901). */
export function pointerToken(key: string): string {
  return key.replace(/~/g, "~0").replace(/\//g, "~1");
}

/** The schema that a reference within the document points to. */
export function resolvePointer(root: unknown, reference: string, at: string): unknown {
  if (!reference.startsWith("#"))
    throw new SchemaStop(at, `$ref ${JSON.stringify(reference)} leaves the schema; only #/… is supported`);
  let value = root;
  for (const token of reference.slice(1).split("/").slice(1)) {
    const key = decoded(token).replace(/~1/g, "/").replace(/~0/g, "~");
    const next: unknown = Array.isArray(value)
      ? value[Number(key)]
      : isSchemaObject(value) && Object.hasOwn(value, key)
        ? value[key]
        : undefined;
    if (next === undefined) throw new SchemaStop(at, `$ref ${JSON.stringify(reference)} points to nothing`);
    value = next;
  }
  if (!/^#(\/|$)/.test(reference))
    throw new SchemaStop(at, `$ref ${JSON.stringify(reference)}: anchors are not supported, use #/$defs/…`);
  return value;
}

function decoded(token: string): string {
  try {
    return decodeURIComponent(token);
  } catch {
    return token; // a lone percent sign stands for itself
  }
}
