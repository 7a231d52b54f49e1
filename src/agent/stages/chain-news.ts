/** What the coordinator is told of a stage: how it is, at each change and once a second, and each trouble once in an epoch. */
import type { Clock, Timer } from "../../ports/clock.ts";
import type { StageStats } from "../../ports/stage-engine.ts";
import type { AgentMessage } from "../../wire/agent-link.ts";
import { WIRE_BOUNDS } from "../../wire/agent-link.ts";
import type { ChainSet, ChainStateReport, ChainTrouble } from "../../wire/chain-link.ts";
import type { ChainLinks } from "./chain-links.ts";
import { STATE_MS } from "./stage-bounds.ts";
import type { HeadDesk } from "./stage-roles.ts";

const CODE_CHARS_MAX = 64;

interface NewsPorts {
  readonly clock: Clock;
  readonly replicaId: string;
  tell(message: AgentMessage): void;
}

export type StageLook = Omit<ChainStateReport, "type" | "replicaId">;

export class ChainNews {
  readonly #ports: NewsPorts;
  readonly #look: () => StageLook | null;
  readonly #told = new Set<string>();
  #toldEpoch = "";
  #timer: Timer | null = null;
  #isStopped = false;

  /** `look`: what is there to tell; null while there is no chain. */
  constructor(ports: NewsPorts, look: () => StageLook | null) {
    this.#ports = ports;
    this.#look = look;
  }

  changed(): void {
    if (this.#isStopped) return;
    this.#timer?.cancel();
    this.#timer = this.#ports.clock.setTimer(STATE_MS, () => this.changed());
    const state = this.#look();
    if (state !== null) this.#ports.tell({ type: "chain.state", replicaId: this.#ports.replicaId, ...state });
  }

  trouble(
    { chainId, chainEpoch }: Pick<ChainSet, "chainId" | "chainEpoch">,
    { kind, accused, code, message }: Pick<ChainTrouble, "kind" | "accused" | "code" | "message">,
  ): void {
    const epoch = `${chainId} ${chainEpoch}`;
    if (epoch !== this.#toldEpoch) this.#told.clear();
    this.#toldEpoch = epoch;
    const what = `${kind} ${accused} ${code}`;
    if (this.#isStopped || this.#told.has(what)) return;
    this.#told.add(what);
    this.#ports.tell({
      type: "chain.trouble",
      replicaId: this.#ports.replicaId,
      chainId,
      chainEpoch,
      kind,
      accused,
      code: code.slice(0, CODE_CHARS_MAX),
      message: message.slice(0, WIRE_BOUNDS.textMax),
    });
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
  }
}

/** What there is to tell. */
export function stageLook(parts: {
  /** Null: there is no chain. */
  readonly links: ChainLinks | null;
  /** Null: there is no engine. */
  readonly engine: StageStats | null;
  readonly head: ReturnType<HeadDesk["stats"]> | null;
  readonly sent: { readonly bytes: number; readonly positions: number };
  readonly hasTakenOver: boolean;
}): StageLook | null {
  const { links, engine, head, sent } = parts;
  if (links === null) return null;
  const { next, set } = links;
  return {
    chainId: set.chainId,
    chainEpoch: set.chainEpoch,
    isLinked: engine !== null && links.isLinked,
    ...(set.takeOver === undefined ? {} : { hasTakenOver: parts.hasTakenOver }),
    nextRttMs: next.wire?.link.quality()?.rttMs ?? next.rttMs,
    singleMs: engine?.singleMs ?? null,
    singlesMean: engine?.singlesMean ?? null,
    promptMsPerPosition: engine?.promptMsPerPosition ?? null,
    loopMs: head?.loopMs ?? null,
    drafted: head?.drafted ?? 0,
    accepted: head?.accepted ?? 0,
    bytesSent: sent.bytes,
    positionsSent: sent.positions,
  };
}
