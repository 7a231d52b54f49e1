/**
 * A node that lies: its agent is the real one, and a forger sits between it and the wire. Each lie is one that the
 * coordinator can see through; a wrong token that fits the vocabulary is not (that takes an audit), so nobody tells it here.
 *
 * | lie                | what the forger does                                                             |
 * | ------------------ | -------------------------------------------------------------------------------- |
 * | foreign-lease      | sends a chunk for a lease that nobody granted, or one that another node told it  |
 * | dead-epoch         | sends a chunk of the right lease with an older epoch                             |
 * | duplicate-seq      | sends a chunk frame twice                                                        |
 * | skipped-seq        | leaves a chunk frame out                                                         |
 * | bad-token          | puts a token beyond the vocabulary into a chunk                                  |
 * | too-many-tokens    | sends more after the last token that was asked for                               |
 * | chunk-after-end    | goes on after the end                                                            |
 * | early-end          | claims the length was reached, or a stop token, and keeps the rest to itself     |
 * | inflated-statement | signs for ten times the tokens                                                   |
 * | replay             | sends a frame of some time ago once more, also of an earlier link                |
 * | reorder            | sends two frames in the wrong order                                              |
 * | garbage            | sends what is no message of the protocol                                         |
 */
import { leaseId } from "../../domain/ids.ts";
import { canonicalSignedJson } from "../../market/canonical-json.ts";
import { toHex } from "../../market/hex.ts";
import { statementBytes } from "../../market/receipt.ts";
import type { KeyPair } from "../../ports/crypto.ts";
import type { Link, LinkDialer } from "../../ports/link.ts";
import { type AgentMessage, type AttemptEnd, agentMessageSchema, type Chunk } from "../../wire/agent-link.ts";
import { parseNodeStatement } from "../../wire/receipt.ts";
import type { SeededRandom } from "../time/random.ts";

export const LIES = [
  "foreign-lease",
  "dead-epoch",
  "duplicate-seq",
  "skipped-seq",
  "bad-token",
  "too-many-tokens",
  "chunk-after-end",
  "early-end",
  "inflated-statement",
  "replay",
  "reorder",
  "garbage",
] as const;
export type Lie = (typeof LIES)[number];

export interface ForgerOptions {
  readonly keyPair: KeyPair;
  readonly random: SeededRandom;
  readonly lies: readonly Lie[];
  readonly vocabSize: number;
  /** False once the faults are over: then it passes everything on. */
  readonly isLying: () => boolean;
  readonly onLie: (lie: Lie) => void;
}

/** Share of the frames of work that are tampered with. */
const LIE_PROBABILITY = 0.06;
const FRAMES_KEPT_MAX = 200;
const GARBAGE = ['{"type":"nonsense"}', "not json", "[]", '{"type":"heartbeat","seq":-1}', "\u0000", "null"];

type WorkFrame = Extract<AgentMessage, { type: "attempt.chunks" | "attempt.end" }>;

/** One forger a node: what it remembers outlives its links. */
export class Forger {
  readonly #options: ForgerOptions;
  readonly #kept: string[] = [];
  #lastChunk: Chunk | null = null;
  #held: string | null = null;
  /** Leases whose early end was told: the rest stays with the forger. */
  readonly #cutShort = new Set<string>();

  constructor(options: ForgerOptions) {
    this.#options = options;
  }

