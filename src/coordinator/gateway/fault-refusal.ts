import { FallowError } from "../../domain/fault.ts";
import { type Refusal, refuse } from "../../domain/refusal.ts";

/** Storage comes back: an operator makes room, a database restarts. Clients try again this much later. */
const STORAGE_RETRY_MS = 5_000;
const STORAGE_FAULTS: Readonly<Record<string, string>> = {
  "disk-full": "the disk of the grid's database is full",
  "store-unavailable": "the grid's database cannot be used",
};

/** What a client is told of a fault: of storage what is wrong, since waiting helps; of all else no more than where to ask. */
export function faultRefusal(thrown: unknown, requestId: string): Refusal {
  const storage = thrown instanceof FallowError ? STORAGE_FAULTS[thrown.code] : undefined;
  if (storage !== undefined) {
    const message = `${storage}, so nothing is taken and nothing charged; tell the grid's operator`;
    return refuse("storage-unavailable", message, { retryAfterMs: STORAGE_RETRY_MS }).reason;
  }
  return refuse("internal", `something failed here; tell the grid's operator the request id ${requestId}`).reason;
}
