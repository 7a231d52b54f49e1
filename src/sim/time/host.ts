/**
 * One machine's process as the simulator sees it: everything that it does begins with an event of its own, so that it can be
 * frozen (SIGSTOP, a laptop's lid: events pile up and come later, in order) or killed (events are dropped and whatever its
 * code waited for never comes).
 *
 * A killed process gets a new life by `restart`; events of the former life are recognised by their number and dropped.
 */
import { assert } from "../../domain/assert.ts";
import type { Scheduled, Timeline } from "./timeline.ts";

export type HostState = "running" | "frozen" | "dead";

export class Host {
  readonly name: string;
  readonly #timeline: Timeline;
  readonly #held: (() => void)[] = [];
  #state: HostState = "running";
  #life = 1;
  #isPowered = true;

  constructor(name: string, timeline: Timeline) {
    this.name = name;
    this.#timeline = timeline;
  }

  get state(): HostState {
    return this.#state;
  }

  /** Grows with each restart. */
  get life(): number {
    return this.#life;
  }

  /** False while the whole machine is off: nothing answers for it, not even its kernel. */
  get isPowered(): boolean {
    return this.#isPowered;
  }

  get timeline(): Timeline {
    return this.#timeline;
  }

  after(delayMs: number, fire: () => void): Scheduled {
    const life = this.#life;
    let isCancelled = false;
    const guarded = () => {
      if (isCancelled || life !== this.#life || this.#state === "dead") return;
      if (this.#state === "frozen") this.#held.push(guarded);
      else fire();
    };
    const scheduled = this.#timeline.after(delayMs, guarded);
    return {
      cancel: () => {
        isCancelled = true;
        scheduled.cancel();
      },
    };
  }

  /** Resolves `delayMs` later, in this life only. */
  pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(delayMs, resolve);
    });
  }

  freeze(): void {
    if (this.#state === "running") this.#state = "frozen";
  }

  thaw(): void {
    if (this.#state !== "frozen") return;
    this.#state = "running";
    for (const held of this.#held.splice(0)) this.#timeline.after(0, held);
  }

  kill(options: { isPowerLoss: boolean }): void {
    this.#state = "dead";
    this.#isPowered = !options.isPowerLoss;
    this.#held.length = 0;
  }

  restart(): void {
    assert(this.#state === "dead", `${this.name} was killed before it starts again, it is ${this.#state}`);
    this.#life += 1;
    this.#isPowered = true;
    this.#state = "running";
  }
}
