/** What the two ways to a chunk, other nodes and the source, share within one model's transfer. */
import type { Clock } from "../../../ports/clock.ts";
import type { Log } from "../../../ports/log.ts";
import type { PeerNetwork } from "../../../ports/peer-link.ts";
import type { Random } from "../../../ports/random.ts";
import type { WeightsSource } from "../../../ports/weights-source.ts";
import type { NextChunks, Supplier } from "../../../scheduler/distribution/next-chunks.ts";
import type { ArrivingChunk, ChunkArrivals } from "./arriving-chunk.ts";
import type { AskedBytes } from "./asked-bytes.ts";
import type { ByteBudget } from "./byte-budget.ts";
import type { CoordinatorLine } from "./coordinator-line.ts";
import type { OpenModel } from "./open-models.ts";
import type { PeerConduct } from "./peer-conduct.ts";
import type { Throttle } from "./throttle.ts";

export interface SwarmPorts {
  readonly clock: Clock;
  readonly log: Log;
  readonly random: Random;
  readonly line: CoordinatorLine;
  /** Null where the node takes weights from the coordinator alone. */
  readonly network: PeerNetwork | null;
  readonly source: WeightsSource;
  readonly buffers: ByteBudget;
  readonly asked: AskedBytes;
  readonly download: Throttle;
  readonly conduct: PeerConduct;
}

export interface TransferEnv extends SwarmPorts {
  readonly model: OpenModel;
  readonly arrivals: ChunkArrivals;
  /** What is missing, and whom to ask for it. */
  next(): NextChunks;
  /** Bytes arrived. */
  moved(bytes: number): void;
  /** Verifies and keeps a whole chunk. Rejects when the disk does not take it. */
  keep(arriving: ArrivingChunk, from: Supplier): Promise<"kept" | "bad">;
  /** Tells the coordinator at once what is here. */
  tellHave(): void;
  /** The transfer cannot go on: its disk is full, or the source has something else. */
  fail(cause: unknown): void;
  /** Something ended or is new: there may be more to begin. */
  changed(): void;
}
