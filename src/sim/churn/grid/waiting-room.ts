/** Requests of one model that wait for a way: moved streams first, then by tier, then in order of arrival. Bounded. */
import { SERVICE_TIERS } from "../../../domain/tier.ts";
import type { Running } from "./grid-parts.ts";

/** For each model; a request beyond it is refused at once. */
export const WAITING_MAX = 1_024;

export class WaitingRoom {
  readonly #waiting: Running[] = [];

  get size(): number {
    return this.#waiting.length;
  }

  get isFull(): boolean {
    return this.#waiting.length >= WAITING_MAX;
  }

  add(running: Running): void {
    let at = this.#waiting.length;
    while (at > 0 && isBefore(running, this.#waiting[at - 1])) at -= 1;
    this.#waiting.splice(at, 0, running);
  }

  remove(running: Running): void {
    const at = this.#waiting.indexOf(running);
    if (at >= 0) this.#waiting.splice(at, 1);
  }

  /** Offers those whose time has come to `take`, in order, until it refused `refusalsMax` of them. Who is taken leaves. */
  offer(nowMs: number, refusalsMax: number, take: (running: Running) => boolean): void {
    let refusals = 0;
    for (const running of [...this.#waiting]) {
      if (running.readyAtMs > nowMs) continue;
      if (take(running)) this.remove(running);
      else if (++refusals >= refusalsMax) return;
    }
  }
}

function isBefore(a: Running, b: Running | undefined): boolean {
  if (b === undefined) return false;
  const moved = Number(b.troubles > 0) - Number(a.troubles > 0);
  const tier = SERVICE_TIERS.indexOf(a.draw.tier) - SERVICE_TIERS.indexOf(b.draw.tier);
  return (moved || tier || a.number - b.number) < 0;
}
