/**
 * The way from a stage to the next: outputs of one report of the engine in as few frames as they need, as many on their way as the next stage has not
 * taken; all that was put out is kept in the log, and what the next stage lacks is sent again from there. What it surely holds is not sent:
 * a first stage that was replaced computes its own layers again, and nobody behind it.
 *
 * | next stage says | the log has it all from there | the log lacks some          |
 * | --------------- | ----------------------------- | --------------------------- |
 * | gap             | sent again, as decoded        | passed on: computed again   |
 */
import type { SequenceId } from "../../domain/chain.ts";
import { PEER_MESSAGE_BYTES_MAX } from "../../ports/peer-link.ts";
import type { StageEvent, StagePass } from "../../ports/stage-engine.ts";
import { ACTIVATIONS_HEAD_BYTES, activationEntryBytes, ELEMENT_BYTES } from "../../wire/stage-frame-codec.ts";
import { type ActivationEntry, ENTRIES_MAX } from "../../wire/stage-frames.ts";
import type { ActivationLog, LoggedPiece } from "./activation-log.ts";
import type { SequenceState, SequenceTable } from "./sequence-table.ts";
import { REPLAY_POSITIONS_MAX, WAITING_BYTES_MAX, WINDOW_BYTES, WINDOW_FRAMES } from "./stage-bounds.ts";
import type { StageWire, WireProblem } from "./stage-wire.ts";

export type StageOutput = Extract<StageEvent, { kind: "output" }>;

interface Waiting {
  readonly entry: ActivationEntry;
  readonly format: StageOutput["format"];
  readonly data: Uint8Array;
}

/** An entry of an activations frame, all its parts told, takes no more. */
const FRAME_DATA_BYTES_MAX = PEER_MESSAGE_BYTES_MAX - 4_096;

interface OutboxPorts {
  readonly log: ActivationLog;
  readonly sequences: SequenceTable;
  /** There is room where there was none. */
  onRoom(): void;
}

export class StageOutbox {
  readonly #ports: OutboxPorts;
  #wire: StageWire | null = null;
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  /** Sent and not taken, in bytes of each frame. */
  #untaken: number[] = [];
  #untakenBytes = 0;
  #taken = 0;
  /** Sequences that are sent again, and how far that went. */
  readonly #replays = new Map<SequenceId, { sentTo: number }>();
  #isReplaying = false;
  #bytesSent = 0;
  #positionsSent = 0;

  constructor(ports: OutboxPorts) {
    this.#ports = ports;
  }

