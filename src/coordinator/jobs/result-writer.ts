/**
 * Results of lines on their way to the store: those of a few milliseconds share one transaction. Until it is written a result may be lost, and its
 * line is then run again; it is charged once all the same, since its charge carries the line's own request id.
 */

import type { LineResult, LineTries } from "../../domain/batch.ts";
import { describeFault, FallowError } from "../../domain/fault.ts";
import type { BatchId } from "../../domain/ids.ts";
import { BATCH_COMMIT_MAX, type CommitOutcome } from "../../ports/batch-store.ts";
import { pause, type Timer } from "../../ports/clock.ts";
import type { JobPorts } from "./job-ports.ts";

/** Fewer lines than the store takes at once: a transaction of a few megabytes holds up other writers. */
const GROUP_LINES_MAX = 256;
const GROUP_CHARS_MAX = 4 * 1024 * 1024;
const RETRY_MS = 1_000;

export interface WriterPorts extends Pick<JobPorts, "clock" | "log" | "store"> {
  /** Of the claim that this process has on the chunk at this moment. */
  epochOf(chunk: number): number;
  onCommit(outcome: CommitOutcome): void;
}

type Unclaimed<T> = Omit<T, "epoch">;

export class ResultWriter {
  readonly #ports: WriterPorts;
  readonly #batchId: BatchId;
  readonly #commitMs: number;
  #results: Unclaimed<LineResult>[] = [];
  #tries: Unclaimed<LineTries>[] = [];
  #chars = 0;
  #timer: Timer | null = null;
  #writing: Promise<void> = Promise.resolve();

  constructor(ports: WriterPorts, options: { batchId: BatchId; commitMs: number }) {
    this.#ports = ports;
    this.#batchId = options.batchId;
    this.#commitMs = options.commitMs;
  }

  add(result: Unclaimed<LineResult>): void {
    this.#results.push(result);
    this.#chars += result.json.length;
    this.#later();
  }

  addTries(tries: Unclaimed<LineTries>): void {
    this.#tries.push(tries);
    this.#later();
  }

  /** Resolves when everything that was added is in the store. */
  flush(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = null;
    const [results, tries] = [this.#results, this.#tries];
    this.#results = [];
    this.#tries = [];
    this.#chars = 0;
    if (results.length + tries.length > 0) {
      this.#writing = this.#writing.then(() => this.#commit(results, tries));
    }
    return this.#writing;
  }

  #later(): void {
    const lines = this.#results.length + this.#tries.length;
    if (lines >= GROUP_LINES_MAX || this.#chars >= GROUP_CHARS_MAX) void this.flush();
    else this.#timer ??= this.#ports.clock.setTimer(this.#commitMs, () => void this.flush());
  }

  /** Again until the store takes it: results are paid for, and taking one twice changes nothing. */
  async #commit(results: readonly Unclaimed<LineResult>[], tries: readonly Unclaimed<LineTries>[]): Promise<void> {
    const { store, clock, log, epochOf, onCommit } = this.#ports;
    for (;;) {
      try {
        const claimed = <T extends { readonly chunk: number }>(one: T) => ({ ...one, epoch: epochOf(one.chunk) });
        const outcome = await store.batches.commit({
          batchId: this.#batchId,
          results: results.slice(0, BATCH_COMMIT_MAX).map(claimed),
          tries: tries.map(claimed),
        });
        onCommit(outcome);
        return;
      } catch (thrown) {
        if (!(thrown instanceof FallowError)) throw thrown;
        // This process ends; the lines run again in its next life.
        if (thrown.code === "store-closed") return;
        log.warn({ batchId: this.#batchId, cause: describeFault(thrown) }, "results not written, tried again");
        await pause(clock, RETRY_MS);
      }
    }
  }
}
