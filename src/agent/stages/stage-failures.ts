/**
 * What follows when the engine gives a sequence up, and who is to blame. The sequence ends here; its attempt may go on elsewhere, or here again.
 *
 * | code                 | to blame                                                                                          |
 * | -------------------- | ------------------------------------------------------------------------------------------------- |
 * | `activations-broken` | the stage before                                                                                  |
 * | `position-wrong`     | nobody: this stage says that it has to begin anew, and the chain links again (coordinator/chains)    |
 * | `output-broken`      | this stage, as it says                                                                            |
 * | any other            | this stage, as it says; the attempt of a last one tells it itself                                  |
 *
 * Frames are checked before they reach the engine (stage-intake.ts), so a position from which the engine cannot go on is its own trouble: a cache of windows
 * that was taken over holds only what the next position sees, and cannot be cut back behind that. Whatever else was taken over may be no better: nothing
 * that this stage holds counts any more. It is not mended within the lease: what is drawn after would be drawn twice.
 */
import type { SequenceId } from "../../domain/chain.ts";
import type { EngineFailure } from "../../ports/engine.ts";
import type { StageFailure } from "../../ports/stage-engine.ts";
import type { ChainTrouble } from "../../wire/chain-link.ts";
import type { StageFrame } from "../../wire/stage-frames.ts";
import type { ChainLinks } from "./chain-links.ts";
import type { SequenceTable } from "./sequence-table.ts";
import { UNLEASED_MS } from "./stage-bounds.ts";
import type { StageOutbox } from "./stage-outbox.ts";
import type { HeadDesk } from "./stage-roles.ts";
import type { WireProblem } from "./stage-wire.ts";
import type { TailDesk } from "./tail-desk.ts";

export interface StageFailuresPorts {
  readonly sequences: SequenceTable;
  readonly outbox: Pick<StageOutbox, "onGap">;
  readonly tail: TailDesk;
  nowMs(): number;
  links(): ChainLinks | null;
  head(): HeadDesk | null;
  /** This stage blames itself, or the accused. */
  trouble(trouble: Pick<ChainTrouble, "kind" | "code" | "message">, accused?: string): void;
  end(sequence: SequenceId): void;
}

export class StageFailures {
  readonly #ports: StageFailuresPorts;

  constructor(ports: StageFailuresPorts) {
    this.#ports = ports;
  }

  take(sequence: SequenceId, { code, message }: { readonly code: StageFailure; readonly message: string }): void {
    const { sequences, tail } = this.#ports;
    const state = sequences.get(sequence);
    if (state !== null) state.confirmed = 0;
    if (code === "position-wrong") for (const [, other] of sequences.all()) other.confirmed = 0;
    const links = this.#ports.links();
    const previous = links?.isFirst === true ? null : (links?.previous ?? null);
    if (code === "activations-broken" && previous !== null) links?.breach(previous, { code, message });
    else if (links?.isLast !== true || code === "output-broken" || code === "position-wrong") {
      this.#ports.trouble({ kind: "stage-breach", code, message });
    }
    tail.fail(sequence, attemptCode(code), `${code}: ${message}`);
    this.#ports.end(sequence);
  }

  overload(sequence: SequenceId): void {
    this.take(sequence, { code: "engine-overloaded", message: "all slots of the engine are in use" });
  }

  /** Positions of it came and no attempt: the first stage alone says which sequences are fed. What waited a moment only is nobody's fault. */
  unleased(sequence: SequenceId, waitedMs: number): void {
    this.#ports.end(sequence);
    const first = this.#ports.links()?.set.stages[0];
    if (waitedMs < UNLEASED_MS || first === undefined) return;
    const message = `${sequence} was fed for ${Math.round(waitedMs)} ms, and no attempt of it came to the last stage`;
    this.#ports.trouble({ kind: "stage-breach", code: "sequence-unleased", message }, first.replicaId);
  }

  /** The next stage lacks positions: they are sent again, or somebody before this stage is asked for them. */
  onGap({ sequence, leaseEpoch, held }: Extract<StageFrame, { type: "gap" }>): WireProblem | null {
    const { sequences, outbox, nowMs } = this.#ports;
    const state = sequences.get(sequence);
    if (state?.isOpen !== true || state.leaseEpoch !== leaseEpoch) return null;
    const again = sequences.lackedAgain(sequence);
    if (again !== null) return again;
    if (outbox.onGap(sequence, held)) return null;
    const links = this.#ports.links();
    if (links?.isFirst === true) this.#ports.head()?.onGap(sequence, held);
    else {
      state.gap = { held, atMs: nowMs() };
      links?.previous.send({ type: "gap", sequence, leaseEpoch, held });
    }
    return null;
  }
}

/** What the coordinator is told of the attempt: what others did wrong is no word of this engine's. */
function attemptCode(code: StageFailure): EngineFailure {
  return code === "activations-broken" || code === "position-wrong" || code === "output-broken"
    ? "engine-crashed"
    : code;
}
