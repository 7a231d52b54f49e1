/**
 * A planned move takes the keys and values of live sequences along: the new stage asks the one that leaves, while that one goes on working. What it
 * computes meanwhile is sent again by the stage before, from its log. What does not come whole, or in time, is computed again.
 */

import type { SequenceId } from "../../domain/chain.ts";
import { describeFault, FallowError } from "../../domain/fault.ts";
import { toHex } from "../../domain/hex.ts";
import { sha256Hex } from "../../domain/ids.ts";
import { type Refusal, refuse } from "../../domain/refusal.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { Log } from "../../ports/log.ts";
import type { PeerFetchAnswer, PeerLink } from "../../ports/peer-link.ts";
import type { StageEngine, StageState } from "../../ports/stage-engine.ts";
import {
  decodePrepared,
  decodeStateList,
  encodePrepared,
  encodeStateList,
  encodeStateRequest,
  type HeldSequence,
  PREPARED_BYTES,
  STATE_LIST_BYTES,
  type StageStateRequest,
} from "../../wire/stage-state-request.ts";

/**
 * Of one sequence; beyond it the positions are computed again. The size is the other node's word: it lies in this process, on the way to the engine's
 * and there at the same time, and what goes between processes has to stay below 4 GiB.
 */
export const STATE_BYTES_MAX = 1024 ** 3;
/** A state that was prepared; a slow line takes its time. */
const PREPARED_MS = 60_000;
/** Held for others at once: a state may be large. */
const PREPARED_MAX = 4;
/** All sequences together. */
export const TAKE_OVER_MS = 30_000;
const BYTES_PER_SECOND_MIN = 16 * 1024;

interface StateDeskPorts {
  readonly clock: Clock;
  engine(): StageEngine | null;
  /** What is surely the sequences' own. */
  holdings(): readonly HeldSequence[];
}

/** The side that leaves. */
export class StateDesk {
  readonly #ports: StateDeskPorts;
  readonly #prepared = new Map<string, { readonly state: StageState; readonly timer: Timer }>();

  constructor(ports: StateDeskPorts) {
    this.#ports = ports;
  }

  async answer(request: StageStateRequest, isAdmitted: boolean): Promise<PeerFetchAnswer> {
    if (!isAdmitted) return refuse("insufficient-scope", "only who takes this stage's place may fetch what it holds");
    const engine = this.#ports.engine();
    if (engine === null) return refuse("no-capacity", "this stage has no engine at the moment");
    switch (request.kind) {
      case "list":
        return answerOf(encodeStateList(this.#ports.holdings()));
      case "prepare":
        return answerOf(encodePrepared(await this.#prepare(engine, request.sequence)));
      case "state": {
        const prepared = this.#prepared.get(request.sha256);
        if (prepared === undefined) return notHere(request.sequence);
        return answerOf(prepared.state.data);
      }
    }
  }

  stop(): void {
    for (const digest of [...this.#prepared.keys()]) this.#forget(digest);
  }

  async #prepare(engine: StageEngine, sequence: SequenceId) {
    const held = this.#ports.holdings().find((one) => one.sequence === sequence)?.held ?? 0;
    const state = held === 0 ? null : await engine.exportState(sequence, held);
    if (state === null) return null;
    const [oldest] = this.#prepared.keys();
    if (this.#prepared.size >= PREPARED_MAX && oldest !== undefined) this.#forget(oldest);
    this.#forget(state.sha256);
    const timer = this.#ports.clock.setTimer(PREPARED_MS, () => this.#forget(state.sha256));
    this.#prepared.set(state.sha256, { state, timer });
    return { positions: state.positions, bytes: state.data.length, sha256: state.sha256 };
  }

  #forget(digest: string): void {
    this.#prepared.get(digest)?.timer.cancel();
    this.#prepared.delete(digest);
  }
}

/** The side that comes. Never rejects; resolves with what it took. */
export async function takeOver(
  link: PeerLink,
  place: { readonly chainId: string; readonly first: number },
  ports: { readonly engine: StageEngine; readonly crypto: Crypto; readonly log: Log; readonly signal: AbortSignal },
): Promise<readonly HeldSequence[]> {
  const { engine, crypto, log, signal } = ports;
  const taken: HeldSequence[] = [];
  try {
    const list = decodeStateList(await fetched(link, { ...place, kind: "list" }, STATE_LIST_BYTES, signal));
    if (list === null) throw new FallowError("peer-breach", "the list of sequences is none");
    for (const { sequence } of list) {
      const asked = { ...place, kind: "prepare", sequence } as const;
      const prepared = decodePrepared(await fetched(link, asked, PREPARED_BYTES, signal));
      if (prepared === null || prepared.bytes > STATE_BYTES_MAX) continue;
      const { positions, bytes, sha256 } = prepared;
      const data = await fetched(link, { ...place, kind: "state", sequence, sha256 }, bytes, signal);
      const digest = sha256Hex(toHex(crypto.sha256(data)));
      if (digest !== sha256) throw new FallowError("peer-breach", `a state of digest ${digest} instead of ${sha256}`);
      if (await engine.importState({ sequence, positions, data, sha256 })) taken.push({ sequence, held: positions });
    }
  } catch (fault) {
    // The stage before this one has what is missing.
    log.warn({ ...place, taken: taken.length, cause: describeFault(fault) }, "keys and values were not all taken over");
  }
  return taken;
}

async function fetched(
  link: PeerLink,
  request: StageStateRequest,
  totalBytes: number,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const whole = new Uint8Array(totalBytes);
  let at = 0;
  const options = { signal, totalBytes, bytesPerSecondMin: BYTES_PER_SECOND_MIN };
  for await (const part of link.fetch(encodeStateRequest(request), options)) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function answerOf(bytes: Uint8Array): PeerFetchAnswer {
  return {
    ok: true,
    totalBytes: bytes.length,
    read: (offset, length) => Promise.resolve(bytes.subarray(offset, offset + length)),
    close: () => undefined,
  };
}

function notHere(sequence: SequenceId): { readonly ok: false; readonly reason: Refusal } {
  return refuse("not-found", `nothing of ${sequence} is prepared here`);
}
