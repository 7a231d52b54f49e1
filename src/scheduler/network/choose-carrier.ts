/**
 * Which carrier takes the small messages of a pair, and which its bulk, from what was measured of each; and what to measure next. The two
 * are chosen apart: messages want the shortest round trip, bulk the most bytes.
 *
 * | the carrier in use      | another carrier                                   | decision                               |
 * | ----------------------- | ------------------------------------------------- | -------------------------------------- |
 * | none                    | some reachable                                     | the best of them                        |
 * | none                    | none reachable                                     | none; the shell dials as `measure` says  |
 * | not reachable           | some reachable                                     | the best of them, at once                |
 * | reachable               | better by the margin, and the choice is `HOLD_MS` old | the better                            |
 * | reachable               | better by less, or the choice is younger           | stays: two that are alike do not flap    |
 * | relay                   | direct reachable, at most `RELAY_RETURN` times worse | direct, at once: the relay is everybody's |
 * | direct                  | the relay, more than `RELAY_FORFEIT` times better    | the relay, when the choice is `HOLD_MS` old |
 *
 * Bulk that was never measured on a carrier is guessed: over TCP from round trip and loss (Mathis and others, "The macroscopic behavior of
 * the TCP congestion avoidance algorithm", 1997) times the connections that a link may open; over UDP, which paces by rate and bears
 * loss, a constant, and no more than TCP brings where nothing holds TCP down. A guess is never better than a measurement of the same
 * carrier: it only says what to try.
 *
 * On a far or lossy way bulk uses several carriers at once: all direct ones that bring, or promise, at least `JOIN_SHARE` of what the best one does.
 */
import { CARRIER_KINDS, type CarrierKind, type LinkQuality } from "../../domain/peer.ts";

export type TrafficKind = "message" | "bulk";

export interface CarrierState {
  readonly kind: CarrierKind;
  /** `untried`: nobody dialled yet; `failed`: the last dial or connection failed. */
  readonly reach: "untried" | "up" | "failed";
  /** Of dials in a row; 0 when it is up. */
  readonly failures: number;
  /** When it came to be in this state. */
  readonly sinceMs: number;
  /** Null until measured. */
  readonly quality: LinkQuality | null;
  /** False where the pair cannot have it: no address, no UDP at one end. */
  readonly isPossible: boolean;
}

export interface CarrierChoice {
  readonly carrier: CarrierKind;
  readonly sinceMs: number;
}

export interface CarrierAnswer {
  /** Null: nothing is up. The same object as before when it stays. */
  readonly choice: CarrierChoice | null;
  /** In the order in which to do it; `atMs` is now or later. */
  readonly measure: readonly CarrierMeasure[];
}

export interface CarrierMeasure {
  readonly carrier: CarrierKind;
  /** `dial`: try to connect; `probe`: measure again on what is up. */
  readonly what: "dial" | "probe";
  readonly atMs: number;
}

/** A choice is kept this long unless its carrier fails: longer than a queue that fills and empties. */
export const HOLD_MS = 10_000;
/** How much better another must be: twice the noise of a short measurement. */
const MESSAGE_GAIN = 0.75;
const MESSAGE_GAIN_MS = 3;
const BULK_GAIN = 1.3;
/** A direct carrier is kept unless the relay is this many times better, and taken back from this on: apart, so that it does not flap. */
const RELAY_FORFEIT = 2;
const RELAY_RETURN = 1.4;
/** A measurement is repeated after this; the carriers in use measure themselves as they work. */
export const REMEASURE_MS = 5 * 60_000;
const REDIAL_FIRST_MS = 5_000;
/** Punching through one kind of NAT is throttled to one try in 20 s (hyperdht). */
const REDIAL_FIRST_UDP_MS = 20_000;
/** The relay costs the coordinator; attempts cost little (what is hopeless is not punched again: adapters/peer-udp/dial-pauses.ts). */
const REDIAL_MOST_MS = 60_000;
/** A direct way shorter than this is never left for the relay, so the relay is not measured beside it. */
const RELAY_LOOK_MS = 100;

const SEGMENT_BYTES = 1_448;
const MATHIS = 1.22;
/** Loss that is not seen in a short measurement. */
const LOSS_LEAST = 1e-5;
/** `LinkOptions` opens up to so many connections for bulk. */
const TCP_CONNECTIONS_MAX = 16;
/** Below it TCP loses nothing to loss that matters. */
export const FAR_RTT_MS = 10;
/** Of packets: from here on a way is lossy. */
export const LOSSY_SHARE = 0.002;
/** A carrier that brings less beside another costs more than it is worth. */
const JOIN_SHARE = 0.08;
const GUESS_MOST_BYTES_PER_SECOND = 100_000_000;
/** What one core carries by encrypted UDP here (shared/reference/transport-and-store.md: 21 MB/s). */
const UDP_BYTES_PER_SECOND = 12_000_000;
const RELAY_BYTES_PER_SECOND = 1_000_000;
const UNKNOWN_RTT_MS: Readonly<Record<CarrierKind, number>> = { tcp: 60, udp: 70, relay: 150 };

