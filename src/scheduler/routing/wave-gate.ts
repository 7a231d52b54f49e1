/**
 * Why offline admission comes in waves. A prompt passes a node in many times a decode step's time, steps that queue behind it leave
 * with it, and the convoy goes at the prompt's speed to the end of the chain. One prompt at a time, evenly spread, keeps nearly
 * every step in some convoy; many prompts in a row share one. So requests are let in together when a share of the places is free,
 * and for the rest of the time steps have the nodes to themselves.
 *
 * How large a wave: with n requests in flight, a wave of k leaves k / 2n of the places empty on average. Waves come every
 * k / (n / (o s)) seconds, o output tokens of s seconds each, and each costs about the time t of one prompt's pass, in which steps
 * crawl. k / 2n + t n / (k o s) is least at k = n sqrt(2 t / (o s)), the square root that also sets the interval of checkpoints.
 *
 * It trades waiting for throughput: not for requests that somebody waits for.
 */

/** A wave of everything would wait for the longest answer each time. */
const WAVE_SHARE_MAX = 0.5;

export interface WaveTimes {
  /** One prompt's pass without anybody in its way, seconds. */
  readonly promptS: number;
  /** One decode step, mean, seconds. */
  readonly stepS: number;
  readonly outputTokensMean: number;
}

/** Share of the requests in flight that one wave replaces, 0 to 1/2. */
export function waveShare({ promptS, stepS, outputTokensMean }: WaveTimes): number {
  return Math.min(WAVE_SHARE_MAX, Math.sqrt((2 * promptS) / (outputTokensMean * stepS)));
}

/** Open until nobody fits any more, then shut until a wave's worth of requests ended. */
export class WaveGate {
  #isOpen = true;
  #endedSince = 0;
  #waveSize = 0;

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Nobody fits: wait for `waveSize` requests to end. */
  shut(waveSize: number): void {
    this.#isOpen = false;
    this.#endedSince = 0;
    this.#waveSize = waveSize;
  }

  /** A request ended. `inFlight`: those that are left; without any the gate opens. */
  ended(inFlight: number): void {
    this.#endedSince += 1;
    if (this.#endedSince >= this.#waveSize || inFlight === 0) this.#isOpen = true;
  }
}
