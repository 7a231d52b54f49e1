/** One model's weights in the grid: who has which chunks, who wants them, who brings them from the source, and what has moved. */
import { type ChunkRun, ChunkSet } from "../../domain/chunk-set.ts";
import type { NodeId, Sha256Hex } from "../../domain/ids.ts";
import { chunkCountOf, type LayerShare, totalBytesOf, type WeightsManifest } from "../../domain/weights.ts";
import { SourceClaims } from "../../scheduler/distribution/source-claims.ts";
import type { EndBytes } from "../../scheduler/placement/plan-question.ts";
import {
  bytesOfChunks,
  chunksOfEachLayer,
  chunksOfLayers,
  isShareOf,
  layersIn,
} from "../../weights/chunks-of-layers.ts";
import { endBytesOf } from "./end-bytes.ts";

export interface Holding {
  readonly have: ChunkSet;
  readonly uploads: number;
  readonly uploadsMax: number;
  readonly network: string | null;
}

export interface HolderTold {
  readonly runs: readonly ChunkRun[];
  readonly uploads: number;
  readonly uploadsMax: number;
  readonly network: string | null;
  readonly isNameable: boolean;
  readonly nowMs: number;
}

export interface Want {
  need: ChunkSet;
  isIdle: boolean;
  /** Monotonic times. */
  askedAtMs: number;
  toldAtMs: number;
  /** When a grant that it was given has to be given anew. */
  dueAtMs: number;
  /** What it was told no longer holds. */
  isStale: boolean;
  /** Holders that it could not reach, until then. */
  readonly unreachable: Map<NodeId, number>;
}

/** What one node took of these weights from the coordinator. */
export interface SourceAccount {
  sentBytes: number;
  /** Ever claimed; a chunk that was claimed twice counts twice. */
  claimedChunks: number;
  readonly claimed: ChunkSet;
  /** It takes all from the source, without claims. */
  isAlone: boolean;
}

export interface ShareFacts {
  /** Of whole chunks, as they are fetched. */
  readonly bytes: number;
  readonly isThere: boolean;
  /** Of these bytes, what lies on the node. */
  readonly storedBytes: number;
}

/** Nodes that are followed for one model; the others fetch and are not named to anybody. */
export const HOLDINGS_MAX = 10_000;
/** Of what a node claimed, it may take this many times as much, and some chunks more: connections break. */
const RESEND_FACTOR = 3;
const RESEND_CHUNKS = 16;

export class Swarm {
  readonly weightsSha256: Sha256Hex;
  readonly chunkCount: number;
  readonly chunkBytes: number;
  readonly totalBytes: number;
  readonly isPublic: boolean;
  readonly holdings = new Map<NodeId, Holding>();
  readonly wants = new Map<NodeId, Want>();
  readonly claims: SourceClaims;
  readonly accounts = new Map<NodeId, SourceAccount>();
  /** Chunks that came to nodes from other nodes, as they tell. */
  peerChunks = 0;
  sourceBytes = 0;
  readonly #manifest: WeightsManifest;
  /** Made when it is first asked for. */
  #eachLayer: readonly (readonly ChunkRun[])[] | null = null;
  /** By what a node told, which stays as it is until it tells again. */
  readonly #layers = new WeakMap<ChunkSet, readonly ChunkRun[]>();
  readonly #byNetwork = new Map<string, Set<NodeId>>();

  constructor(weightsSha256: Sha256Hex, manifest: WeightsManifest, isPublic: boolean) {
    this.weightsSha256 = weightsSha256;
    this.#manifest = manifest;
    this.chunkCount = chunkCountOf(manifest);
    this.chunkBytes = manifest.chunkBytes;
    this.totalBytes = totalBytesOf(manifest);
    this.isPublic = isPublic;
    // Models differ in the order in which their chunks are given; the digest is as good a draw as any.
    this.claims = new SourceClaims({
      chunkCount: this.chunkCount,
      seed: Number.parseInt(weightsSha256.slice(0, 8), 16),
    });
  }

  /**
   * What a node has, as it says; the runs are valid. `isNameable`: it may be named to others, so what it has need not come from the source.
   * False when nothing changed for others.
   */
  tell(nodeId: NodeId, told: HolderTold): boolean {
    const { uploads, uploadsMax, network, isNameable, nowMs } = told;
    const before = this.holdings.get(nodeId);
    if (before === undefined && this.holdings.size >= HOLDINGS_MAX) return false;
    const have = ChunkSet.of(this.chunkCount, told.runs);
    const gained = have.minus(before?.have ?? this.#hadBefore(nodeId, have));
    if (gained.size > 0) this.peerChunks += this.#fromPeers(nodeId, gained);
    if (before?.network !== network) {
      this.#leaveNetwork(nodeId, before?.network ?? null);
      if (network !== null) this.#byNetwork.set(network, (this.#byNetwork.get(network) ?? new Set()).add(nodeId));
    }
    this.holdings.set(nodeId, { have, uploads, uploadsMax, network });
    this.#count(nodeId, isNameable, nowMs);
    return before === undefined || gained.size > 0 || before.uploadsMax > 0 !== uploadsMax > 0;
  }

  /** Of a node's first news: what it does not want was there. A node that wants nothing had it all. */
  #hadBefore(nodeId: NodeId, have: ChunkSet): ChunkSet {
    const want = this.wants.get(nodeId);
    return want === undefined ? have : have.minus(want.need);
  }

