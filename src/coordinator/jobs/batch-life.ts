/**
 * One batch from where the store says it stands to its end: validated, run, its files written, its pieces cleared. Each step can be done again: a coordinator
 * that was killed goes on with the step that was not over.
 */
import type { BatchRecord, BatchStatus, StoredBatch } from "../../domain/batch.ts";
import { describeFault, FallowError } from "../../domain/fault.ts";
import { ID_PATTERNS, modelId } from "../../domain/ids.ts";
import type { BlobReader } from "../../ports/blob-files.ts";
import { pause } from "../../ports/clock.ts";
import type { ApiKey } from "../../ports/store.ts";
import { BatchLines, type BatchLinesPorts, type LinesProgress } from "./batch-lines.ts";
import type { FileDesk } from "./file-desk.ts";
import type { JobOptions } from "./job-options.ts";
import { validateInput } from "./validate-input.ts";
import { writeOutputs } from "./write-outputs.ts";

export interface BatchLifePorts extends BatchLinesPorts {
  readonly files: FileDesk;
}

const RETRY_MS = 2_000;
/** Rows of one transaction when a batch's pieces are cleared. */
const CLEARED_AT_ONCE = 5_000;
/** The longest that a timer takes is 24.8 days; looked at again anyway. */
const EXPIRY_LOOK_MS = 60_000;

export class BatchLife {
  readonly #ports: BatchLifePorts;
  readonly #options: JobOptions;
  readonly #holder: string;
  readonly #abort = new AbortController();
  #batch: StoredBatch;
  #lines: BatchLines | null = null;
  #isStopped = false;
  #isCancelled = false;

  constructor(ports: BatchLifePorts, options: JobOptions, start: { batch: StoredBatch; holder: string }) {
    this.#ports = ports;
    this.#options = options;
    this.#batch = start.batch;
    this.#holder = start.holder;
  }

