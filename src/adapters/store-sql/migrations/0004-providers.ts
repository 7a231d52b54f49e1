import type { Migration } from "./migration.ts";

/** PostgreSQL compares text by the database's locale unless told otherwise; ids sort by their bytes in both dialects. */
const id = { sqlite: "text", postgres: 'text collate "C"' };

/** Cloud providers. A row names where the key is kept and never holds one. */
export const providers: Migration = {
  version: 4,
  name: "providers",
  statements: (dialect) => [
    `create table providers (
      provider_id ${id[dialect]} primary key,
      spec_json text not null,
      added_at_ms bigint not null
    )`,
  ],
};
