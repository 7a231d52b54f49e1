/**
 * Tells stages which answers are over. A sequence has its request's name, so nobody asks for it again: what stages hold of it (keys and values, and what was
 * sent on) is of no use to anyone, and it is the tenant's. Told a second later and together, so that nothing of it is on its way any more. Stages that are
 * in no chain any more hold answers too.
 *
 * Not told: stages whose node has no link at that moment. What they hold goes when its room is needed, as it does without a word.
 */
import type { SequenceId } from "../../domain/chain.ts";
import type { ModelId } from "../../domain/ids.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import { SEQUENCES_TOLD_MAX } from "../../wire/chain-link.ts";
import type { ReplicaBook } from "../dispatch/replica-book.ts";
import type { Roster } from "../roster.ts";

/** From the first answer's end to the word: frames of it are through by then. */
const TELL_MS = 1_000;
/** Names that wait for one word, of a model; of more than so many in a second the oldest go untold. */
const WAITING_MAX = 4_096;

export interface AnswersOverPorts {
  readonly clock: Clock;
  readonly roster: Pick<Roster, "send">;
  readonly book: Pick<ReplicaBook, "stages">;
}

export class AnswersOver {
  readonly #ports: AnswersOverPorts;
  readonly #waiting = new Map<ModelId, SequenceId[]>();
  #timer: Timer | null = null;

  constructor(ports: AnswersOverPorts) {
    this.#ports = ports;
  }

  add(modelId: ModelId, sequence: SequenceId): void {
    const waiting = this.#waiting.get(modelId) ?? [];
    waiting.push(sequence);
    if (waiting.length > WAITING_MAX) waiting.shift();
    this.#waiting.set(modelId, waiting);
    this.#timer ??= this.#ports.clock.setTimer(TELL_MS, () => this.#tell());
  }

  stop(): void {
    this.#timer?.cancel();
    this.#waiting.clear();
  }

  #tell(): void {
    this.#timer = null;
    const stages = this.#ports.book.stages();
    for (const [modelId, sequences] of this.#waiting) {
      for (const { nodeId, replicaId } of stages.filter((stage) => stage.modelId === modelId && !stage.isUnloading)) {
        for (let at = 0; at < sequences.length; at += SEQUENCES_TOLD_MAX) {
          const part = sequences.slice(at, at + SEQUENCES_TOLD_MAX);
          this.#ports.roster.send(nodeId, { type: "chain.over", replicaId, sequences: part });
        }
      }
    }
    this.#waiting.clear();
  }
}