  /** Resolves when the batch has ended, or after `stop`. Never rejects: a store or disk that fails is asked again. */
  async run(): Promise<void> {
    const { log, clock, store } = this.#ports;
    const { batchId } = this.#batch.record;
    while (!this.#isStopped) {
      try {
        const batch = await store.batches.get(batchId);
        if (batch === null) return;
        this.#batch = batch;
        if (!(await this.#step(batch.record.status))) return;
      } catch (thrown) {
        if (!(thrown instanceof FallowError)) throw thrown;
        if (this.#isStopped) return;
        log.warn({ batchId, cause: describeFault(thrown) }, "batch put off");
        await pause(clock, RETRY_MS, this.#abort.signal);
      }
    }
  }

  /** The process ends: what runs is given up, and goes on in the next life. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#abort.abort();
    await this.#lines?.stop();
  }

  /** The store says `cancelling` already. */
  async cancel(): Promise<void> {
    this.#isCancelled = true;
    this.#abort.abort();
    await this.#lines?.stop();
  }

  pause(isPaused: boolean): void {
    this.#lines?.pause(isPaused);
  }

  /** Nothing of it can run at this moment. */
  get isIdle(): boolean {
    return this.#lines?.isIdle ?? false;
  }

  /** Null while no line runs. */
  progress(): LinesProgress | null {
    return this.#lines?.progress() ?? null;
  }

  /** False when nothing is left to do. */
  async #step(status: BatchStatus): Promise<boolean> {
    switch (status) {
      case "validating":
        await this.#validate();
        return true;
      case "in_progress":
        await this.#runLines();
        return true;
      case "finalizing":
      case "cancelling":
        await this.#finish(status);
        return true;
      case "failed":
      case "completed":
      case "expired":
      case "cancelled":
        return false;
    }
  }

  async #validate(): Promise<void> {
    const { record } = this.#batch;
    const { store, blobs, crypto, isServed } = this.#ports;
    const [reader, key] = [await blobs.open(record.inputFileId), await store.keys.get(record.keyId)];
    if (reader === null) return await this.#fail([gone()]);
    try {
      const { endpoint } = record;
      const linesMax = this.#options.batchLinesMax;
      const refusesModel = (model: string) => whyNotModel(model, { key, isServed });
      const { signal } = this.#abort;
      const checked = await validateInput(reader, { endpoint, linesMax, refusesModel, crypto, signal });
      if (signal.aborted) return;
      if (!checked.ok) return await this.#fail(checked.reason);
      const { chunks, modelId: model } = checked.value;
      const running = { ...record, status: "in_progress", modelId: model, inProgressAtMs: this.#nowMs() } as const;
      await store.batches.begin(running, chunks);
    } finally {
      await reader.close();
    }
  }

  async #fail(problems: BatchRecord["problems"]): Promise<void> {
    const record: BatchRecord = { ...this.#batch.record, status: "failed", problems, failedAtMs: this.#nowMs() };
    await this.#ports.store.batches.update(record, ["validating"]);
  }

  async #runLines(): Promise<void> {
    const { record, counts } = this.#batch;
    const { store, blobs } = this.#ports;
    const key = usableKey(await store.keys.get(record.keyId), this.#nowMs());
    const reader = await blobs.open(record.inputFileId);
    if (key === null || reader === null) return await this.#giveUp();
    try {
      // A copy: what is told of this object alone holds for no request that comes with the key itself.
      const lines = new BatchLines(this.#ports, this.#options, {
        record,
        counts,
        key: { ...key },
        holder: this.#holder,
        reader,
      });
      this.#lines = lines;
      if (this.#isStopped || this.#isCancelled) await lines.stop();
      const expiry = this.#expire(lines, record.expiresAtMs);
      const watch = this.#watchKey(lines, record.keyId);
      await lines.run();
      expiry.cancel();
      watch.cancel();
      if (watch.isGone() && !this.#isStopped) return await this.#giveUp();
    } finally {
      this.#lines = null;
      await reader.close();
    }
    if (!this.#isStopped && !this.#isCancelled) await this.#finalise();
  }

  /** Nobody may pay for the lines any more, or they are gone: what has results is given back. */
  async #giveUp(): Promise<void> {
    const cancelling = { ...this.#withFiles(), status: "cancelling", cancellingAtMs: this.#nowMs() } as const;
    await this.#ports.store.batches.update(cancelling, ["in_progress"]);
  }

  /** Lines are asked with a copy of the key: a revocation ends them, and changed rules and models reach those that have not begun. */
  #watchKey(lines: BatchLines, keyId: ApiKey["keyId"]): { cancel(): void; isGone(): boolean } {
    const { clock, store, log } = this.#ports;
    let [isOver, isGone] = [false, false];
    const look = async () => {
      try {
        const key = usableKey(await store.keys.get(keyId), this.#nowMs());
        isGone = key === null;
        if (key !== null) lines.useKey({ ...key });
      } catch (thrown) {
        if (isOver) return; // the store may be closed by now
        if (!(thrown instanceof FallowError)) throw thrown;
        log.warn({ keyId, cause: describeFault(thrown) }, "key of a batch not looked up");
      }
      if (isOver) return;
      if (isGone) await lines.stop();
      else timer = clock.setTimer(this.#options.keyLookMs, () => void look());
    };
    let timer = clock.setTimer(this.#options.keyLookMs, () => void look());
    const cancel = () => {
      isOver = true;
      timer.cancel();
    };
    return { cancel, isGone: () => isGone };
  }

  #expire(lines: BatchLines, expiresAtMs: number): { cancel(): void } {
    const { clock } = this.#ports;
    let timer = clock.setTimer(0, () => undefined);
    const look = () => {
      const leftMs = expiresAtMs - clock.wallMs();
      if (leftMs <= 0) void lines.stop();
      else timer = clock.setTimer(Math.min(leftMs, EXPIRY_LOOK_MS), look);
    };
    look();
    return { cancel: () => timer.cancel() };
  }

  async #finalise(): Promise<void> {
    const finalizing = { ...this.#withFiles(), status: "finalizing", finalizingAtMs: this.#nowMs() } as const;
    await this.#ports.store.batches.update(finalizing, ["in_progress"]);
  }

  #withFiles(): BatchRecord {
    const { record } = this.#batch;
    const { files } = this.#ports;
    return {
      ...record,
      outputFileId: record.outputFileId ?? files.newId(),
      errorFileId: record.errorFileId ?? files.newId(),
    };
  }

  async #finish(status: "finalizing" | "cancelling"): Promise<void> {
    const { store, blobs } = this.#ports;
    const record = this.#withFiles();
    if (record.outputFileId !== this.#batch.record.outputFileId) await store.batches.update(record, [status]);
    const { counts } = this.#batch;
    const isWhole = counts.completed + counts.failed >= counts.lines;
    const reader: BlobReader | null = await blobs.open(record.inputFileId);
    try {
      const tellsExpired = status === "finalizing";
      const named = await writeOutputs({ batch: { record, counts }, reader, tellsExpired }, this.#ports);
      while (!(await store.batches.clear({ batchId: record.batchId, limit: CLEARED_AT_ONCE })));
      await store.batches.update(this.#ended(named, status, isWhole), [status]);
    } finally {
      await reader?.close();
    }
  }

  #ended(record: BatchRecord, status: "finalizing" | "cancelling", isWhole: boolean): BatchRecord {
    const atMs = this.#nowMs();
    if (status === "cancelling") return { ...record, status: "cancelled", cancelledAtMs: atMs };
    if (isWhole) return { ...record, status: "completed", completedAtMs: atMs };
    return { ...record, status: "expired", expiredAtMs: atMs };
  }

  #nowMs(): number {
    return Math.floor(this.#ports.clock.wallMs());
  }
}

function gone() {
  return { code: "file_not_found", message: "The input file was deleted.", param: "input_file_id", line: null };
}

function usableKey(key: ApiKey | null, nowMs: number): ApiKey | null {
  if (key === null || key.revokedAtMs !== null) return null;
  return key.expiresAtMs !== null && key.expiresAtMs <= nowMs ? null : key;
}

function whyNotModel(
  model: string,
  rules: { key: ApiKey | null; isServed: (model: ReturnType<typeof modelId>) => boolean },
): string | null {
  const shown = JSON.stringify(model.slice(0, 128));
  if (!ID_PATTERNS.model.test(model) || !rules.isServed(modelId(model))) {
    return `The model ${shown} is not one of the grid's own, and batches need one; GET /v1/models lists those, with their weights.`;
  }
  const allowed = rules.key?.models ?? null;
  const isOpen = allowed === null || allowed.includes(modelId(model));
  return isOpen ? null : `The model ${shown} is not open to this API key.`;
}
