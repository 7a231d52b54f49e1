/** JSON columns: written by this program, and still parsed with a schema, because a database outlives the code. */
import type { z } from "zod";
import { FallowError } from "../../domain/fault.ts";

export function fromJsonColumn<T>(column: { name: string; text: string; schema: z.ZodType<T> }): T {
  let value: unknown;
  try {
    value = JSON.parse(column.text);
  } catch (cause) {
    throw new FallowError("store-corrupt", `${column.name} is not JSON`, { cause });
  }
  const parsed = column.schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new FallowError("store-corrupt", `${column.name} does not have the form that this program writes`, {
    cause: parsed.error,
  });
}
