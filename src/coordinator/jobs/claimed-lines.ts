/**
 * The lines of the chunks that a batch's run has claimed: claimed ahead of need, renewed while they are held, read from the input file, less those that
 * have results. Lines come out in order; one that failed comes back to the front, one that nothing could run to the end.
 */
import { assert } from "../../domain/assert.ts";
import type { ClaimedChunk } from "../../domain/batch.ts";
import type { BatchId, NodeId } from "../../domain/ids.ts";
import type { BlobReader } from "../../ports/blob-files.ts";
import { type ChunkCare, chunkCare } from "../../scheduler/jobs/line-outcome.ts";
import { CHUNKS_HELD_MAX, type JobOptions } from "./job-options.ts";
import type { JobPorts } from "./job-ports.ts";
import { type LineRequest, parseLine } from "./line-request.ts";
import { readLines } from "./read-lines.ts";

export interface PendingLine {
  readonly chunk: number;
  /** From 0. */
  readonly line: number;
  readonly request: LineRequest;
  /** The claim is not the chunk's first: an earlier run of the line may be charged. */
  readonly mayBeSettled: boolean;
  /** Its chunk has ended several lives in its middle, and this line is the first of it. */
  readonly isSuspect: boolean;
  tries: number;
  /** Runs of this life, for names of holds. */
  runs: number;
  readonly failedOn: Set<NodeId>;
}

interface HeldChunk {
  epoch: number;
  readonly care: ChunkCare;
}

export class ClaimedLines {
  readonly #ports: Pick<JobPorts, "clock" | "store">;
  readonly #options: JobOptions;
  readonly #batch: { readonly batchId: BatchId; readonly endpoint: string; readonly holder: string };
  readonly #reader: BlobReader;
  readonly #held = new Map<number, HeldChunk>();
  readonly #pending: PendingLine[] = [];
  #claiming: Promise<void> | null = null;
  /** Nothing was left to claim when it was last asked. */
  #isDry = false;

  constructor(
    ports: Pick<JobPorts, "clock" | "store">,
    options: JobOptions,
    batch: { batchId: BatchId; endpoint: string; holder: string; reader: BlobReader },
  ) {
    this.#ports = ports;
    this.#options = options;
    this.#batch = batch;
    this.#reader = batch.reader;
  }

  get isCareful(): boolean {
    for (const { care } of this.#held.values()) if (care !== "normal") return true;
    return false;
  }

  /** Of the claim that this process has. */
  epochOf(chunk: number): number {
    return this.#held.get(chunk)?.epoch ?? 0;
  }

  next(): PendingLine | null {
    return this.#pending.shift() ?? null;
  }

  putBack(line: PendingLine): void {
    this.#pending.unshift(line);
  }

  /** Behind those that are read, of which nothing is known yet. */
  putLast(line: PendingLine): void {
    this.#pending.push(line);
  }

  /** Every line of it has a result. */
  forget(chunk: number): void {
    this.#held.delete(chunk);
  }

  /** Claims and reads another chunk when few lines are left; resolves when something was read, or null when nothing is to be claimed now. */
  claimAhead(wanted: number): Promise<void> | null {
    if (this.#claiming !== null) return this.#claiming;
    if (this.#isDry || this.#pending.length > wanted || this.#held.size >= CHUNKS_HELD_MAX) return null;
    this.#claiming = this.#claim().finally(() => {
      this.#claiming = null;
    });
    return this.#claiming;
  }

  async renew(): Promise<void> {
    const { batchId, holder } = this.#batch;
    this.#isDry = false;
    if (this.#held.size > 0) await this.#ports.store.batches.renew({ batchId, holder, endsAtMs: this.#endsAtMs() });
  }

  async release(): Promise<void> {
    const { batchId, holder } = this.#batch;
    await this.#claiming?.catch(() => undefined);
    this.#pending.length = 0;
    await this.#ports.store.batches.release({ batchId, holder, others: false });
  }

  async #claim(): Promise<void> {
    const { batchId, holder } = this.#batch;
    const nowMs = Math.floor(this.#ports.clock.wallMs());
    const claim = { batchId, holder, nowMs, endsAtMs: this.#endsAtMs(), limit: 1 };
    const [claimed] = await this.#ports.store.batches.claim(claim);
    if (claimed === undefined) {
      this.#isDry = true;
      return;
    }
    const before = this.#held.get(claimed.chunk);
    if (before !== undefined) {
      // Its end passed while this process stood still, and nobody else took it: its lines are here.
      before.epoch = claimed.epoch;
      return;
    }
    this.#held.set(claimed.chunk, { epoch: claimed.epoch, care: chunkCare(claimed.barrenClaims) });
    await this.#read(claimed);
  }

  async #read(claimed: ClaimedChunk): Promise<void> {
    const { batchId, endpoint } = this.#batch;
    const range = { batchId, fromLine: claimed.firstLine, toLine: claimed.firstLine + claimed.lines };
    const standing = await this.#ports.store.batches.standing(range);
    const done = new Set(standing.done);
    let line = claimed.firstLine;
    let isSuspect = this.#held.get(claimed.chunk)?.care === "set-first-aside";
    for await (const { bytes } of readLines(this.#reader, claimed)) {
      const request = parseLine(bytes, endpoint);
      assert(request.ok, `line ${line} of ${batchId} was valid when the batch began`);
      if (!done.has(line)) {
        const tries = standing.tries.get(line) ?? 0;
        const mayBeSettled = claimed.epoch > 1;
        const fresh = { runs: 0, failedOn: new Set<NodeId>(), isSuspect };
        this.#pending.push({ chunk: claimed.chunk, line, request: request.value, mayBeSettled, tries, ...fresh });
        isSuspect = false;
      }
      line += 1;
    }
  }

  #endsAtMs(): number {
    return Math.floor(this.#ports.clock.wallMs()) + this.#options.claimMs;
  }
}
