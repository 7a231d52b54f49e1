/**
 * Gives other nodes chunks that are here: of models that a grant named to them, so many at once, no faster than the owner lets it, and
 * none while he uses the machine. A chunk whose file turns out damaged is forgotten, not sent.
 */
import { FallowError } from "../../../domain/fault.ts";
import { type Refusal, refuse } from "../../../domain/refusal.ts";
import { chunkPlace } from "../../../domain/weights.ts";
import type { PeerFetchAnswer } from "../../../ports/peer-link.ts";
import { type ChunkPart, decodeChunkRequest } from "../../../wire/chunk-request.ts";
import type { GrantDesk } from "./grant-desk.ts";
import type { OpenModel, OpenModels } from "./open-models.ts";
import type { Throttle } from "./throttle.ts";

/** Each holds a part of a chunk while it is sent; together they fill any home line many times over. */
export const UPLOADS_MAX = 32;
/** Of these, to one node: one for each of a link's bulk connections. */
export const UPLOADS_PER_PEER_MAX = 16;
/** Places are free again within a second on most lines. */
const BUSY_RETRY_MS = 250;
const PAUSED_RETRY_MS = 5_000;

export interface UploadPorts {
  readonly models: OpenModels;
  readonly grants: GrantDesk;
  readonly throttle: Throttle;
  /** Uploads began or ended, or a damaged chunk was forgotten. */
  onChange(weightsSha256: string): void;
}

export class UploadDesk {
  readonly #ports: UploadPorts;
  /** Answers that may still be read, also again after a cut. */
  readonly #open = new Set<AbortController>();
  /** Those that take a place: key of the peer of each. */
  readonly #running = new Map<AbortController, string>();
  #isPaused = false;
  #sentBytes = 0;

  constructor(ports: UploadPorts) {
    this.#ports = ports;
  }

  get running(): number {
    return this.#running.size;
  }

  /** How many it would take at once now. */
  get runningMax(): number {
    return this.#isPaused || this.#ports.throttle.isShut ? 0 : UPLOADS_MAX;
  }

  get sentBytes(): number {
    return this.#sentBytes;
  }

  /** Cuts what runs: whoever reads it goes on at another holder, or here later. */
  pause(isPaused: boolean): void {
    this.#isPaused = isPaused;
    if (isPaused) for (const upload of [...this.#open]) upload.abort();
  }

  async answer(request: Uint8Array, peerKeyHex: string): Promise<PeerFetchAnswer> {
    const asked = decodeChunkRequest(request);
    if (asked === null) return refuse("invalid-request", `${request.length} bytes are no request for a chunk`);
    const { weightsSha256, chunk } = asked;
    if (!this.#ports.grants.mayRead(peerKeyHex, weightsSha256)) {
      return refuse("insufficient-scope", `no grant to read ${weightsSha256} here is in force`);
    }
    const model = this.#ports.models.get(weightsSha256);
    if (model === null || chunk >= model.chunkCount || !model.stored.have.has(chunk)) {
      return refuse("not-found", `chunk ${chunk} of ${weightsSha256} is not here`);
    }
    const { bytes } = chunkPlace(model.content.manifest, chunk);
    const part = asked.part ?? { offset: 0, length: bytes };
    if (part.offset + part.length > bytes) {
      const what = `${part.length} bytes from ${part.offset} are beyond chunk ${chunk}, which has ${bytes}`;
      return refuse("invalid-request", what);
    }
    return this.#busy(peerKeyHex) ?? this.#serve(model, { chunk, ...part }, peerKeyHex);
  }

  #busy(peerKeyHex: string): { readonly ok: false; readonly reason: Refusal } | null {
    if (this.runningMax === 0) {
      return refuse("no-capacity", "the owner lets nothing be sent now", { retryAfterMs: PAUSED_RETRY_MS });
    }
    let ofPeer = 0;
    for (const key of this.#running.values()) if (key === peerKeyHex) ofPeer++;
    if (this.#running.size < UPLOADS_MAX && ofPeer < UPLOADS_PER_PEER_MAX) return null;
    return refuse("no-capacity", `${this.#running.size} chunks are being sent`, { retryAfterMs: BUSY_RETRY_MS });
  }

  #serve(
    { weightsSha256, stored }: OpenModel,
    { chunk, offset: from, length: totalBytes }: ChunkPart & { readonly chunk: number },
    peerKeyHex: string,
  ): PeerFetchAnswer {
    const upload = new AbortController();
    const { throttle, onChange } = this.#ports;
    this.#open.add(upload);
    this.#running.set(upload, peerKeyHex);
    onChange(weightsSha256);
    return {
      ok: true,
      totalBytes,
      read: async (offset, length) => {
        if (upload.signal.aborted) throw new FallowError("peer-paused", "the owner lets nothing be sent now");
        await throttle.take(length, upload.signal);
        const part = await stored.read(chunk, from + offset, length).catch((thrown: unknown) => {
          onChange(weightsSha256);
          throw thrown;
        });
        this.#sentBytes += part.length;
        // The link keeps the answer for a while, to read it again after a cut; its place is free.
        if (offset + length >= totalBytes) this.#end(upload, weightsSha256);
        return part;
      },
      close: () => {
        upload.abort();
        this.#open.delete(upload);
        this.#end(upload, weightsSha256);
      },
    };
  }

  #end(upload: AbortController, weightsSha256: string): void {
    if (this.#running.delete(upload)) this.#ports.onChange(weightsSha256);
  }
}
