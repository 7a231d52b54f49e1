/** Forms through busboy: the parser is fed piece by piece, and waits while the file's bytes are taken. */
import type { Readable } from "node:stream";
import busboy, { type Busboy } from "busboy";
import { no, type Outcome, ok, type Refusal, refuse } from "../../domain/refusal.ts";
import type { Multipart, MultipartBounds, MultipartForm } from "../../ports/multipart.ts";

const FILE_FIELD = "file";
const FILENAME_FALLBACK = "upload";
/** Headers of one part: a name, a file name, a type. */
const HEADER_PAIRS_MAX = 16;
const FIELD_NAME_BYTES_MAX = 100;
/** All that is not the file: fields, headers, boundaries. Bounds the body also where the file's end is never seen. */
const FORM_BYTES_MAX = 65_536;

export class BusboyMultipart implements Multipart {
  async read(
    source: { readonly contentType: string | null; readonly body: AsyncIterable<Uint8Array> },
    bounds: MultipartBounds,
    onBytes: (bytes: Uint8Array) => Promise<void>,
  ): Promise<Outcome<MultipartForm>> {
    if (source.contentType === null || !/^\s*multipart\/form-data\s*;/i.test(source.contentType)) {
      const found = JSON.stringify(source.contentType?.slice(0, 100) ?? "nothing");
      return refuse("unsupported-media-type", `content-type is ${found}; send multipart/form-data`);
    }
    let form: FormReading;
    try {
      form = new FormReading({ "content-type": source.contentType }, bounds, onBytes);
    } catch (thrown) {
      return brokenForm(thrown);
    }
    return await form.run(source.body);
  }
}

class FormReading {
  readonly #busboy: Busboy;
  readonly #bounds: MultipartBounds;
  readonly #onBytes: (bytes: Uint8Array) => Promise<void>;
  readonly #fields = new Map<string, string>();
  #file: { filename: string; bytes: number } | null = null;
  #taking: Promise<void> = Promise.resolve();
  /** Resolves when it is clear that no form comes of it. */
  readonly #broken = Promise.withResolvers<void>();
  #refusal: Refusal | null = null;
  /** What `onBytes` threw. */
  #fault: { readonly thrown: unknown } | null = null;

  constructor(
    headers: { readonly "content-type": string },
    bounds: MultipartBounds,
    onBytes: (bytes: Uint8Array) => Promise<void>,
  ) {
    this.#bounds = bounds;
    this.#onBytes = onBytes;
    const { fieldsMax, fieldBytesMax, fileBytesMax } = bounds;
    this.#busboy = busboy({
      headers,
      limits: {
        fieldNameSize: FIELD_NAME_BYTES_MAX,
        fieldSize: fieldBytesMax,
        fields: fieldsMax,
        files: 1,
        // One more than allowed is let through, so that the file that is exactly as large as allowed is not too large.
        fileSize: fileBytesMax + 1,
        headerPairs: HEADER_PAIRS_MAX,
      },
    });
    this.#busboy.on("field", (name, value, { nameTruncated, valueTruncated }) =>
      this.#field(name, value, nameTruncated || valueTruncated),
    );
    this.#busboy.on("file", (name, stream, { filename }) => this.#take(name, stream, filename));
    this.#busboy.on("fieldsLimit", () => this.#refuse("invalid-request", `a form has at most ${fieldsMax} fields`));
    this.#busboy.on("filesLimit", () => this.#refuse("invalid-request", "a form has one file"));
    this.#busboy.on("error", (thrown) => {
      this.#refusal ??= brokenForm(thrown).reason;
      this.#broken.resolve();
    });
  }

  async run(body: AsyncIterable<Uint8Array>): Promise<Outcome<MultipartForm>> {
    const finished = new Promise<void>((resolve) => this.#busboy.once("finish", resolve));
    try {
      let bytes = 0;
      for await (const piece of body) {
        bytes += piece.length;
        if (bytes > this.#bounds.fileBytesMax + FORM_BYTES_MAX) this.#tooLarge();
        if (this.#isOver()) break;
        if (!this.#busboy.write(Buffer.from(piece))) await this.#drained();
      }
    } catch {
      // Nothing but the connection can fail here: the client hung up.
      this.#refuse("cancelled", "the client closed the request before its body was whole");
    }
    if (this.#isOver()) this.#busboy.destroy();
    else {
      this.#busboy.end();
      await Promise.race([finished, this.#broken.promise]);
    }
    if (!this.#isOver()) await Promise.race([this.#taking, this.#broken.promise]);
    if (this.#fault !== null) throw this.#fault.thrown;
    if (this.#refusal !== null) return no(this.#refusal);
    return ok({ fields: this.#fields, file: this.#file });
  }

  #drained(): Promise<unknown> {
    const drained = new Promise((resolve) => this.#busboy.once("drain", resolve));
    return Promise.race([drained, this.#broken.promise]);
  }

  #isOver(): boolean {
    return this.#refusal !== null || this.#fault !== null;
  }

  #field(name: string, value: string, isCut: boolean): void {
    if (isCut)
      this.#refuse("invalid-request", `a field of the form is longer than ${this.#bounds.fieldBytesMax} bytes`);
    else this.#fields.set(name, value);
  }

  #take(name: string, stream: Readable, filename: string | undefined): void {
    // Told also to a stream that nobody reads any more, when the form is given up; whoever reads it hears it there.
    stream.on("error", () => undefined);
    if (name !== FILE_FIELD) {
      stream.resume();
      this.#refuse("invalid-request", `a file came as ${JSON.stringify(name.slice(0, 40))}; send it as 'file'`);
      return;
    }
    this.#file = { filename: filename ?? FILENAME_FALLBACK, bytes: 0 };
    this.#taking = this.#drain(stream, this.#file);
  }

  /** Never rejects. */
  async #drain(stream: Readable, file: { bytes: number }): Promise<void> {
    try {
      for await (const piece of stream) {
        const bytes: Buffer = piece;
        file.bytes += bytes.length;
        if (file.bytes > this.#bounds.fileBytesMax) {
          this.#refuse(
            "body-too-large",
            `the file has more than ${this.#bounds.fileBytesMax} bytes, the most that are taken`,
          );
          break;
        }
        await this.#onBytes(bytes);
      }
    } catch (thrown) {
      // A stream that breaks off is the form's end, and its refusal says so.
      if (this.#refusal === null) this.#fault = { thrown };
      this.#broken.resolve();
    } finally {
      stream.resume();
    }
  }

  #tooLarge(): void {
    this.#refuse(
      "body-too-large",
      `the file has more than ${this.#bounds.fileBytesMax} bytes, the most that are taken`,
    );
  }

  #refuse(code: "invalid-request" | "body-too-large" | "cancelled", message: string): void {
    this.#refusal ??= refuse(code, message).reason;
    this.#broken.resolve();
  }
}

function brokenForm(thrown: unknown): { readonly ok: false; readonly reason: Refusal } {
  const why = thrown instanceof Error ? thrown.message : String(thrown);
  return refuse("invalid-request", `the body is not a whole multipart form: ${why}`);
}
