/**
 * How many drafts a sequence sends along with its token. A pass around the chain costs its round trips whatever it carries; each draft costs one more
 * decode at every stage. With a chance p for each draft, k of them bring 1 + p + … + p^k tokens in the time of one longer loop; the best k is that with
 * the most tokens for its time. Where stages and not round trips bound the chain, because it has many sequences or short links, the best k is 0.
 *
 * Chances are estimates, so a ledger of time keeps them honest: each sequence may lose a small share of the time it has run to drafts that did not come
 * true, and no more; what came true pays in. Text that does not repeat is thereby never slowed by more than that share, however wrong the estimates.
 * From time to time, when the ledger allows, one or two drafts are sent although they do not seem to pay, to learn whether they would.
 */
import { AcceptanceRates, type DraftKind } from "./acceptance.ts";

/** Drafts of one pass, as the frame between stages bounds them. */
export const DRAFTS_MAX = 15;
/** Of the time a sequence has run: what it may lose to drafts. The bar is 5 %. */
const LOSS_SHARE = 0.02;
/** Loops that count as run at the start: half a loop may be lost at once. */
const START_LOOPS = 25;
/** Share of the past that a loop leaves in the ledger. */
const LEDGER_FADE = 0.98;
/** Won time is remembered up to so many loops, so that text which stops repeating is noticed soon. */
const CREDIT_LOOPS_MAX = 8;
/** Loops with something to send between two tries that do not seem to pay. */
const TRY_LOOPS = 24;
const TRY_DRAFTS = 2;
/** Asked so often, drafts to try did not come in time. */
const TRY_AWAITED_MAX = 6;
/** Drafts must promise so much more than none: estimates are no better. */
const GAIN_MIN = 1.02;
/** A sequence waits for the draft model no longer than this share of a loop. */
export const WAIT_SHARE_MAX = 0.25;

/** How long a loop of one sequence takes. */
export interface LoopTimes {
  /** Without drafts: from a token's departure until the next one is back. */
  readonly loopMs: number;
  /** What a draft adds to a loop that is bound by its round trips: a decode at each stage, one after the other. */
  readonly draftMs: number;
  /** The slowest stage's time for one decode of a group, times the groups that share it: with more decodes than fit in a loop, it bounds. */
  readonly slowestMs: number;
}

/** Drafts that could be sent. */
export interface DraftOffer {
  readonly kind: DraftKind;
  /** So many are there, or will be after the wait. */
  readonly count: number;
  /** Wait until `drafts` of them are there; 0 for each where they are there already. */
  waitMs(drafts: number): number;
}

export interface DraftChoice {
  readonly offer: DraftOffer;
  readonly drafts: number;
  readonly waitMs: number;
}

export function loopMsWith(times: LoopTimes, drafts: number): number {
  return Math.max(times.loopMs + drafts * times.draftMs, times.slowestMs * (1 + drafts));
}

/** Mean number of tokens of a pass with `drafts` drafts, each of which comes true with chance `rate` if those before it did. */
export function tokensExpected(rate: number, drafts: number): number {
  let sum = 1;
  for (let index = 0, chance = rate; index < drafts; index++, chance *= rate) sum += chance;
  return sum;
}

/** One sequence's speculation. */
export class Speculation {
  readonly #rates: AcceptanceRates;
  /** Time run, lost to drafts and won by them, each fading. */
  #runMs = 0;
  #lostMs = 0;
  #wonMs = 0;
  #loopsUntilTry = 0;
  #triesAwaited = 0;
  #hasRun = false;

  constructor(shared: AcceptanceRates) {
    this.#rates = new AcceptanceRates(shared);
  }

