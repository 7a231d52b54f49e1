/** The line to the coordinator as everything about weights sees it: there or not, with the coordinator's time while it is. */
import type { Clock } from "../../../ports/clock.ts";
import type { AgentMessage } from "../../../wire/agent-link.ts";
import type { Line } from "../../session.ts";

export class CoordinatorLine {
  readonly #clock: Clock;
  #line: Line | null = null;
  /** Of the last welcome: goes on counting while the coordinator is away, for grants that it gave before. */
  #time: { readonly coordinatorMs: number; readonly monoMs: number } | null = null;
  #firstUpMs: number | null = null;
  #gridKeyHex: string | null = null;
  #gridId: string | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  up(line: Line): void {
    this.#line = line;
    this.#time = { coordinatorMs: line.welcome.coordinatorTimeMs, monoMs: this.#clock.monoMs() };
    this.#firstUpMs ??= line.welcome.coordinatorTimeMs;
    this.#gridKeyHex = line.welcome.gridPublicKey ?? null;
    this.#gridId = line.gridId;
  }

  down(): void {
    this.#line = null;
  }

  get line(): Line | null {
    return this.#line;
  }

  /** Bearer of the session that is open now; null while there is none. */
  get bearer(): string | null {
    return this.#line?.welcome.sessionToken ?? null;
  }

  /** What the grid signs with; null before the first welcome, or where the grid signs nothing. */
  get gridKeyHex(): string | null {
    return this.#gridKeyHex;
  }

  /** Null before the first welcome. */
  get gridId(): string | null {
    return this.#gridId;
  }

  /** Other nodes may be asked: the grid has a peer network. */
  get hasPeers(): boolean {
    return this.#line?.welcome.peering !== undefined;
  }

  /** The coordinator's time, as this machine's monotonic clock counts on from the welcome; null before the first one. */
  nowMs(): number | null {
    return this.#time === null ? null : this.#time.coordinatorMs + (this.#clock.monoMs() - this.#time.monoMs);
  }

  /** The coordinator's time at this process's first welcome: what it remembers of grants begins there. Null before. */
  get firstUpMs(): number | null {
    return this.#firstUpMs;
  }

  /** Does nothing without a line. False then. */
  send(message: AgentMessage): boolean {
    this.#line?.send(message);
    return this.#line !== null;
  }
}
