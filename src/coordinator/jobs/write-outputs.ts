/**
 * The output and the error file of a batch: its results in the order of its lines, a chunk in memory at a time. Lines without a result have
 * expired, and say so in the error file. Written under ids that were fixed before, so that what a kill broke off is written again whole.
 */
import { assert } from "../../domain/assert.ts";
import type { BatchChunk, BatchRecord, StoredBatch } from "../../domain/batch.ts";
import type { FileId } from "../../domain/ids.ts";
import type { BlobReader, BlobWriter } from "../../ports/blob-files.ts";
import type { JobPorts } from "./job-ports.ts";
import { parseLine, requestIdOf, unansweredLine } from "./line-request.ts";
import { readLines } from "./read-lines.ts";

const CHUNKS_AT_ONCE = 64;
const BUFFER_CHARS = 256 * 1024;
const EXPIRED = {
  code: "batch_expired",
  message: "This request could not be executed before the completion window expired.",
} as const;

export interface OutputsWanted {
  readonly batch: StoredBatch;
  /** Of the input; null when it is gone, and then lines without a result are not told. */
  readonly reader: BlobReader | null;
  /** Lines without a result are told as expired. */
  readonly tellsExpired: boolean;
}

/** Resolves with the record as it names its files: null for a file that would be empty. */
export async function writeOutputs(
  wanted: OutputsWanted,
  ports: Pick<JobPorts, "store" | "blobs" | "clock" | "crypto">,
): Promise<BatchRecord> {
  const { record, counts } = wanted.batch;
  const { outputFileId, errorFileId, batchId } = record;
  assert(outputFileId !== null && errorFileId !== null, `${batchId} has the ids of its files before they are written`);
  const unrun = counts.lines - counts.completed - counts.failed;
  const hasOutput = counts.completed > 0;
  const hasErrors = counts.failed > 0 || (wanted.tellsExpired && unrun > 0);
  const isThere = async (isWanted: boolean, id: FileId) => !isWanted || (await ports.store.files.get(id)) !== null;
  const isWritten = (await isThere(hasOutput, outputFileId)) && (await isThere(hasErrors, errorFileId));
  if (!isWritten) {
    const output = new LineFile(outputFileId, ports);
    const errors = new LineFile(errorFileId, ports);
    try {
      await writeLines(wanted, ports, { output, errors });
      if (hasErrors) await errors.keep(record, `${batchId}_error.jsonl`);
      if (hasOutput) await output.keep(record, `${batchId}_output.jsonl`);
    } finally {
      await output.discard();
      await errors.discard();
    }
  }
  return { ...record, outputFileId: hasOutput ? outputFileId : null, errorFileId: hasErrors ? errorFileId : null };
}

async function writeLines(
  wanted: OutputsWanted,
  ports: Pick<JobPorts, "store" | "crypto">,
  files: { output: LineFile; errors: LineFile },
): Promise<void> {
  const { batchId } = wanted.batch.record;
  for (let after = -1; ; ) {
    const chunks = await ports.store.batches.chunks({ batchId, after, limit: CHUNKS_AT_ONCE });
    for (const chunk of chunks) await writeChunk(wanted, ports, { chunk, ...files });
    const last = chunks.at(-1);
    if (last === undefined || chunks.length < CHUNKS_AT_ONCE) return;
    after = last.chunk;
  }
}

async function writeChunk(
  { batch: { record }, reader, tellsExpired }: OutputsWanted,
  ports: Pick<JobPorts, "store" | "crypto">,
  to: { chunk: BatchChunk; output: LineFile; errors: LineFile },
): Promise<void> {
  const { batchId, endpoint } = record;
  const { firstLine, lines } = to.chunk;
  const results = await ports.store.batches.results({ batchId, fromLine: firstLine, toLine: firstLine + lines });
  if (results.length === lines || !tellsExpired || reader === null) {
    for (const { isOk, json } of results) await (isOk ? to.output : to.errors).add(json);
    return;
  }
  const known = new Map(results.map((result) => [result.line, result]));
  let line = firstLine;
  for await (const { bytes } of readLines(reader, to.chunk)) {
    const result = known.get(line);
    const request = parseLine(bytes, endpoint);
    assert(request.ok, `line ${line} of ${batchId} was valid when the batch began`);
    const { customId } = request.value;
    const requestId = requestIdOf(batchId, line, ports.crypto);
    if (result === undefined) await to.errors.add(unansweredLine({ requestId, customId, ...EXPIRED }));
    else await (result.isOk ? to.output : to.errors).add(result.json);
    line += 1;
  }
}

/** A file of lines; nothing is opened before its first. */
class LineFile {
  readonly #fileId: FileId;
  readonly #ports: Pick<JobPorts, "store" | "blobs" | "clock">;
  readonly #encoder = new TextEncoder();
  #writer: BlobWriter | null = null;
  #lines: string[] = [];
  #chars = 0;

  constructor(id: FileId, ports: Pick<JobPorts, "store" | "blobs" | "clock">) {
    this.#fileId = id;
    this.#ports = ports;
  }

  async add(json: string): Promise<void> {
    this.#lines.push(json, "\n");
    this.#chars += json.length;
    if (this.#chars >= BUFFER_CHARS) await this.#empty();
  }

  async keep(record: BatchRecord, filename: string): Promise<void> {
    await this.#empty();
    const bytes = (await this.#writer?.finish()) ?? 0;
    const createdAtMs = Math.floor(this.#ports.clock.wallMs());
    const { outputExpiresAfterS: lifeS, tenantId } = record;
    const expiresAtMs = lifeS === null ? null : createdAtMs + lifeS * 1_000;
    const facts = { fileId: this.#fileId, tenantId, purpose: "batch_output", filename };
    await this.#ports.store.files.create({ ...facts, bytes, createdAtMs, expiresAtMs });
  }

  async discard(): Promise<void> {
    await this.#writer?.discard();
  }

  async #empty(): Promise<void> {
    this.#writer ??= await this.#ports.blobs.create(this.#fileId);
    await this.#writer.write(this.#encoder.encode(this.#lines.join("")));
    this.#lines = [];
    this.#chars = 0;
  }
}