  dialer(inner: LinkDialer): LinkDialer {
    return { dial: async (target, signal) => this.#wrap(await inner.dial(target, signal)) };
  }

  #wrap(inner: Link): Link {
    return {
      remote: inner.remote,
      channelBinding: inner.channelBinding,
      listen: (handlers) => inner.listen(handlers),
      send: (frame) => {
        for (const forged of this.#forge(frame)) inner.send(forged);
      },
      bufferedBytes: () => inner.bufferedBytes(),
      close: (code, reason) => inner.close(code, reason),
      destroy: () => inner.destroy(),
    };
  }

  /** What goes out instead of the frame. */
  #forge(frame: string): readonly string[] {
    const { random, lies, isLying, onLie } = this.#options;
    const message = workIn(frame);
    if (message === null) return [...this.#letGo(), frame];
    if (this.#isCutShort(message)) return [];
    this.#kept.push(frame);
    if (this.#kept.length > FRAMES_KEPT_MAX) this.#kept.shift();
    const before = this.#letGo();
    const isTold = lies.length > 0 && isLying() && random.chance(LIE_PROBABILITY);
    const lie = isTold ? random.pick(lies) : null;
    const forged = lie === null ? null : this.#tell(lie, frame, message);
    if (lie !== null && forged !== null) onLie(lie);
    if (message.type === "attempt.chunks") this.#lastChunk = message.chunks.at(-1) ?? null;
    return [...(forged ?? [frame]), ...before];
  }

  #letGo(): readonly string[] {
    const held = this.#held;
    this.#held = null;
    return held === null ? [] : [held];
  }

  #isCutShort(message: WorkFrame): boolean {
    if (message.type === "attempt.end") return this.#cutShort.delete(message.leaseId);
    return message.chunks.every((chunk) => this.#cutShort.has(chunk.leaseId));
  }

  /** Null when the lie does not fit this frame. */
  #tell(lie: Lie, frame: string, message: WorkFrame): readonly string[] | null {
    const { random, vocabSize } = this.#options;
    const chunk = message.type === "attempt.chunks" ? message.chunks.at(-1) : undefined;
    switch (lie) {
      case "garbage":
        return [frame, random.pick(GARBAGE)];
      case "replay":
        return [frame, random.pick(this.#kept)];
      case "reorder":
        this.#held = frame;
        return [];
      case "duplicate-seq":
        return chunk === undefined ? null : [frame, frame];
      case "skipped-seq":
        return chunk === undefined ? null : [];
      case "foreign-lease":
        return chunk === undefined ? null : [frame, chunkFrame({ ...chunk, leaseId: this.#foreignLease() })];
      case "dead-epoch":
        return chunk === undefined ? null : [chunkFrame({ ...chunk, epoch: Math.max(0, chunk.epoch - 1) }), frame];
      case "bad-token":
        return chunk === undefined ? null : [chunkFrame({ ...chunk, tokenIds: [vocabSize], details: null })];
      case "early-end":
        return chunk === undefined ? null : this.#endEarly(frame, chunk);
      case "too-many-tokens":
        return message.type === "attempt.end" ? this.#overrun(message) : null;
      case "chunk-after-end":
        return message.type === "attempt.end" ? [frame, ...this.#another(message)] : null;
      case "inflated-statement":
        return message.type === "attempt.end" ? [this.#inflate(message)] : null;
    }
  }

  #foreignLease(): string {
    const digits = toHex(this.#options.random.bytes(13)).toUpperCase();
    return leaseId(`lease_${digits}`);
  }

  #endEarly(frame: string, chunk: Chunk): readonly string[] {
    const { random, keyPair } = this.#options;
    this.#cutShort.add(chunk.leaseId);
    const signature = toHex(keyPair.sign(random.bytes(8)));
    const counts = { promptTokens: 1, cachedTokens: 0, outputTokens: 1, statementJson: "{}", signature };
    const reason = random.pick(["length", "stop-token"] as const);
    const { leaseId: lease, epoch } = chunk;
    const end: AttemptEnd = { type: "attempt.end", leaseId: lease, epoch, seq: chunk.seq + 1, reason, ...counts };
    return [frame, JSON.stringify(end)];
  }

  #another(end: AttemptEnd): readonly string[] {
    const chunk = this.#lastChunk;
    if (chunk === null) return [];
    const { leaseId: lease, epoch, seq } = end;
    return [chunkFrame({ leaseId: lease, epoch, seq, tokenIds: chunk.tokenIds, details: chunk.details })];
  }

  #overrun(end: AttemptEnd): readonly string[] {
    return [...this.#another(end), JSON.stringify({ ...end, seq: end.seq + 1 })];
  }

  #inflate(end: AttemptEnd): string {
    const statement = parseNodeStatement(end.statementJson);
    if (!statement.ok) return JSON.stringify({ ...end, outputTokens: end.outputTokens * 10 });
    const inflated = { ...statement.value, outputTokens: statement.value.outputTokens * 10 };
    const signature = toHex(this.#options.keyPair.sign(statementBytes(inflated)));
    const statementJson = canonicalSignedJson(inflated);
    return JSON.stringify({ ...end, outputTokens: inflated.outputTokens, statementJson, signature });
  }
}

function chunkFrame(chunk: Chunk): string {
  return JSON.stringify({ type: "attempt.chunks", chunks: [chunk] } satisfies AgentMessage);
}

function workIn(frame: string): WorkFrame | null {
  if (!frame.includes('"attempt.')) return null;
  const parsed = agentMessageSchema.safeParse(JSON.parse(frame));
  if (!parsed.success) return null;
  const { data } = parsed;
  return data.type === "attempt.chunks" || data.type === "attempt.end" ? data : null;
}
