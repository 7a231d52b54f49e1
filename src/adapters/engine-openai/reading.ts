/** Reading what a server sent with a schema: the fault names what was not as it should be. */
import { z } from "zod";
import { FallowError } from "../../domain/fault.ts";

export function read<Schema extends z.ZodType>(schema: Schema, value: unknown, what: string): z.infer<Schema> {
  const found = schema.safeParse(value);
  if (found.success) return found.data;
  const error = errorText(value);
  const why = error ?? z.prettifyError(found.error).replace(/\s+/g, " ").slice(0, 200);
  throw new FallowError("attached-malformed", `${what}: ${why}`);
}

/** Servers put errors into answers and streams of status 200. */
const errorSchema = z.object({ error: z.union([z.string(), z.looseObject({ message: z.string() })]) });

export function errorText(value: unknown): string | null {
  const found = errorSchema.safeParse(value);
  if (!found.success) return null;
  const { error } = found.data;
  return `the server says: ${(typeof error === "string" ? error : error.message).slice(0, 200)}`;
}

export const tokenIds = z.array(z.number().int()).max(65_536);
export const smallCount = z
  .number()
  .int()
  .min(0)
  .max(2 ** 31);