  get sent(): { readonly bytes: number; readonly positions: number } {
    return { bytes: this.#bytesSent, positions: this.#positionsSent };
  }

  /** Frames that may still go out before the next stage takes some; 0 when something waits already. */
  get room(): number {
    if (this.#wire === null || this.#waiting.length > 0 || this.#untakenBytes >= WINDOW_BYTES) return 0;
    return Math.max(0, WINDOW_FRAMES - this.#untaken.length);
  }

  /** The stage before this one should wait. */
  get isFull(): boolean {
    return this.#waitingBytes >= WINDOW_BYTES;
  }

  /** Something is to be sent, and waits until the next stage takes more. */
  get isWaiting(): boolean {
    return this.#waiting.length > 0 || this.#replays.size > 0;
  }

  /** Positions of the sequence that went to the next stage, or that it surely has. */
  passedOn(sequence: SequenceId): number {
    const held = this.#ports.sequences.get(sequence)?.nextHeld ?? 0;
    const waiting = this.#waiting.find(({ entry }) => entry.sequence === sequence)?.entry.start ?? held;
    return Math.min(held, waiting, this.#replays.get(sequence)?.sentTo ?? held);
  }

  /** The channel to the next stage in this epoch; null while there is none. Nothing that was to be sent in the last one is. */
  connect(wire: StageWire | null): void {
    this.#wire = wire;
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#untaken = [];
    this.#untakenBytes = 0;
    this.#taken = 0;
    this.#replays.clear();
  }

  /** Outputs go out with `flush`. */
  add(output: StageOutput, state: SequenceState | null, isCurrent: boolean): void {
    const { sequence, start, count, draw } = output;
    const { log } = this.#ports;
    const isRebuild = start < log.endOf(sequence) || (state !== null && start < state.nextHeld);
    log.keep(sequence, output);
    const replay = this.#replays.get(sequence);
    if (replay !== undefined) replay.sentTo = Math.min(replay.sentTo, start);
    else if (state !== null && isCurrent && this.#wire !== null) {
      const piece = stillNeeded(output, state.nextHeld);
      state.nextHeld = Math.max(draw === null ? state.nextHeld : 0, start + count - (draw?.draftIds.length ?? 0));
      if (piece !== null) this.#push(sequence, state, { ...piece, isRebuild });
    }
  }

  flush(): void {
    if (this.#wire === null) return;
    const hadRoom = this.room > 0;
    while (this.#waiting.length > 0 && this.#mayGo()) this.#sendFrame(this.#wire);
    if (this.#replays.size > 0 && !this.#isReplaying) void this.#replay();
    if (!hadRoom && this.room > 0) this.#ports.onRoom();
  }

  onCredit(taken: number): WireProblem | null {
    const more = taken - this.#taken;
    if (more < 0 || more > this.#untaken.length) {
      const message = `${taken} frames taken, and ${this.#taken + this.#untaken.length} were sent, ${this.#taken} taken before`;
      return { code: "credit-wrong", message };
    }
    const wasFull = this.room === 0;
    this.#taken = taken;
    for (const bytes of this.#untaken.splice(0, more)) this.#untakenBytes -= bytes;
    this.flush();
    if (wasFull && this.room > 0) this.#ports.onRoom();
    return null;
  }

  /** False: somebody before this stage has to send, or compute, the positions again. */
  onGap(sequence: SequenceId, held: number): boolean {
    const state = this.#ports.sequences.get(sequence);
    if (state === null) return true;
    state.nextHeld = held;
    this.#drop(sequence);
    this.#replays.delete(sequence);
    if (!this.#ports.log.covers(sequence, held)) return false;
    this.#replays.set(sequence, { sentTo: held });
    this.flush();
    return true;
  }

  /** It runs no more. */
  release(sequence: SequenceId): void {
    this.#drop(sequence);
    this.#replays.delete(sequence);
    this.#ports.log.rest(sequence);
  }

  /** Its answer is over: it is not sent again either. */
  over(sequence: SequenceId): void {
    this.release(sequence);
    this.#ports.log.drop(sequence);
  }

  // ---------------------------------------------------------------- within

  #mayGo(): boolean {
    return this.#untaken.length < WINDOW_FRAMES && this.#untakenBytes < WINDOW_BYTES;
  }

  #push(
    sequence: SequenceId,
    { leaseEpoch, promptLength }: SequenceState,
    piece: Omit<LoggedPiece, "data"> & { readonly data: Uint8Array; readonly isRebuild: boolean },
  ): void {
    const { format, data, ...place } = piece;
    for (const [part, bytes] of partsOf(place, data)) {
      const entry = { sequence, leaseEpoch, promptLength, ...part };
      this.#waiting.push({ entry, format, data: bytes });
      this.#waitingBytes += bytes.length;
    }
    if (this.#waitingBytes <= WAITING_BYTES_MAX) return;
    // They are in the log, and sent from there when there is room.
    const [first] = this.#waiting.filter(({ entry }) => entry.sequence === sequence);
    this.#drop(sequence);
    if (first !== undefined) this.#replays.set(sequence, { sentTo: first.entry.start });
  }

  #drop(sequence: SequenceId): void {
    this.#waiting = this.#waiting.filter(({ entry }) => entry.sequence !== sequence);
    this.#waitingBytes = this.#waiting.reduce((sum, { data }) => sum + data.length, 0);
  }

  #sendFrame(wire: StageWire): void {
    const [first] = this.#waiting;
    if (first === undefined) return;
    let bytes = ACTIVATIONS_HEAD_BYTES;
    let taken = 0;
    for (const { entry, format, data } of this.#waiting) {
      const more = activationEntryBytes(entry) + data.length;
      const isOver = taken > 0 && bytes + more > PEER_MESSAGE_BYTES_MAX;
      if (format !== first.format || taken === ENTRIES_MAX || isOver) break;
      bytes += more;
      taken++;
    }
    const parts = this.#waiting.splice(0, taken);
    const data = joined(parts.map((part) => part.data));
    const entries = parts.map(({ entry }) => entry);
    this.#waitingBytes -= data.length;
    const sent = wire.send({ type: "activations", format: first.format, entries, data });
    this.#untaken.push(sent);
    this.#untakenBytes += sent;
    this.#bytesSent += sent;
    this.#positionsSent += entries.reduce((sum, { count }) => sum + count, 0);
  }

  /** One piece of each sequence at a time, while the window has room. Never rejects. */
  async #replay(): Promise<void> {
    this.#isReplaying = true;
    try {
      for (let isMoving = true; isMoving; ) {
        isMoving = false;
        for (const [sequence, replay] of [...this.#replays]) {
          if (this.#waiting.length > 0 || !this.#mayGo()) return;
          if (await this.#replayPiece(sequence, replay)) isMoving = true;
        }
      }
    } finally {
      this.#isReplaying = false;
    }
  }

  async #replayPiece(sequence: SequenceId, replay: { sentTo: number }): Promise<boolean> {
    const { log, sequences } = this.#ports;
    const state = sequences.get(sequence);
    const from = replay.sentTo;
    const isOver = state === null || from >= log.endOf(sequence);
    const sizes = { bytesMax: FRAME_DATA_BYTES_MAX, positionsMax: REPLAY_POSITIONS_MAX };
    const piece = isOver ? null : await log.read(sequence, from, sizes);
    if (this.#replays.get(sequence) !== replay) return true;
    // What was put out meanwhile begins before it.
    if (replay.sentTo !== from) return true;
    if (piece === null || state === null || this.#wire === null) {
      this.#replays.delete(sequence);
      return false;
    }
    const end = piece.start + piece.count;
    replay.sentTo = end;
    if (end >= log.endOf(sequence)) this.#replays.delete(sequence);
    state.nextHeld = end - (piece.draw?.draftIds.length ?? 0);
    this.#push(sequence, state, { ...piece, isRebuild: true });
    while (this.#waiting.length > 0 && this.#mayGo()) this.#sendFrame(this.#wire);
    return true;
  }
}

/** What of an output the next stage lacks, or draws after; null when it needs nothing of it. */
function stillNeeded(output: StageOutput, nextHeld: number): LoggedPiece | null {
  const { start, count, how, draw, format, data } = output;
  const end = start + count;
  // What is drawn after has to come, together with what is drawn after before it.
  const drawnFrom = draw === null ? end : end - draw.draftIds.length - 1;
  let from = Math.max(start, Math.min(nextHeld, drawnFrom));
  if (from >= end) return null;
  if (how === "together") from = Math.max(start, Math.min(from, end - 2));
  const stride = data.length / count;
  return { start: from, count: end - from, how, draw, format, data: data.subarray((from - start) * stride) };
}

type Place = Omit<ActivationEntry, "sequence" | "leaseEpoch" | "promptLength">;

/** In parts that fit a frame; a piece of a prompt leaves no single position. */
function* partsOf(place: Place, data: Uint8Array): Iterable<readonly [Place, Uint8Array]> {
  const stride = data.length / place.count;
  const most = Math.max(2, Math.floor(FRAME_DATA_BYTES_MAX / stride));
  for (let at = 0; at < place.count; ) {
    const left = place.count - at;
    let count = left <= most ? left : most;
    if (place.how === "together" && left - count === 1) count--;
    const isLast = at + count === place.count;
    const part = { ...place, start: place.start + at, count, draw: isLast ? place.draw : null };
    yield [part, data.subarray(at * stride, (at + count) * stride)];
    at += count;
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const [only] = parts;
  if (parts.length === 1 && only !== undefined) return only;
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Elements of a hidden state that a frame's data has for each position. */
export function widthOf({
  format,
  entries,
  data,
}: {
  readonly format: StageOutput["format"];
  readonly entries: readonly Pick<StagePass, "count">[];
  readonly data: Uint8Array;
}): number {
  return data.length / ELEMENT_BYTES[format] / entries.reduce((sum, { count }) => sum + count, 0);
}
