/** What goes between a hashing thread and who asks it. Bytes never do: the thread reads them from the file itself. */
export type HashCall =
  | { readonly kind: "begin"; readonly call: number; readonly session: number; readonly chunkBytes: number }
  /** Bytes [from, to) of an open file, the next ones of the session; both ends are in one process, so a descriptor is good in both. */
  | {
      readonly kind: "read";
      readonly call: number;
      readonly session: number;
      readonly descriptor: number;
      readonly from: number;
      readonly to: number;
    }
  | { readonly kind: "finish"; readonly call: number; readonly session: number }
  | { readonly kind: "end"; readonly call: number; readonly session: number };

export interface HashAnswer {
  readonly call: number;
  /** Bytes that were there: fewer than asked for when the file ends before. */
  readonly bytes: number;
  /** Of the chunks that ended with them, of all chunks after `finish`; `DIGEST_BYTES` each. */
  readonly chunkDigests: Uint8Array;
  /** After `finish`. */
  readonly sha256: string | null;
  /** What went wrong; null when nothing did. */
  readonly fault: { readonly code: string | null; readonly message: string } | null;
}
