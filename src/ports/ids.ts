import type { IdPrefix } from "../domain/ids.ts";

/** Makes `<prefix>_<ULID>`; ids of one process sort by the time they were made. */
export interface Ids {
  make(prefix: IdPrefix): string;
}
