/** Where the head desk sits: it feeds the engine through this, so that what comes out is known to be of which lease. */
import { type SequenceId, sequenceIdOf } from "../../domain/chain.ts";
import { requestId } from "../../domain/ids.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { StageEngine } from "../../ports/stage-engine.ts";
import type { AttemptStart } from "../../wire/agent-link.ts";
import type { ChainSet } from "../../wire/chain-link.ts";
import type { ChainStagePorts } from "./chain-stage-ports.ts";
import type { SequenceTable } from "./sequence-table.ts";
import type { PassRun } from "./stage-intake.ts";
import type { HeadDesk } from "./stage-roles.ts";

type SeatPorts = Pick<ChainStagePorts, "clock" | "createHead" | "crypto" | "draft"> & {
  readonly sequences: SequenceTable;
  /** The chain as it was told of. */
  chain(): Pick<ChainSet, "stages" | "times"> | null;
  /** Frames that may still go out. */
  room(): number;
  onLease(): void;
  release(sequence: SequenceId): void;
};

function stageCount({ chain }: Pick<SeatPorts, "chain">): number {
  return chain()?.stages.length ?? 1;
}

/** As the coordinator tells; until it does the others are taken for as quick as this one. */
export function stageMs(
  ports: Pick<SeatPorts, "chain">,
  engine: Pick<StageEngine, "stats">,
): NonNullable<ChainSet["times"]> | null {
  const { singleMs } = engine.stats();
  const told = ports.chain()?.times;
  if (told !== undefined) return { slowestMs: Math.max(told.slowestMs, singleMs ?? 0), sumMs: told.sumMs };
  return singleMs === null ? null : { slowestMs: singleMs, sumMs: singleMs * stageCount(ports) };
}

/** Which sequence an attempt runs. */
export function sequenceOfAttempt({ terms, work }: AttemptStart, crypto: Crypto): SequenceId {
  const choice = work.kind === "generate" ? work.choice : 0;
  return sequenceIdOf({ requestId: requestId(terms.requestId), choice }, (data) => crypto.sha256(data));
}

export class HeadSeat {
  readonly desk: HeadDesk;
  readonly #runs = new Map<number, PassRun>();

  constructor(engine: StageEngine, ports: SeatPorts) {
    const { clock, sequences } = ports;
    this.desk = ports.createHead({
      engine: {
        info: engine.info,
        open: (sequence) => engine.open(sequence),
        held: (sequence) => engine.held(sequence),
        release: (sequence) => {
          for (const [tag, run] of [...this.#runs]) if (run.sequence === sequence) this.#runs.delete(tag);
          engine.release(sequence);
        },
        stats: () => engine.stats(),
        submit: (pass) => {
          const { sequence, tag, start, count, draw } = pass;
          const state = sequences.get(sequence);
          if (state !== null) state.confirmed = start + count - (draw?.draftIds.length ?? 0);
          this.#runs.set(tag, { sequence, leaseEpoch: state?.leaseEpoch ?? -1, isStale: false, frame: null });
          engine.submit(pass);
        },
      },
      draft: () => ports.draft(),
      sequenceOf: (order) => sequenceOfAttempt(order, ports.crypto),
      stageCount: () => stageCount(ports),
      stageMs: () => stageMs(ports, engine),
      room: () => Math.max(0, ports.room() - this.#runs.size),
      announce: (sequence, run) => {
        sequences.lease(sequence, run);
        ports.onLease();
      },
      release: (sequence) => ports.release(sequence),
      nowMs: () => clock.monoMs(),
      setTimer: (delayMs, fire) => clock.setTimer(delayMs, fire),
    });
  }

  /** What a pass belongs to; it is done with this. */
  finish(tag: number): PassRun | null {
    const run = this.#runs.get(tag) ?? null;
    this.#runs.delete(tag);
    return run;
  }

  /** All leases are dead. */
  drop(): void {
    for (const run of this.#runs.values()) run.isStale = true;
    this.desk.onEpoch();
  }
}
