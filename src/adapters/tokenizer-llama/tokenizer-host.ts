/**
 * Vocabularies in one process of their own: a text or a vocabulary that breaks native code breaks that process, which is
 * started again at the next question. A question is asked a second time of a fresh process before it fails, since another
 * one's text may have been at fault. What comes from the model's file is checked first, and only its vocabulary is written
 * to the file that native code reads.
 */

import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { FallowError } from "../../domain/fault.ts";
import type { ModelId } from "../../domain/ids.ts";
import { WEIGHTS_FILES_MAX } from "../../domain/weights.ts";
import type { Tokenizer, TokenizerHost } from "../../ports/tokenizer.ts";
import { readManifest } from "../../weights/model-reader.ts";
import { splitFileName, splitNameOf } from "../../weights/split-gguf.ts";
import { findLlamaLibrary, type LlamaLibraryFiles } from "../engine-llama/llama-library.ts";
import { type FileByteSource, openFileByteSource } from "./file-byte-source.ts";
import { LlamaTokenizer } from "./llama-tokenizer.ts";
import type { TextFragment } from "./text-fragments.ts";
import { TokenizerProcess } from "./tokenizer-process.ts";
import type { TokenizerReport, VocabularyReport } from "./tokenizer-protocol.ts";

export interface LlamaTokenizerHostOptions {
  /** A folder with the libraries, or null for the installed package. */
  readonly libraryDirectory: string | null;
  readonly environment: Record<string, string>;
}

const ATTEMPTS = 2;

/** The file, or all of the split set whose first it is. */
export function filesOfModel(weightsPath: string): readonly string[] {
  const split = splitNameOf(basename(weightsPath));
  if (split === null || split.number !== 1 || split.count > WEIGHTS_FILES_MAX) return [weightsPath];
  return Array.from({ length: split.count }, (_, at) =>
    join(dirname(weightsPath), splitFileName({ ...split, number: at + 1 })),
  );
}

export class LlamaTokenizerHost implements TokenizerHost {
  readonly #options: LlamaTokenizerHostOptions;
  readonly #library: LlamaLibraryFiles;
  #directory: Promise<string> | null = null;
  #process: TokenizerProcess | null = null;
  /** Numbers of vocabularies in the present process, by file. */
  #opened = new Map<string, Promise<VocabularyReport>>();
  /** Open tokenizers of each file: models that differ in their weights only share one. */
  readonly #users = new Map<string, number>();
  /** Opening and closing come one after the other: a file must not be removed while another model opens it. */
  #changes: Promise<unknown> = Promise.resolve();
  #nextKey = 1;
  #isClosed = false;

  /** Throws `engine-library-missing`. */
  constructor(options: LlamaTokenizerHostOptions) {
    this.#options = options;
    this.#library = findLlamaLibrary({ directory: options.libraryDirectory, variant: "cpu" });
  }

  open(model: { modelId: ModelId; weightsPath: string }): Promise<Tokenizer> {
    return this.#inTurn(() => this.#open(model));
  }

  async #open(model: { modelId: ModelId; weightsPath: string }): Promise<Tokenizer> {
    const path = await this.#writeVocabulary(model.weightsPath).catch((cause: unknown) => {
      if (cause instanceof FallowError) throw cause;
      // The file is lost or unreadable, or the disk is full: the world's fault, told by the port's own code.
      throw new FallowError("tokenizer-unusable", `the vocabulary in ${model.weightsPath} cannot be read`, { cause });
    });
    this.#users.set(path, (this.#users.get(path) ?? 0) + 1);
    try {
      const vocabulary = await this.#retrying(() => this.#openIn(this.#running(), path));
      return new LlamaTokenizer({
        modelId: model.modelId,
        vocabulary,
        tokenize: (fragments) => this.#retrying(() => this.#tokenize(path, fragments)),
        close: () => this.#inTurn(() => this.#leave(path)),
      });
    } catch (thrown) {
      await this.#leave(path);
      throw thrown;
    }
  }

  /** The last one to leave a vocabulary frees it. */
  async #leave(path: string): Promise<void> {
    const users = (this.#users.get(path) ?? 0) - 1;
    if (users > 0) {
      this.#users.set(path, users);
      return;
    }
    this.#users.delete(path);
    const opened = this.#opened.get(path);
    this.#opened.delete(path);
    const child = this.#process;
    // One that failed to open, or whose process is gone, holds nothing there.
    const report = await opened?.catch(() => null);
    if (report != null && child !== null && child === this.#process && !child.isGone) {
      await child.ask({ kind: "close", key: this.#nextKey++, vocabulary: report.vocabulary }).catch(() => null);
    }
    await rm(path, { force: true });
  }

  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const turn = this.#changes.then(change);
    // Whoever asked gets its fault; the next one in line only waits for it.
    this.#changes = turn.catch(() => undefined);
    return turn;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const child = this.#process;
    this.#process = null;
    child?.kill();
    await child?.closed;
    if (this.#directory !== null) await rm(await this.#directory, { recursive: true, force: true });
    this.#directory = null;
  }

  /** Process id of the child, or null: for tests and the status page. */
  get processId(): number | null {
    return this.#process?.isGone === false ? this.#process.processId : null;
  }

  /** Vocabularies that are open: for tests and the status page. */
  get vocabularies(): number {
    return this.#users.size;
  }

  async #writeVocabulary(weightsPath: string): Promise<string> {
    const sources: FileByteSource[] = [];
    try {
      for (const path of filesOfModel(weightsPath)) sources.push(await openFileByteSource(path));
      const model = await readManifest(sources, (data) => createHash("sha256").update(data).digest());
      if (!model.ok) {
        throw new FallowError("tokenizer-unusable", `${weightsPath}: ${model.reason.message}`, {
          data: { ...model.reason },
        });
      }
      this.#directory ??= mkdtemp(join(tmpdir(), "fallow-vocabulary-"));
      const path = join(await this.#directory, `${model.value.manifest.tokenizerSha256}.gguf`);
      await writeFile(path, model.value.tokenizer);
      return path;
    } finally {
      for (const source of sources) await source.close();
    }
  }

  async #tokenize(path: string, fragments: readonly TextFragment[]): Promise<Int32Array> {
    const child = this.#running();
    const { vocabulary } = await this.#openIn(child, path);
    const report = await child.ask({ kind: "tokenize", key: this.#nextKey++, vocabulary, fragments });
    if (report.kind !== "tokenized") throw unusable(report);
    return report.tokenIds;
  }

  #openIn(child: TokenizerProcess, path: string): Promise<VocabularyReport> {
    const known = this.#opened.get(path);
    if (known !== undefined) return known;
    const opening = child.ask({ kind: "open", key: this.#nextKey++, path }).then((report) => {
      if (report.kind !== "opened") throw unusable(report);
      return report.report;
    });
    this.#opened.set(path, opening);
    return opening;
  }

  #running(): TokenizerProcess {
    if (this.#isClosed) throw new FallowError("tokenizer-closed", "the tokenizer is closed");
    if (this.#process === null || this.#process.isGone) {
      this.#process = new TokenizerProcess({ library: this.#library, environment: this.#options.environment });
      this.#opened = new Map();
    }
    return this.#process;
  }

  async #retrying<T>(ask: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await ask();
      } catch (fault) {
        const isCrash = fault instanceof FallowError && fault.code === "tokenizer-crashed";
        if (!isCrash || attempt === ATTEMPTS || this.#isClosed) throw fault;
      }
    }
  }
}

function unusable(report: TokenizerReport): FallowError {
  return new FallowError("tokenizer-unusable", report.kind === "failed" ? report.message : `answered ${report.kind}`);
}