  /** What it never claimed came from other nodes: claims end with the download, and the news of the last chunks come later. */
  #fromPeers(nodeId: NodeId, gained: ChunkSet): number {
    const account = this.accounts.get(nodeId);
    if (account?.isAlone === true) return 0;
    return gained.size - (account === undefined ? 0 : gained.countCommon(account.claimed));
  }

  /** Chunks that it may take from the source from here on. */
  countClaimed(nodeId: NodeId, chunks: Iterable<number>): void {
    const account = this.account(nodeId);
    for (const chunk of chunks) {
      account.claimed.add(chunk);
      account.claimedChunks += 1;
    }
  }

  /** Whether it may be named to others changed. */
  setNameable(nodeId: NodeId, isNameable: boolean, nowMs: number): void {
    if (this.holdings.has(nodeId)) this.#count(nodeId, isNameable, nowMs);
  }

  #count(nodeId: NodeId, isNameable: boolean, nowMs: number): void {
    const holding = this.holdings.get(nodeId);
    if (holding === undefined) return;
    const { have: chunks, uploads, uploadsMax } = holding;
    this.claims.setHolder(nodeId, { chunks, uploads, uploadsMax: isNameable ? uploadsMax : 0 }, nowMs);
  }

  /** At most `countMax` holders, those of the asker's network first, then from a place in the list that is the asker's own. */
  *holdersNear(asker: NodeId, network: string | null, countMax: number): Iterable<readonly [NodeId, Holding]> {
    let left = countMax;
    const near = network === null ? undefined : this.#byNetwork.get(network);
    for (const nodeId of near ?? []) {
      const holding = this.holdings.get(nodeId);
      if (nodeId === asker || holding === undefined) continue;
      if (left-- <= countMax / 2) break;
      yield [nodeId, holding];
    }
    const ids = [...this.holdings.keys()];
    const from = ids.length <= countMax ? 0 : Number.parseInt(asker.slice(-6), 16) % ids.length;
    for (let step = 0; step < ids.length && left > 0; step++) {
      const nodeId = ids[(from + step) % ids.length];
      const holding = nodeId === undefined ? undefined : this.holdings.get(nodeId);
      if (nodeId === undefined || holding === undefined || nodeId === asker || near?.has(nodeId) === true) continue;
      left -= 1;
      yield [nodeId, holding];
    }
  }

  /** Layers of which all chunks are in the set, as runs. */
  layersIn(have: ChunkSet): readonly (readonly [first: number, count: number])[] {
    this.#eachLayer ??= chunksOfEachLayer(this.#manifest);
    const layers = this.#layers.get(have) ?? layersIn(this.#eachLayer, have);
    this.#layers.set(have, layers);
    return layers;
  }

  /** What a chain's ends hold. */
  endBytes(): EndBytes {
    return endBytesOf(this.#manifest);
  }

  /** A share's bytes, and whether the node has told that it has all of them; null when the model has no such layers. */
  shareOn(nodeId: NodeId, share: LayerShare): ShareFacts | null {
    if (!isShareOf(this.#manifest, share)) return null;
    const chunks = chunksOfLayers(this.#manifest, share);
    const bytes = bytesOfChunks(this.#manifest, chunks);
    const have = this.holdings.get(nodeId)?.have;
    // The last chunk of a file may be short: told as a share of the whole, so that all of it is all of it.
    const storedBytes = have === undefined ? 0 : bytes * (have.countCommon(chunks) / Math.max(1, chunks.size));
    return { bytes, isThere: have?.includes(chunks) === true, storedBytes };
  }

  /** What the node wants and does not have. */
  needOf(nodeId: NodeId): ChunkSet | null {
    const want = this.wants.get(nodeId);
    if (want === undefined) return null;
    const have = this.holdings.get(nodeId)?.have;
    return have === undefined ? want.need : want.need.minus(have);
  }

  /** The node may take these chunks from the source: it claimed them, and did not take them again and again. */
  mayTake(nodeId: NodeId, run: ChunkRun): boolean {
    const account = this.accounts.get(nodeId);
    if (account === undefined || !this.claims.holds(nodeId, run)) return false;
    const chunksMax = account.claimedChunks * RESEND_FACTOR + RESEND_CHUNKS;
    return account.sentBytes <= chunksMax * this.chunkBytes;
  }

  /** Bytes left the source for this node. */
  countSent(nodeId: NodeId, bytes: number): void {
    const account = this.accounts.get(nodeId);
    if (account !== undefined) account.sentBytes += bytes;
    this.sourceBytes += bytes;
  }

  account(nodeId: NodeId): SourceAccount {
    const account = this.accounts.get(nodeId) ?? {
      sentBytes: 0,
      claimedChunks: 0,
      claimed: new ChunkSet(this.chunkCount),
      isAlone: false,
    };
    this.accounts.set(nodeId, account);
    return account;
  }

  /** The node's session ended. What it took stays counted for the model. */
  forget(nodeId: NodeId): boolean {
    const holding = this.holdings.get(nodeId);
    this.#leaveNetwork(nodeId, holding?.network ?? null);
    this.holdings.delete(nodeId);
    for (const want of this.wants.values()) want.unreachable.delete(nodeId);
    this.endWant(nodeId);
    this.claims.dropNode(nodeId);
    this.accounts.delete(nodeId);
    return holding !== undefined;
  }

  endWant(nodeId: NodeId): void {
    this.wants.delete(nodeId);
    this.claims.endClaims(nodeId);
  }

  /** Everybody else's picture is out of date. */
  makeStale(except: NodeId | null): void {
    for (const [nodeId, want] of this.wants) if (nodeId !== except) want.isStale = true;
  }

  #leaveNetwork(nodeId: NodeId, network: string | null): void {
    if (network === null) return;
    const members = this.#byNetwork.get(network);
    members?.delete(nodeId);
    if (members?.size === 0) this.#byNetwork.delete(network);
  }
}

/** What it was told of holders is out of date. */
export function tellAgain(want: Want | undefined): void {
  if (want !== undefined) want.isStale = true;
}
