/** All batches: goes on with those of earlier lives, starts new ones, so many at a time, and tells how they go. */
import type { Registry } from "prom-client";
import type { BatchRecord, StoredBatch } from "../../domain/batch.ts";
import { describeFault } from "../../domain/fault.ts";
import { type BatchId, batchId, ID_PATTERNS, type TenantId } from "../../domain/ids.ts";
import { type Outcome, ok, refuse } from "../../domain/refusal.ts";
import type { Timer } from "../../ports/clock.ts";
import type { ApiKey } from "../../ports/store.ts";
import { nextInTurn, stepAside } from "../../scheduler/jobs/turns.ts";
import { BatchLife } from "./batch-life.ts";
import type { LinesProgress } from "./batch-lines.ts";
import { FileDesk } from "./file-desk.ts";
import { JobMetrics } from "./job-metrics.ts";
import { JOB_DEFAULTS, type JobOptions, RUNNING_MAX, TURN_MS } from "./job-options.ts";
import type { JobPorts } from "./job-ports.ts";

export interface BatchWanted {
  readonly key: ApiKey;
  readonly inputFileId: string;
  readonly endpoint: string;
  readonly completionWindow: string;
  readonly metadata: Readonly<Record<string, string>> | null;
  readonly outputExpiresAfterS: number | null;
}

export interface BatchView extends StoredBatch {
  /** Null while no line of it runs here. */
  readonly progress: LinesProgress | null;
}

export class Jobs {
  readonly files: FileDesk;
  readonly #ports: JobPorts;
  readonly #options: JobOptions;
  readonly #holder: string;
  readonly #metrics: JobMetrics;
  readonly #flight = { lines: 0 };
  readonly #running = new Map<BatchId, RunningBatchLife>();
  readonly #queue: StoredBatch[] = [];
  #turns: Timer | null = null;
  #isStopped = false;

