/** Many rows as one JSON parameter: the statement's text does not depend on how many there are, so it is prepared once. */
import { type RawBuilder, sql } from "kysely";
import type { Dialect } from "./migrations/migration.ts";

export type JsonColumn = "text" | "bigint";
/** A table expression with the columns `a`, `b`, `c` …; alias it where a statement needs one. */
export type JsonRows = (
  rows: readonly (readonly (string | number)[])[],
  columns: readonly JsonColumn[],
) => RawBuilder<unknown>;

const NAMES = "abcdefgh";

export function jsonRows(dialect: Dialect): JsonRows {
  return (rows, columns) => {
    const json = JSON.stringify(rows);
    if (dialect === "sqlite") {
      const picked = columns.map((_, at) => `json_extract(value, '$[${at}]') as ${NAMES[at] ?? "z"}`);
      return sql`(select ${sql.raw(picked.join(", "))} from json_each(${json}))`;
    }
    const picked = columns.map((type, at) => `(j.v ->> ${at})::${type} as ${NAMES[at] ?? "z"}`);
    return sql`(select ${sql.raw(picked.join(", "))} from jsonb_array_elements(${json}::jsonb) as j(v))`;
  };
}