  /** The best of the offers, or null when none pays. At most one is tried although it does not. */
  choose(offers: readonly DraftOffer[], times: LoopTimes, draftsMax: number): DraftChoice | null {
    const plainMs = loopMsWith(times, 0);
    const allowedMs = this.#allowedMs(plainMs);
    let best: (DraftChoice & { readonly perMs: number }) | null = null;
    for (const offer of offers) {
      const rate = this.#rates.rate(offer.kind);
      for (let drafts = 1; drafts <= Math.min(offer.count, draftsMax, DRAFTS_MAX); drafts++) {
        const waitMs = offer.waitMs(drafts);
        const ms = loopMsWith(times, drafts) + waitMs;
        if (ms - plainMs > allowedMs || waitMs > WAIT_SHARE_MAX * plainMs) break;
        const perMs = tokensExpected(rate, drafts) / ms;
        if (perMs > (best?.perMs ?? GAIN_MIN / plainMs)) best = { offer, drafts, waitMs, perMs };
      }
    }
    return best ?? this.#try(offers, times, { allowedMs, draftsMax });
  }

  /** Whether drafts that take work to make would pay if they were there. `try`: no, but they are due to be tried; said for a few loops on end. */
  worth(kind: DraftKind, times: LoopTimes): "yes" | "try" | "no" {
    const rate = this.#rates.rate(kind);
    const plainMs = loopMsWith(times, 0);
    for (let drafts = 1; drafts <= DRAFTS_MAX; drafts++)
      if (tokensExpected(rate, drafts) / loopMsWith(times, drafts) > GAIN_MIN / plainMs) return "yes";
    if (this.#loopsUntilTry > 0) return "no";
    this.#triesAwaited += 1;
    if (this.#triesAwaited <= TRY_AWAITED_MAX) return "try";
    this.#triesAwaited = 0;
    this.#loopsUntilTry = TRY_LOOPS;
    return "no";
  }

  /** A pass came back: what it carried, how much of that came true. */
  note(
    pass: {
      readonly sent: DraftChoice | null;
      readonly accepted: number;
      /** The answer ended with its last token. */
      readonly isOver: boolean;
      /** It left so much later to have drafts. */
      readonly waitedMs: number;
    },
    times: LoopTimes,
  ): void {
    const plainMs = loopMsWith(times, 0);
    this.#start(plainMs);
    this.#runMs = this.#runMs * LEDGER_FADE + plainMs;
    this.#lostMs *= LEDGER_FADE;
    this.#wonMs *= LEDGER_FADE;
    this.#lostMs += pass.waitedMs;
    this.#loopsUntilTry = Math.max(0, this.#loopsUntilTry - 1);
    const { sent, accepted } = pass;
    if (sent === null) return;
    // An answer that ended with its last token says nothing of the drafts behind.
    const wrong = accepted < sent.drafts && !pass.isOver ? 1 : 0;
    this.#rates.note(sent.offer.kind, { accepted, tried: accepted + wrong });
    this.#lostMs += loopMsWith(times, sent.drafts) - plainMs;
    const wonMax = this.#lostMs + CREDIT_LOOPS_MAX * plainMs;
    this.#wonMs = Math.min(this.#wonMs + accepted * plainMs, wonMax);
  }

  #allowedMs(plainMs: number): number {
    const runMs = this.#hasRun ? this.#runMs : START_LOOPS * plainMs;
    return LOSS_SHARE * runMs + this.#wonMs - this.#lostMs;
  }

  #start(plainMs: number): void {
    if (this.#hasRun) return;
    this.#hasRun = true;
    this.#runMs = START_LOOPS * plainMs;
  }

  #try(
    offers: readonly DraftOffer[],
    times: LoopTimes,
    bounds: { readonly allowedMs: number; readonly draftsMax: number },
  ): DraftChoice | null {
    const [offer] = [...offers].sort((a, b) => this.#rates.rate(b.kind) - this.#rates.rate(a.kind));
    if (offer === undefined || this.#loopsUntilTry > 0) return null;
    for (let drafts = Math.min(TRY_DRAFTS, offer.count, bounds.draftsMax); drafts > 0; drafts--) {
      if (offer.waitMs(drafts) > 0) continue;
      if (loopMsWith(times, drafts) - loopMsWith(times, 0) > bounds.allowedMs) continue;
      this.#loopsUntilTry = TRY_LOOPS;
      this.#triesAwaited = 0;
      return { offer, drafts, waitMs: 0 };
    }
    return null;
  }
}
