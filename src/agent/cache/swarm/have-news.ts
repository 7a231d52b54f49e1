/**
 * Tells the coordinator which chunks this node serves, as they come: all of a model's as runs, at most twice a second for each model, and
 * less while the line is full. What is not told now is told with the next.
 */

import { sha256Hex } from "../../../domain/ids.ts";
import type { Clock, Timer } from "../../../ports/clock.ts";
import { WIRE_BOUNDS } from "../../../wire/link-atoms.ts";
import type { CoordinatorLine } from "./coordinator-line.ts";
import type { OpenModels } from "./open-models.ts";
import type { UploadDesk } from "./upload-desk.ts";

const EVERY_MS = 500;
/** A coordinator that has so much unread is told nothing more for now. */
const UNREAD_BYTES_MAX = 1_048_576;

export interface HaveNewsPorts {
  readonly clock: Clock;
  readonly line: CoordinatorLine;
  readonly models: OpenModels;
  readonly uploads: () => Pick<UploadDesk, "running" | "runningMax">;
}

export class HaveNews {
  readonly #ports: HaveNewsPorts;
  /** By digest: set while something may not be told before it fires. */
  readonly #timers = new Map<string, Timer>();
  readonly #untold = new Set<string>();

  constructor(ports: HaveNewsPorts) {
    this.#ports = ports;
  }

  /** Something of the model is new: chunks, uploads, or it is gone. */
  changed(weightsSha256: string): void {
    this.#untold.add(weightsSha256);
    if (!this.#timers.has(weightsSha256)) this.#tell(weightsSha256);
  }

  /** Tells what is untold, however soon after the last time: for who asks the coordinator for something that depends on it. */
  flush(weightsSha256: string): void {
    if (!this.#untold.has(weightsSha256)) return;
    this.#timers.get(weightsSha256)?.cancel();
    this.#tell(weightsSha256);
  }

  /** A line came up, or the owner came or went. */
  changedAll(): void {
    for (const { weightsSha256 } of this.#ports.models.all()) this.changed(weightsSha256);
  }

  stop(): void {
    for (const timer of this.#timers.values()) timer.cancel();
    this.#timers.clear();
  }

  #tell(weightsSha256: string): void {
    const { clock, line, models, uploads } = this.#ports;
    this.#timers.set(
      weightsSha256,
      clock.setTimer(EVERY_MS, () => {
        this.#timers.delete(weightsSha256);
        if (this.#untold.has(weightsSha256)) this.#tell(weightsSha256);
      }),
    );
    if (line.line === null) {
      // Told anew when there is a line.
      this.#untold.delete(weightsSha256);
      return;
    }
    if (line.line.bufferedBytes() > UNREAD_BYTES_MAX) return;
    this.#untold.delete(weightsSha256);
    const runs = models.get(weightsSha256)?.stored.have.runs() ?? [];
    const { running, runningMax } = uploads();
    line.send({
      type: "weights.have",
      weightsSha256: sha256Hex(weightsSha256),
      runs: runs.slice(0, WIRE_BOUNDS.chunkRunsMax).map(([from, count]) => [from, count]),
      uploads: running,
      uploadsMax: runningMax,
    });
  }
}
