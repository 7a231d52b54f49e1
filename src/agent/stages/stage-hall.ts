/**
 * Where a node's stages meet other nodes: credentials of chains, frames by their channel, requests for keys and values. One for all stages of a node.
 * A hello of an epoch that its stage does not know yet waits here: the coordinator tells all stages, but not at the same moment.
 */
import { type Refusal, refuse } from "../../domain/refusal.ts";
import type { Log } from "../../ports/log.ts";
import type { PeerFetchAnswer, PeerLink } from "../../ports/peer-link.ts";
import { decodeStageFrame } from "../../wire/stage-frame-codec.ts";
import { STAGE_FRAME_HEAD_BYTES, type StageFrame } from "../../wire/stage-frames.ts";
import { decodeStateRequest } from "../../wire/stage-state-request.ts";
import type { ChainStage } from "./chain-stage.ts";

const CREDENTIAL = /^chain:([0-9a-f]{32}):([0-9]{1,10})$/;
/** How long what was admitted may fetch; each credential begins it anew. */
const RIGHTS_MS = 10 * 60_000;
/** The stage that is asked for may hear of the chain a moment later. */
const RETRY_MS = 50;
const EARLY_MAX = 64;
const CHANNEL_AT = 4;

export interface ChainServer {
  /** Null: not a credential of a chain. */
  admit(
    credential: string,
    peerKeyHex: string,
  ): { readonly ok: true; readonly expiresAtMs: number } | { readonly ok: false; readonly reason: Refusal } | null;
  /** Null: not a request of a chain. */
  onFetch(request: Uint8Array, peerKeyHex: string): Promise<PeerFetchAnswer> | null;
  onMessage(message: Uint8Array, link: PeerLink): void;
  /** Its link must stay. */
  needs(peerKeyHex: string): boolean;
}

export class StageHall implements ChainServer {
  readonly #ports: { readonly log: Log; wallMs(): number };
  readonly #stages = new Set<ChainStage>();
  readonly #byChannel = new Map<number, ChainStage>();
  /** The one that came first comes first. */
  readonly #early = new Map<string, { readonly frame: StageFrame; readonly link: PeerLink }>();

  constructor(ports: { readonly log: Log; wallMs(): number }) {
    this.#ports = ports;
  }

  /** Its chain, or its place in it, is another one; also for one that is new here. */
  changed(stage: ChainStage): void {
    this.#forget(stage);
    this.#stages.add(stage);
    for (const channel of stage.channels) this.#byChannel.set(channel, stage);
    for (const [name, { frame, link }] of [...this.#early]) {
      if (!stage.channels.includes(frame.channel) || frame.chainEpoch > stage.chainEpoch) continue;
      this.#early.delete(name);
      if (frame.chainEpoch === stage.chainEpoch) stage.onFrame(frame, link);
    }
  }

  remove(stage: ChainStage): void {
    this.#forget(stage);
    this.#stages.delete(stage);
  }

  needs(peerKeyHex: string): boolean {
    return [...this.#stages].some((stage) => stage.admits(peerKeyHex));
  }

  admit(credential: string, peerKeyHex: string): ReturnType<ChainServer["admit"]> {
    const [, chainId] = CREDENTIAL.exec(credential) ?? [];
    if (chainId === undefined) return null;
    const known = [...this.#stages].filter(({ set }) => set?.chainId === chainId);
    if (known.some((stage) => stage.admits(peerKeyHex))) {
      return { ok: true, expiresAtMs: this.#ports.wallMs() + RIGHTS_MS };
    }
    const message =
      known.length === 0
        ? `no stage of chain ${chainId} is here`
        : `this node's key is in no chain ${chainId} that is known here`;
    return refuse("insufficient-scope", message, { retryAfterMs: RETRY_MS });
  }

  onFetch(request: Uint8Array, peerKeyHex: string): Promise<PeerFetchAnswer> | null {
    const asked = decodeStateRequest(request);
    if (asked === null) return null;
    for (const stage of this.#stages) {
      if (stage.set?.chainId === asked.chainId && stage.firstLayer === asked.first)
        return stage.answer(asked, peerKeyHex);
    }
    return Promise.resolve(
      refuse("not-found", `no stage of chain ${asked.chainId} from layer ${asked.first} on is here`),
    );
  }

  onMessage(message: Uint8Array, link: PeerLink): void {
    const decoded = decodeStageFrame(message);
    if (decoded.ok) {
      this.#onFrame(decoded.frame, link);
      return;
    }
    const { code, message: what } = decoded;
    const said = channelOf(message);
    // What is too short to say its channel counts against whatever this link carries.
    for (const [channel, stage] of this.#byChannel) {
      if (said === null || channel === said) stage.onBroken({ channel, code, message: what }, link);
    }
  }

  #onFrame(frame: StageFrame, link: PeerLink): void {
    const stage = this.#byChannel.get(frame.channel);
    if (stage !== undefined && frame.chainEpoch <= stage.chainEpoch) {
      stage.onFrame(frame, link);
      return;
    }
    if (frame.type !== "hello") return; // of a chain that this node left, or a pulse of one that it does not know
    const name = `${frame.channel} ${link.peerKeyHex}`;
    this.#early.delete(name);
    this.#early.set(name, { frame, link });
    if (this.#early.size > EARLY_MAX) this.#early.delete(this.#oldestOfMost());
  }

  /** Of the peer with the most hellos here: one that sends them for chains that are not cannot push out another's. */
  #oldestOfMost(): string {
    const byPeer = Map.groupBy(this.#early, ([, { link }]) => link.peerKeyHex);
    let most: readonly (readonly [string, unknown])[] = [];
    for (const hellos of byPeer.values()) if (hellos.length > most.length) most = hellos;
    return most[0]?.[0] ?? "";
  }

  #forget(stage: ChainStage): void {
    for (const [channel, owner] of [...this.#byChannel]) if (owner === stage) this.#byChannel.delete(channel);
  }
}

function channelOf(message: Uint8Array): number | null {
  if (message.length < STAGE_FRAME_HEAD_BYTES) return null;
  return new DataView(message.buffer, message.byteOffset, message.length).getUint32(CHANNEL_AT, true);
}
