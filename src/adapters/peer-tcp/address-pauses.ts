/**
 * Which addresses are not dialled for a while. Nodes name their own addresses, and one that names somebody else's would have the whole grid
 * knock there: so an address where no right node answered rests, longer each time, whoever names it; and failures together are bounded, so
 * that many addresses are no way round it. An address where the node was met before is not held back.
 *
 * | event                | the address                                  | failures to spare             |
 * | -------------------- | -------------------------------------------- | ----------------------------- |
 * | the right node there | forgotten                                    | –                             |
 * | any other end        | rests 2 s, doubling to 5 min                 | one less                      |
 * | time                 | is free after its rest, and remembers it     | 4 more a second, at most 256  |
 */

const FIRST_REST_MS = 2_000;
const REST_MS_MAX = 5 * 60_000;
/** A crowd of nodes behind NATs, all named at once, each with some private addresses. */
const FAILURES_BURST_MAX = 256;
const FAILURES_PER_SECOND_MAX = 4;
const REMEMBERED_MAX = 4_096;

export class AddressPauses {
  /** By `host:port`; the one that failed last is last. */
  readonly #rests = new Map<string, { readonly restMs: number; readonly untilMs: number }>();
  #spare = FAILURES_BURST_MAX;
  #sparedAtMs: number;

  constructor(nowMs: number) {
    this.#sparedAtMs = nowMs;
  }

  mayDial(address: string, nowMs: number): boolean {
    return this.#spareAt(nowMs) >= 1 && nowMs >= (this.#rests.get(address)?.untilMs ?? Number.NEGATIVE_INFINITY);
  }

  failed(address: string, nowMs: number): void {
    this.#spare = Math.max(0, this.#spareAt(nowMs) - 1);
    const before = this.#rests.get(address);
    const restMs = before === undefined ? FIRST_REST_MS : Math.min(REST_MS_MAX, before.restMs * 2);
    this.#rests.delete(address);
    this.#rests.set(address, { restMs, untilMs: nowMs + restMs });
    const [oldest] = this.#rests.keys();
    if (this.#rests.size > REMEMBERED_MAX && oldest !== undefined) this.#rests.delete(oldest);
  }

  answered(address: string): void {
    this.#rests.delete(address);
  }

  #spareAt(nowMs: number): number {
    const gained = (Math.max(0, nowMs - this.#sparedAtMs) / 1_000) * FAILURES_PER_SECOND_MAX;
    this.#sparedAtMs = Math.max(nowMs, this.#sparedAtMs);
    this.#spare = Math.min(FAILURES_BURST_MAX, this.#spare + gained);
    return this.#spare;
  }
}
