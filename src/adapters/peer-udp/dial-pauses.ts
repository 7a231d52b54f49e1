/**
 * Which nodes are not worth a punch for a while, by what the last attempt ended with. The library aborts a punch by chance at once when one
 * ran less than 20 s before, and two random NATs never meet: asking again soon would only cost both ends and the bootstrap nodes datagrams.
 */

/** The library's `randomPunchInterval`. */
const CHANCE_PAUSE_MS = 20_000;
/** NATs change when a machine moves to another network. */
const HOPELESS_PAUSE_MS = 10 * 60_000;
const REMEMBERED_MAX = 512;

const PAUSES_MS: Readonly<Record<string, number>> = {
  HOLEPUNCH_ABORTED: CHANCE_PAUSE_MS,
  REMOTE_ABORTED: CHANCE_PAUSE_MS,
  HOLEPUNCH_DOUBLE_RANDOMIZED_NATS: HOPELESS_PAUSE_MS,
  CANNOT_HOLEPUNCH: HOPELESS_PAUSE_MS,
};

export class DialPauses {
  readonly #until = new Map<string, { readonly code: string; readonly untilMs: number }>();

  /** Why a node is not dialled at this time; null when it may be. */
  reason(publicKeyHex: string, nowMs: number): string | null {
    const pause = this.#until.get(publicKeyHex);
    if (pause === undefined) return null;
    if (pause.untilMs > nowMs) {
      return `${pause.code} a moment ago, next attempt in ${Math.ceil((pause.untilMs - nowMs) / 1_000)} s`;
    }
    this.#until.delete(publicKeyHex);
    return null;
  }

  note(publicKeyHex: string, code: string, nowMs: number): void {
    const pauseMs = PAUSES_MS[code];
    if (pauseMs === undefined) return;
    this.#until.delete(publicKeyHex);
    this.#until.set(publicKeyHex, { code, untilMs: nowMs + pauseMs });
    const [oldest] = this.#until.keys();
    if (this.#until.size > REMEMBERED_MAX && oldest !== undefined) this.#until.delete(oldest);
  }
}
