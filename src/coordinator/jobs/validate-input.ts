/** Looks at every line of an input file once, and cuts it into chunks. What is wrong is told with its line, as OpenAI does. */
import type { BatchChunk, BatchProblem } from "../../domain/batch.ts";
import { FallowError } from "../../domain/fault.ts";
import { type Outcome, ok } from "../../domain/refusal.ts";
import type { BlobReader } from "../../ports/blob-files.ts";
import type { Crypto } from "../../ports/crypto.ts";
import { CHUNK_BYTES, CHUNK_LINES, PROBLEMS_MAX } from "./job-options.ts";
import { parseLine } from "./line-request.ts";
import { readLines } from "./read-lines.ts";
import { SeenIds } from "./seen-ids.ts";

export interface ValidInput {
  readonly modelId: string;
  readonly chunks: readonly BatchChunk[];
}

export interface InputRules {
  readonly endpoint: string;
  readonly linesMax: number;
  /** Null when the model may be asked, else why not. */
  readonly refusesModel: (model: string) => string | null;
  readonly crypto: Crypto;
  readonly signal: AbortSignal;
}

/** Stops at the abort, and answers then with what it has. */
export async function validateInput(
  reader: BlobReader,
  rules: InputRules,
): Promise<Outcome<ValidInput, readonly BatchProblem[]>> {
  const check = new InputCheck(rules);
  try {
    for await (const { bytes, offsetBytes, lengthBytes, number } of readLines(reader, {
      offsetBytes: 0,
      lengthBytes: reader.bytes,
    })) {
      check.take(bytes, { number, offsetBytes, lengthBytes });
      if (check.isOver || rules.signal.aborted) break;
    }
  } catch (thrown) {
    if (!(thrown instanceof FallowError) || thrown.code !== "line-too-long") throw thrown;
    check.tooLong(Number(thrown.data["line"]), thrown.message);
  }
  return check.outcome();
}

class InputCheck {
  readonly #rules: InputRules;
  readonly #seen: SeenIds;
  readonly #problems: BatchProblem[] = [];
  readonly #chunks: BatchChunk[] = [];
  #open: { firstLine: number; lines: number; offsetBytes: number; lengthBytes: number } | null = null;
  #lines = 0;
  #model: string | null = null;

  constructor(rules: InputRules) {
    this.#rules = rules;
    this.#seen = new SeenIds(rules.crypto);
  }

  get isOver(): boolean {
    return this.#problems.length >= PROBLEMS_MAX || this.#lines > this.#rules.linesMax;
  }

  take(bytes: Uint8Array, at: { number: number; offsetBytes: number; lengthBytes: number }): void {
    const line = parseLine(bytes, this.#rules.endpoint);
    this.#lines += 1;
    if (this.#lines > this.#rules.linesMax) {
      this.#wrong(at.number, "too_many_tasks", `A batch has at most ${this.#rules.linesMax} requests.`);
      return;
    }
    if (!line.ok) {
      this.#problems.push({ ...line.reason, line: at.number });
      return;
    }
    const { customId, model } = line.value;
    if (!this.#seen.add(customId)) {
      const message = `The custom_id ${JSON.stringify(customId)} was used by an earlier line; each line needs its own.`;
      this.#wrong(at.number, "duplicate_custom_id", message, "custom_id");
    }
    this.#checkModel(model, at.number);
    if (this.#problems.length === 0) this.#extend(at);
  }

  tooLong(line: number, message: string): void {
    this.#wrong(line, "invalid_json_line", message);
  }

  outcome(): Outcome<ValidInput, readonly BatchProblem[]> {
    if (this.#problems.length > 0) return { ok: false, reason: this.#problems };
    if (this.#open !== null) this.#close(this.#open);
    if (this.#model === null) {
      const reason = { code: "empty_file", message: "The input file has no requests.", param: null, line: null };
      return { ok: false, reason: [reason] };
    }
    return ok({ modelId: this.#model, chunks: this.#chunks });
  }

  #checkModel(model: string, number: number): void {
    if (this.#model !== null) {
      if (model === this.#model) return;
      const message = `The model for all requests in the batch must match. Expected ${JSON.stringify(this.#model)} but got ${JSON.stringify(model.slice(0, 128))}.`;
      this.#wrong(number, "mismatched_model", message, "body.model");
      return;
    }
    this.#model = model;
    const why = this.#rules.refusesModel(model);
    if (why !== null) this.#wrong(number, "model_not_found", why, "body.model");
  }

  #wrong(line: number, code: string, message: string, param: string | null = null): void {
    this.#problems.push({ code, message, param, line });
  }

  #extend({ offsetBytes, lengthBytes }: { offsetBytes: number; lengthBytes: number }): void {
    const open = this.#open;
    if (open === null) {
      this.#open = { firstLine: this.#lines - 1, lines: 1, offsetBytes, lengthBytes };
      return;
    }
    open.lines += 1;
    // Blank lines between belong to it.
    open.lengthBytes = offsetBytes + lengthBytes - open.offsetBytes;
    if (open.lines >= CHUNK_LINES || open.lengthBytes >= CHUNK_BYTES) this.#close(open);
  }

  #close(open: Omit<BatchChunk, "chunk">): void {
    this.#chunks.push({ chunk: this.#chunks.length, ...open });
    this.#open = null;
  }
}