export function chooseCarrier(
  traffic: TrafficKind,
  carriers: readonly CarrierState[],
  now: { readonly nowMs: number; readonly choice: CarrierChoice | null },
): CarrierAnswer {
  const { nowMs, choice } = now;
  const measure = measurements(carriers, nowMs);
  const up = CARRIER_KINDS.flatMap((kind) => carriers.filter((one) => one.kind === kind && one.reach === "up"));
  const costOf = (state: CarrierState): number =>
    traffic === "message" ? roundTripOf(state) : 1 / bulkRateOf(state, carriers);
  let best: CarrierState | null = null;
  const forfeit = choice?.carrier === "relay" ? RELAY_RETURN : RELAY_FORFEIT;
  const weighed = (state: CarrierState): number => costOf(state) * (state.kind === "relay" ? forfeit : 1);
  for (const state of up) if (best === null || weighed(state) < weighed(best)) best = state;
  if (best === null) return { choice: null, measure };
  const current = choice === null ? undefined : up.find((state) => state.kind === choice.carrier);
  const fresh: CarrierChoice = { carrier: best.kind, sinceMs: nowMs };
  if (choice === null || current === undefined) return { choice: fresh, measure };
  if (best.kind === current.kind) return { choice, measure };
  if (current.kind === "relay") return { choice: fresh, measure };
  if (nowMs - choice.sinceMs < HOLD_MS) return { choice, measure };
  const isWorthIt =
    traffic === "message"
      ? costOf(best) <= Math.min(costOf(current) * MESSAGE_GAIN, costOf(current) - MESSAGE_GAIN_MS)
      : costOf(current) >= costOf(best) * BULK_GAIN;
  return { choice: isWorthIt ? fresh : choice, measure };
}

/** What bulk uses when `main` was chosen for it: that one, and on a far or lossy way what is worth having beside it. */
export function bulkCarriers(carriers: readonly CarrierState[], main: CarrierKind): readonly CarrierKind[] {
  const up = carriers.filter(({ kind, reach }) => reach === "up" && kind !== "relay");
  if (main === "relay" || !up.some(isHeldDown)) return [main];
  const best = Math.max(...up.map((state) => bulkRateOf(state, carriers)));
  return up
    .filter((state) => state.kind === main || bulkRateOf(state, carriers) >= best * JOIN_SHARE)
    .map(({ kind }) => kind);
}

/** The way is far or lossy, so that one carrier may be held down by what does not hold another. */
function isHeldDown({ quality }: CarrierState): boolean {
  return (quality?.rttMs ?? 0) > FAR_RTT_MS || (quality?.lossShare ?? 0) >= LOSSY_SHARE;
}

/** Bytes a second that bulk is expected to reach: as measured, or guessed. */
export function bulkRateOf(
  { kind, quality }: Pick<CarrierState, "kind" | "quality">,
  beside: readonly CarrierState[] = [],
): number {
  const measured = quality?.bytesPerSecond ?? null;
  if (measured !== null && measured > 0) return measured;
  const rttMs = Math.max(0.1, quality?.rttMs ?? UNKNOWN_RTT_MS[kind]);
  switch (kind) {
    case "tcp": {
      const loss = Math.max(LOSS_LEAST, quality?.lossShare ?? 0);
      const one = (SEGMENT_BYTES * MATHIS) / ((rttMs / 1_000) * Math.sqrt(loss));
      return Math.min(GUESS_MOST_BYTES_PER_SECOND, one * TCP_CONNECTIONS_MAX);
    }
    case "udp": {
      const tcp = beside.find((state) => state.kind === "tcp" && state.reach === "up" && !isHeldDown(state));
      return Math.min(UDP_BYTES_PER_SECOND, tcp?.quality?.bytesPerSecond ?? UDP_BYTES_PER_SECOND);
    }
    case "relay":
      return RELAY_BYTES_PER_SECOND;
  }
}

function roundTripOf({ kind, quality }: CarrierState): number {
  const rttMs = quality?.rttMs ?? UNKNOWN_RTT_MS[kind];
  // A lost packet costs a message about one round trip more, over any ordered carrier.
  return rttMs * (1 + 2 * (quality?.lossShare ?? 0));
}

function measurements(carriers: readonly CarrierState[], nowMs: number): readonly CarrierMeasure[] {
  const rank = (kind: CarrierKind): number => CARRIER_KINDS.indexOf(kind);
  const isDirectGood = carriers.some(
    (state) => state.kind !== "relay" && state.reach === "up" && roundTripOf(state) < RELAY_LOOK_MS,
  );
  return carriers
    .filter(({ kind, isPossible }) => isPossible && !(kind === "relay" && isDirectGood))
    .map((state) => measurementOf(state, nowMs))
    .sort((a, b) => a.atMs - b.atMs || rank(a.carrier) - rank(b.carrier));
}

function measurementOf(state: CarrierState, nowMs: number): CarrierMeasure {
  const { kind: carrier, quality } = state;
  switch (state.reach) {
    case "untried":
      return { carrier, what: "dial", atMs: nowMs };
    case "failed":
      return { carrier, what: "dial", atMs: Math.max(nowMs, state.sinceMs + redialMs(state)) };
    case "up": {
      const dueMs = quality === null ? nowMs : quality.measuredAtMs + REMEASURE_MS;
      return { carrier, what: "probe", atMs: Math.max(nowMs, dueMs) };
    }
  }
}

function redialMs({ kind, failures }: CarrierState): number {
  const firstMs = kind === "udp" ? REDIAL_FIRST_UDP_MS : REDIAL_FIRST_MS;
  return Math.min(REDIAL_MOST_MS, firstMs * 2 ** Math.min(Math.max(0, failures - 1), 20));
}
