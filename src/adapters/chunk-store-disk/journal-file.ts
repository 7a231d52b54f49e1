/** The journal of one model on the disk (`chunk-journal.ts`). Everything that writes needs the model's write lock. */
import { ChunkSet } from "../../domain/chunk-set.ts";
import { isBootKnown } from "./boot-id.ts";
import {
  decodeJournal,
  encodeJournal,
  encodeRecord,
  headBytes,
  JOURNAL_BYTES_MAX,
  type Journal,
  type JournalHead,
  RECORD_BYTES,
} from "./chunk-journal.ts";
import { chunkCountOfSizes } from "./chunk-layout.ts";
import { type OpenFiles, writeAt } from "./open-files.ts";
import { readSmallFile, replaceFile } from "./small-file.ts";

export interface JournalClaims {
  /** Written in this boot: there, unless the disk is damaged. */
  readonly trusted: ChunkSet;
  /** Written in another boot: there if their digests say so. */
  readonly suspect: ChunkSet;
  /** False when some of it, or all, cannot be read: other chunks may be there too. */
  readonly isSound: boolean;
}

/** Records for each chunk before the journal is written anew, so that keeping and forgetting in turn does not grow it for ever. */
const RECORDS_PER_CHUNK = 2;
const RECORDS_SPARE = 1_024;

export class JournalFile {
  readonly #path: string;
  readonly #head: JournalHead;
  readonly #files: OpenFiles;
  readonly #none: ChunkSet;
  #endBytes = 0;

  constructor(path: string, head: JournalHead, files: OpenFiles) {
    this.#path = path;
    this.#head = head;
    this.#files = files;
    this.#none = new ChunkSet(chunkCountOfSizes(head));
  }

  async claims(): Promise<JournalClaims> {
    const journal = await this.#read();
    if (journal === null) return { trusted: this.#none, suspect: this.#none, isSound: false };
    const isSound = !journal.isDamaged;
    return this.#isOfThisBoot(journal)
      ? { trusted: journal.chunks, suspect: this.#none, isSound }
      : { trusted: this.#none, suspect: journal.chunks, isSound };
  }

  /** Readies it for records; false when it has to be rewritten because it says anything else than what is here. */
  async begin(have: ChunkSet): Promise<boolean> {
    const journal = await this.#read();
    await this.#files.close(this.#path);
    if (journal === null || journal.isDamaged || !this.#isOfThisBoot(journal)) return false;
    const records = (journal.endBytes - this.#headBytes()) / RECORD_BYTES;
    if (records > RECORDS_PER_CHUNK * have.chunkCount + RECORDS_SPARE) return false;
    this.#endBytes = journal.endBytes;
    return journal.chunks.size === have.size && journal.chunks.includes(have);
  }

  async rewrite(have: ChunkSet): Promise<void> {
    const bytes = encodeJournal(this.#head, have);
    await this.#files.close(this.#path);
    await replaceFile(this.#path, bytes);
    this.#endBytes = bytes.length;
  }

  async append(chunk: number, kind: "kept" | "forgotten"): Promise<void> {
    const at = this.#endBytes;
    this.#endBytes += RECORD_BYTES;
    try {
      const record = encodeRecord(this.#head.layoutId, chunk, kind);
      await this.#files.use(this.#path, "write", (file) => writeAt(file, record, at));
    } catch (thrown) {
      // The next record takes its place, so that no torn one stays.
      if (this.#endBytes === at + RECORD_BYTES) this.#endBytes = at;
      throw thrown;
    }
  }

  /** For one who holds the lock for that only. */
  async forget(chunks: Iterable<number>): Promise<void> {
    const journal = await this.#read();
    await this.#files.close(this.#path);
    if (journal === null) return;
    this.#endBytes = journal.endBytes;
    for (const chunk of chunks) if (journal.chunks.has(chunk)) await this.append(chunk, "forgotten");
    await this.#files.close(this.#path);
  }

  /** Null when there is none of this layout. */
  async #read(): Promise<Journal | null> {
    const bytes = await readSmallFile(this.#path, JOURNAL_BYTES_MAX);
    const journal = bytes === null ? null : decodeJournal(bytes);
    return journal !== null && Buffer.compare(journal.head.layoutId, this.#head.layoutId) === 0 ? journal : null;
  }

  #isOfThisBoot({ head }: Journal): boolean {
    return isBootKnown(this.#head.bootId) && Buffer.compare(head.bootId, this.#head.bootId) === 0;
  }

  #headBytes(): number {
    return headBytes(this.#head.fileBytes.length);
  }
}
