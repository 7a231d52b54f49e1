import type { ModelId, RequestId } from "../../domain/ids.ts";
import type { BlobFiles } from "../../ports/blob-files.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { Ids } from "../../ports/ids.ts";
import type { Log } from "../../ports/log.ts";
import type { Multipart } from "../../ports/multipart.ts";
import type { ApiKey, Store } from "../../ports/store.ts";
import type { LineBook } from "./line-book.ts";

/** A request of a tenant that this coordinator makes itself. */
export interface InnerRequest {
  readonly path: string;
  /** JSON. */
  readonly body: string;
  readonly requestId: RequestId;
  readonly key: ApiKey;
  readonly signal: AbortSignal;
}

export interface JobPorts {
  readonly clock: Clock;
  readonly crypto: Crypto;
  readonly ids: Ids;
  readonly log: Log;
  readonly store: Pick<Store, "files" | "batches" | "receipts" | "keys">;
  readonly blobs: BlobFiles;
  readonly multipart: Multipart;
  readonly book: LineBook;
  readonly isServed: (modelId: ModelId) => boolean;
  /** Never rejects. */
  readonly ask: (request: InnerRequest) => Promise<Response>;
}
