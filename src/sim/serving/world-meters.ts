/** What a run counts: requests and tokens, and the shares of its window that nodes, links and KV rooms were in use. */
import type { StageNode } from "./stage-node.ts";

export interface WorldCounts {
  /** Of the whole run. */
  came: number;
  ended: number;
  /** Without room under a router that does not let requests wait, or longer than any node's whole KV room. */
  dropped: number;
  /** Lost their KV to make room and began again. */
  evictions: number;
  waitingAtEnd: number;
  inFlightAtEnd: number;
  /** Of the window. */
  promptsDone: number;
  promptTokens: number;
  decodeTokens: number;
  /** Of the whole run: decode tokens that reached the coordinator. */
  decodeTokensInAll: number;
}

export function noCounts(): WorldCounts {
  return {
    came: 0,
    ended: 0,
    dropped: 0,
    evictions: 0,
    waitingAtEnd: 0,
    inFlightAtEnd: 0,
    promptsDone: 0,
    promptTokens: 0,
    decodeTokens: 0,
    decodeTokensInAll: 0,
  };
}

/** Seconds from the run's begin. */
export interface Window {
  readonly startS: number;
  readonly endS: number;
}

/** Time integrals over the window. What changes with time is counted up to now before it changes. */
export class WorldMeters {
  readonly #window: Window;
  readonly #linkBusyS: Float64Array;
  readonly #nodeBusyS: Float64Array;
  readonly #kvShareSeconds: Float64Array;
  readonly #kvSinceS: Float64Array;
  #inFlightSeconds = 0;
  #inFlightSinceS = 0;

  constructor(window: Window, counts: { readonly nodes: number; readonly edges: number }) {
    this.#window = window;
    this.#linkBusyS = new Float64Array(counts.edges);
    this.#nodeBusyS = new Float64Array(counts.nodes);
    this.#kvShareSeconds = new Float64Array(counts.nodes);
    this.#kvSinceS = new Float64Array(counts.nodes);
  }

  countLink(edge: number, fromS: number, toS: number): void {
    this.#linkBusyS[edge] = (this.#linkBusyS[edge] ?? 0) + this.#within(fromS, toS);
  }

  countNode(vertex: number, fromS: number, toS: number): void {
    this.#nodeBusyS[vertex] = (this.#nodeBusyS[vertex] ?? 0) + this.#within(fromS, toS);
  }

  countKv(node: StageNode, nowS: number): void {
    const { vertex, kvUsed, profile } = node;
    const share = profile.kvTokenLayers === 0 ? 0 : kvUsed / profile.kvTokenLayers;
    const seconds = this.#within(this.#kvSinceS[vertex] ?? 0, nowS);
    this.#kvShareSeconds[vertex] = (this.#kvShareSeconds[vertex] ?? 0) + share * seconds;
    this.#kvSinceS[vertex] = nowS;
  }

  countInFlight(requests: number, nowS: number): void {
    this.#inFlightSeconds += requests * this.#within(this.#inFlightSinceS, nowS);
    this.#inFlightSinceS = nowS;
  }

  linkBusyShare(edge: number): number {
    return (this.#linkBusyS[edge] ?? 0) / this.#windowS();
  }

  nodeBusyShare(vertex: number): number {
    return (this.#nodeBusyS[vertex] ?? 0) / this.#windowS();
  }

  kvMeanShare(vertex: number): number {
    return (this.#kvShareSeconds[vertex] ?? 0) / this.#windowS();
  }

  inFlightMean(): number {
    return this.#inFlightSeconds / this.#windowS();
  }

  #within(fromS: number, toS: number): number {
    return Math.max(0, Math.min(toS, this.#window.endS) - Math.max(fromS, this.#window.startS));
  }

  #windowS(): number {
    return this.#window.endS - this.#window.startS;
  }
}