  constructor(
    ports: JobPorts,
    options: { readonly boot: number; readonly registry: Registry; readonly jobs: Partial<JobOptions> },
  ) {
    this.#ports = ports;
    this.#options = { ...JOB_DEFAULTS, ...options.jobs };
    this.#holder = `boot-${options.boot}`;
    this.#metrics = new JobMetrics(options.registry);
    this.files = new FileDesk(ports, this.#options);
  }

  /** Goes on with what an earlier life left. */
  async start(): Promise<void> {
    await this.files.start();
    for (const batch of await this.#ports.store.batches.live()) {
      const { batchId: id } = batch.record;
      // This process is the only coordinator of the store: whoever held claims is gone.
      await this.#ports.store.batches.release({ batchId: id, holder: this.#holder, others: true });
      this.#queue.push(batch);
    }
    this.#startNext();
    this.#takeTurns();
  }

  /** Ends what runs; resolves when what had ended is in the store. May be called twice. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.files.stop();
    this.#turns?.cancel();
    this.#queue.length = 0;
    const running = [...this.#running.values()];
    await Promise.all(running.map(({ life }) => life.stop()));
    await Promise.all(running.map(({ ended }) => ended));
  }

  async submit(wanted: BatchWanted): Promise<Outcome<BatchView>> {
    const { tenantId, keyId } = wanted.key;
    const file = await this.files.find(tenantId, wanted.inputFileId, "input_file_id");
    if (!file.ok) return file;
    if (file.value.purpose !== "batch") {
      const message = `the file ${file.value.fileId} has the purpose "${file.value.purpose}"; a batch's input has "batch"`;
      return refuse("invalid-request", message, { param: "input_file_id" });
    }
    const live = (await this.#ports.store.batches.live()).filter(({ record }) => record.tenantId === tenantId);
    const { tenantBatchesMax } = this.#options;
    if (live.length >= tenantBatchesMax) {
      return refuse(
        "rate-limited",
        `${live.length} batches of yours have not ended, the most that may be; wait, or cancel some`,
      );
    }
    const createdAtMs = Math.floor(this.#ports.clock.wallMs());
    const { endpoint, completionWindow, metadata, outputExpiresAfterS } = wanted;
    const record: BatchRecord = {
      ...{ tenantId, keyId, endpoint, completionWindow, metadata, outputExpiresAfterS, createdAtMs },
      ...FRESH,
      batchId: batchId(this.#ports.ids.make("batch")),
      inputFileId: file.value.fileId,
      expiresAtMs: createdAtMs + this.#options.windowMs,
    };
    await this.#ports.store.batches.create(record);
    const batch = { record, counts: NONE };
    this.#queue.push(batch);
    this.#startNext();
    return ok({ ...batch, progress: null });
  }

  async find(tenantId: TenantId, id: string): Promise<Outcome<BatchView>> {
    const found = ID_PATTERNS.batch.test(id) ? await this.#ports.store.batches.get(batchId(id)) : null;
    if (found === null || found.record.tenantId !== tenantId) {
      return refuse("not-found", `No batch found with id '${id.slice(0, 64)}'.`, { param: "batch_id" });
    }
    return ok(this.#viewOf(found));
  }

  async list(page: { tenantId: TenantId; after: BatchId | null; limit: number }): Promise<readonly BatchView[]> {
    return (await this.#ports.store.batches.list(page)).map((batch) => this.#viewOf(batch));
  }

  /** What has a result keeps it; what runs is ended and not charged. */
  async cancel(tenantId: TenantId, id: string): Promise<Outcome<BatchView>> {
    const found = await this.find(tenantId, id);
    if (!found.ok) return found;
    const { record } = found.value;
    if (record.status === "cancelling" || record.status === "cancelled") return found;
    const cancelling = {
      ...record,
      status: "cancelling",
      cancellingAtMs: Math.floor(this.#ports.clock.wallMs()),
    } as const;
    if (!(await this.#ports.store.batches.update(cancelling, ["validating", "in_progress"]))) {
      const now = await this.find(tenantId, id);
      const status = now.ok ? now.value.record.status : record.status;
      return refuse("invalid-request", `Cannot cancel a batch with status '${status}'.`);
    }
    void this.#running.get(record.batchId)?.life.cancel();
    return await this.find(tenantId, id);
  }

  async pause(tenantId: TenantId, id: string, isPaused: boolean): Promise<Outcome<BatchView>> {
    const found = await this.find(tenantId, id);
    if (!found.ok) return found;
    const { record } = found.value;
    const isKept = await this.#ports.store.batches.update({ ...record, isPaused }, [record.status]);
    const isLive = record.status === "in_progress" || record.status === "validating";
    if (!isLive || !isKept) {
      return refuse(
        "invalid-request",
        `Cannot ${isPaused ? "pause" : "resume"} a batch with status '${record.status}'.`,
      );
    }
    this.#running.get(record.batchId)?.life.pause(isPaused);
    return await this.find(tenantId, id);
  }

  #viewOf(batch: StoredBatch): BatchView {
    return { ...batch, progress: this.#running.get(batch.record.batchId)?.life.progress() ?? null };
  }

  #startNext(): void {
    while (!this.#isStopped && this.#running.size < RUNNING_MAX) {
      const place = nextInTurn(
        this.#queue.map(({ record }) => record.tenantId),
        [...this.#running.values()].map(({ batch }) => batch.record.tenantId),
      );
      const [batch] = place === null ? [] : this.#queue.splice(place, 1);
      if (batch === undefined) break;
      this.#startLife(batch);
    }
    this.#makeRoom();
    this.#metrics.live.set(this.#running.size + this.#queue.length);
  }

  #startLife(batch: StoredBatch): void {
    const { batchId: id } = batch.record;
    const ports = { ...this.#ports, files: this.files, metrics: this.#metrics, flight: this.#flight };
    const life = new BatchLife(ports, this.#options, { batch, holder: this.#holder });
    const ended = life.run().finally(() => {
      const isAside = this.#running.get(id)?.isAside === true;
      this.#running.delete(id);
      if (isAside && !this.#isStopped) this.#queue.push(batch);
      this.#startNext();
    });
    this.#running.set(id, { batch, life, ended, isAside: false });
  }

  /** Batches that cannot run, or of a tenant with more than its part, wait again behind those that wait. */
  #makeRoom(): void {
    const all = [...this.#running.values()];
    const asideBefore = all.filter(({ isAside }) => isAside).length;
    const waiting = this.#queue.slice(asideBefore).map(({ record }) => record.tenantId);
    const running = all
      .filter(({ isAside }) => !isAside)
      .map(({ batch, life }) => ({
        batchId: batch.record.batchId,
        tenantId: batch.record.tenantId,
        isIdle: life.isIdle,
      }));
    for (const id of stepAside(waiting, running, RUNNING_MAX - asideBefore)) {
      const row = this.#running.get(id);
      if (row === undefined) continue;
      row.isAside = true;
      row.life.stop().catch((thrown: unknown) => {
        this.#ports.log.warn({ batchId: id, cause: describeFault(thrown) }, "batch stepped aside with its claims");
      });
    }
  }

  #takeTurns(): void {
    this.#turns = this.#ports.clock.setTimer(TURN_MS, () => {
      this.#makeRoom();
      if (!this.#isStopped) this.#takeTurns();
    });
  }
}

interface RunningBatchLife {
  readonly batch: StoredBatch;
  readonly life: BatchLife;
  readonly ended: Promise<void>;
  /** It ends to wait again. */
  isAside: boolean;
}

const NONE = { lines: 0, completed: 0, failed: 0, promptTokens: 0, outputTokens: 0 } as const;
const FRESH = {
  status: "validating",
  isPaused: false,
  modelId: null,
  problems: [],
  outputFileId: null,
  errorFileId: null,
  inProgressAtMs: null,
  finalizingAtMs: null,
  completedAtMs: null,
  failedAtMs: null,
  expiredAtMs: null,
  cancellingAtMs: null,
  cancelledAtMs: null,
} as const;
