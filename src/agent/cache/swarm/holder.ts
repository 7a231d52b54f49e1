/**
 * Another node that has chunks of a model this node fetches: what the coordinator said of it, the grant to read there, and the link while
 * there is one. A grant opens a link once; when the link ends for good, another grant is needed.
 */
import { ChunkSet } from "../../../domain/chunk-set.ts";
import { FallowError } from "../../../domain/fault.ts";
import { type NodeId, nodeId } from "../../../domain/ids.ts";
import type { PeerTarget } from "../../../domain/peer.ts";
import type { PeerLink, PeerNetwork } from "../../../ports/peer-link.ts";
import type { SignedGrant } from "../../../wire/fetch-grant.ts";
import type { PeerOrder } from "../../session.ts";
import { FAR_RTT_MS } from "./asked-bytes.ts";

export type HolderNews = Extract<PeerOrder, { type: "weights.holders" }>["holders"][number];

/** Asked for at once of one chunk: less of one whose pace is slow or not known, so that many of them keep little from a fast one. */
const SLICE_BYTES_MIN = 128 * 1024;
const SLICE_BYTES_MAX = 256 * 1024;
/** What it brings in so long; each slice costs both ends some work, so that smaller ones would make a busy machine slower still. */
const SLICE_SECONDS = 0.1;
const NEWEST_WEIGHT = 0.3;

export class Holder {
  readonly nodeId: NodeId;
  have: ChunkSet;
  /** Its place in the transfer's choice follows what is told of it here. */
  isOffered = false;
  /** Chunks that it is asked for at this moment, each to be given up. */
  readonly flights = new Map<number, AbortController>();
  /** From asking to the last byte of a chunk, and what came since it was looked at last. */
  chunkMs: number | null = null;
  newBytes = 0;
  #bytesPerSecond: number | null = null;
  /** The least: when it is busy its answers wait. */
  #rttMs: number | null = null;
  /** Chunks in a row that it said to have and could not read. */
  unreadable = 0;
  /** The nearest first, as the coordinator ranks them. */
  rank: number;
  #target: PeerTarget;
  #grant: SignedGrant | null = null;
  #link: PeerLink | null = null;
  #opening: Promise<PeerLink> | null = null;
  /** A link of an earlier grant may be open to the whole machine, without a right to this model. */
  #isAdmitted = false;

  constructor(news: HolderNews, more: { rank: number; chunkCount: number }) {
    this.nodeId = nodeId(news.nodeId);
    this.rank = more.rank;
    this.have = new ChunkSet(more.chunkCount);
    this.#target = targetOf(news);
    this.update(news, more);
  }

  update(news: HolderNews, { rank, chunkCount }: { rank: number; chunkCount: number }): void {
    this.rank = rank;
    this.#target = targetOf(news);
    this.have = ChunkSet.of(chunkCount, news.runs);
    this.#grant = news.grant ?? this.#grant;
  }

  /** What is on its line is more than may be lost of a near one: it is asked for whole chunks, and its link bounds what is on the way. */
  get isFar(): boolean {
    return this.#rttMs !== null && this.#rttMs >= FAR_RTT_MS;
  }

  get sliceBytes(): number {
    if (this.isFar) return Number.POSITIVE_INFINITY;
    const wanted = (this.#bytesPerSecond ?? 0) * SLICE_SECONDS;
    return Math.round(Math.min(SLICE_BYTES_MAX, Math.max(SLICE_BYTES_MIN, wanted)));
  }

  measure(bytesPerSecond: number): void {
    const old = this.#bytesPerSecond;
    this.#bytesPerSecond = old === null ? bytesPerSecond : old + NEWEST_WEIGHT * (bytesPerSecond - old);
  }

  get publicKeyHex(): string {
    return this.#target.publicKeyHex;
  }

  /** Its link ended, or none was opened, and the grant is used up. */
  get needsGrant(): boolean {
    return this.#grant === null && !this.#isAdmitted && this.#opening === null;
  }

  /** What it was admitted with holds no more: the next link needs another grant. */
  dropGrant(): void {
    this.#grant = null;
    this.#isAdmitted = false;
  }

  /** The open link with a right to this model. Rejects as `PeerNetwork.connect`, and `peer-refused` when there is no grant. */
  async link(network: PeerNetwork, signal: AbortSignal): Promise<PeerLink> {
    if (this.#opening !== null) return await this.#opening;
    const grant = this.#grant;
    if (grant === null && this.#link !== null && this.#isAdmitted) return this.#link;
    if (grant === null) {
      throw new FallowError("peer-refused", `there is no grant to read at ${this.nodeId}`, {
        data: { code: "insufficient-scope" },
      });
    }
    this.#grant = null;
    this.#opening = this.#open(network, grant, signal).finally(() => {
      this.#opening = null;
    });
    return await this.#opening;
  }

  /** Called with each piece that is asked for. */
  lookAtWay(): void {
    const rttMs = this.#link?.quality()?.rttMs ?? null;
    if (rttMs !== null) this.#rttMs = Math.min(this.#rttMs ?? rttMs, rttMs);
  }

  close(reason: string): void {
    this.#link?.close(reason);
  }

  async #open(network: PeerNetwork, grant: SignedGrant, signal: AbortSignal): Promise<PeerLink> {
    let link: PeerLink;
    try {
      link = await network.connect(this.#target, JSON.stringify(grant), signal);
    } catch (thrown) {
      // It never reached the other end: it is good for another try.
      const isUnused = thrown instanceof FallowError && thrown.code === "peer-unreachable";
      if (isUnused || signal.aborted) this.#grant ??= grant;
      throw thrown;
    }
    this.#link = link;
    this.#isAdmitted = true;
    void link.closed.then(() => {
      if (this.#link !== link) return;
      this.#link = null;
      this.#isAdmitted = false;
    });
    return link;
  }
}

function targetOf({ nodeId: id, publicKey, endpoints }: HolderNews): PeerTarget {
  return { nodeId: nodeId(id), publicKeyHex: publicKey, endpoints };
}
