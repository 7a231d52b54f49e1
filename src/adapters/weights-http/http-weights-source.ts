/**
 * The coordinator as a source of weights: signed manifests, digests and ranges of files, over a few pinned connections that are kept open.
 * A range that is cut goes on where it was, over as many requests as it takes; what does not come after `FRUITLESS_TRIES_MAX` of them in
 * a row is given up, and whoever asked decides what then.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { describeFault, FallowError } from "../../domain/fault.ts";
import type { Sha256Hex } from "../../domain/ids.ts";
import { DIGEST_BYTES, type FileRange } from "../../domain/weights.ts";
import type { LinkTarget } from "../../ports/link.ts";
import { SIGNED_MANIFEST_BYTES_MAX, type SourceOptions, type WeightsSource } from "../../ports/weights-source.ts";
import { WEIGHTS_PATH } from "../../wire/agent-link.ts";
import { PinnedAgent } from "./pinned-agent.ts";
import { requestWeights } from "./range-request.ts";

/** Requests in a row that brought nothing; with the waits between them about half a minute of no coordinator. */
const FRUITLESS_TRIES_MAX = 6;
const RETRY_BASE_MS = 250;
/** Of what a busy coordinator asks for: a place is free as soon as another request ends, and the waits double anyway. */
const TOLD_MS_MAX = 1_000;

interface Wanted {
  readonly path: string;
  /** Null: all there is, at most `bytesMax`. */
  readonly range: FileRange | null;
}

export class HttpWeightsSource implements WeightsSource {
  readonly #target: LinkTarget;
  readonly #agent: PinnedAgent;

  constructor(options: { target: LinkTarget }) {
    this.#target = options.target;
    this.#agent = new PinnedAgent(options.target);
  }

  manifest(weightsSha256: Sha256Hex, options: SourceOptions): Promise<Uint8Array> {
    const path = `${WEIGHTS_PATH}${weightsSha256}/manifest`;
    return this.#whole({ path, bytesMax: SIGNED_MANIFEST_BYTES_MAX }, options);
  }

  async digests(weightsSha256: Sha256Hex, chunkCount: number, options: SourceOptions): Promise<Uint8Array> {
    const bytesMax = chunkCount * DIGEST_BYTES;
    const digests = await this.#whole({ path: `${WEIGHTS_PATH}${weightsSha256}/digests`, bytesMax }, options);
    if (digests.length === bytesMax) return digests;
    throw this.#unreachable(`sends ${digests.length} bytes of digests, not ${bytesMax}`, {});
  }

  async *read(weightsSha256: Sha256Hex, range: FileRange, options: SourceOptions): AsyncIterable<Uint8Array> {
    const path = `${WEIGHTS_PATH}${weightsSha256}/files/${range.file}`;
    let offset = range.offset;
    const end = range.offset + range.bytes;
    for (let fruitless = 0; offset < end; ) {
      const before = offset;
      const wanted: Wanted = { path, range: { file: range.file, offset, bytes: end - offset } };
      try {
        for await (const bytes of this.#body(wanted, options)) {
          const fitting = bytes.subarray(0, end - offset);
          offset += fitting.length;
          yield fitting;
          if (offset === end) return;
        }
        fruitless = offset > before ? 0 : fruitless + 1;
      } catch (thrown) {
        options.signal.throwIfAborted();
        fruitless = offset > before ? 0 : fruitless + 1;
        if (isFinal(thrown)) throw thrown;
        if (fruitless >= FRUITLESS_TRIES_MAX) {
          throw this.#unreachable(`does not give ${path}: ${describeFault(thrown)}`, {}, thrown);
        }
        await this.#pause(thrown, fruitless, options.signal);
        continue;
      }
      if (fruitless >= FRUITLESS_TRIES_MAX) throw this.#unreachable(`answers ${path} with nothing`, {});
    }
  }

  /** Ends all connections. May be called twice. */
  close(): void {
    this.#agent.destroy();
  }

  async #whole({ path, bytesMax }: { path: string; bytesMax: number }, options: SourceOptions): Promise<Uint8Array> {
    for (let tries = 1; ; tries++) {
      try {
        const parts: Uint8Array[] = [];
        let length = 0;
        for await (const bytes of this.#body({ path, range: null }, options)) {
          length += bytes.length;
          if (length > bytesMax) throw this.#unreachable(`sends more than ${bytesMax} bytes of ${path}`, { bytesMax });
          parts.push(bytes);
        }
        return Buffer.concat(parts);
      } catch (thrown) {
        options.signal.throwIfAborted();
        if (isFinal(thrown) || tries >= FRUITLESS_TRIES_MAX) throw thrown;
        await this.#pause(thrown, tries, options.signal);
      }
    }
  }

  /** One request's bytes. Rejects when it is refused or cut. */
  async *#body({ path, range }: Wanted, { bearer, signal }: SourceOptions): AsyncIterable<Uint8Array> {
    signal.throwIfAborted();
    const span = range === null ? null : { first: range.offset, last: range.offset + range.bytes - 1 };
    const answer = await requestWeights({
      target: this.#target,
      agent: this.#agent,
      path,
      bearer,
      range: span,
      signal,
    });
    if (answer.kind === "busy") {
      throw this.#unreachable("is too busy for weights", { retryAfterMs: answer.retryAfterMs });
    }
    if (answer.kind === "refused") {
      throw this.#unreachable(`refuses ${path} (HTTP ${answer.status})`, { status: answer.status });
    }
    for await (const bytes of answer.body) if (bytes instanceof Uint8Array) yield bytes;
  }

  async #pause(thrown: unknown, tries: number, signal: AbortSignal): Promise<void> {
    const told = thrown instanceof FallowError ? thrown.data["retryAfterMs"] : null;
    const ownMs = RETRY_BASE_MS * 2 ** tries * Math.random();
    const toldMs = typeof told === "number" ? Math.min(told, TOLD_MS_MAX) : 0;
    await sleep(Math.max(toldMs, ownMs), undefined, { signal });
  }

  #unreachable(what: string, data: Readonly<Record<string, unknown>>, cause?: unknown): FallowError {
    const { url } = this.#target;
    return new FallowError("weights-unreachable", `${url} ${what}`, { data: { url, ...data }, cause });
  }
}

/** Trying again would end the same way: the coordinator said no, sends too much, or is the wrong one. */
function isFinal(thrown: unknown): boolean {
  if (!(thrown instanceof FallowError)) return false;
  if (thrown.code === "weights-unreachable") return "status" in thrown.data || "bytesMax" in thrown.data;
  return thrown.code !== "link-unreachable";
}
