/** Reads a form with one file as it comes in, holding no more of it than a piece. */
import type { Outcome } from "../domain/refusal.ts";

export interface MultipartBounds {
  /** Of the file. */
  readonly fileBytesMax: number;
  readonly fieldsMax: number;
  readonly fieldBytesMax: number;
}

export interface MultipartForm {
  readonly fields: ReadonlyMap<string, string>;
  /** Null when no file came under the name `file`. */
  readonly file: { readonly filename: string; readonly bytes: number } | null;
}

export interface Multipart {
  /**
   * `onBytes` gets the file in order and is awaited. Refuses what is no form, breaks off, or passes a bound; the rest of the body is then
   * not read. Rejects with what `onBytes` throws.
   */
  read(
    source: { readonly contentType: string | null; readonly body: AsyncIterable<Uint8Array> },
    bounds: MultipartBounds,
    onBytes: (bytes: Uint8Array) => Promise<void>,
  ): Promise<Outcome<MultipartForm>>;
}
