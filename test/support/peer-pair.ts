/** Two nodes with a link network each over carriers in memory, in virtual time. The far one serves bytes that are a function of their place. */
import { type LinkedPeerNetwork, openPeerNetwork } from "../../src/agent/peering/peer-network.ts";
import { nodeId } from "../../src/domain/ids.ts";
import type { CarrierKind, PeerTarget } from "../../src/domain/peer.ts";
import { refuse } from "../../src/domain/refusal.ts";
import type { PeerFetchOptions, PeerLink } from "../../src/ports/peer-link.ts";
import { simCrypto } from "../../src/sim/sim-crypto.ts";
import { simLog } from "../../src/sim/sim-log.ts";
import { SimClock } from "../../src/sim/time/clock.ts";
import { Host } from "../../src/sim/time/host.ts";
import { SeededRandom } from "../../src/sim/time/random.ts";
import { Timeline } from "../../src/sim/time/timeline.ts";
import { MemoryNet } from "./memory-carrier.ts";

export const GOOD = "the right credential";
const DELAY_MS = 20;
const WAIT_MS_MAX = 120_000;

export interface PeerPair {
  readonly net: MemoryNet;
  readonly near: LinkedPeerNetwork;
  readonly far: LinkedPeerNetwork;
  readonly target: PeerTarget;
  readonly nearKeyHex: string;
  readonly clock: SimClock;
  /** What came to either end, as text. */
  readonly nearMessages: string[];
  readonly farMessages: string[];
  /** Requests that the far end was asked for, and answers that it closed. */
  readonly asked: string[];
  answersClosed(): number;
  /** Bytes that the far end has read for others. */
  readBytes(): number;
  nowMs(): number;
  /** Lets virtual time pass. */
  pass(ms: number): Promise<void>;
  /** Lets it pass until the promise is settled. */
  settled<T>(promise: Promise<T>): Promise<T>;
  until(isReached: () => boolean): Promise<void>;
  stop(): Promise<void>;
}

/** `delayMs`: of carriers that take another time than the rest. */
export async function peerPair(
  kinds: readonly CarrierKind[] = ["tcp"],
  delayMs: Partial<Record<CarrierKind, number>> = {},
): Promise<PeerPair> {
  const timeline = new Timeline();
  const host = new Host("both", timeline);
  const clock = new SimClock(host);
  const random = new SeededRandom("peers");
  const net = new MemoryNet({
    delayMs: (kind) => delayMs[kind] ?? DELAY_MS,
    after: (delayMs, fire) => void host.after(delayMs, fire),
  });
  const [nearKeyHex, farKeyHex] = ["0a".repeat(32), "0b".repeat(32)];
  const log = simLog(() => undefined);
  const networkOf = (keyHex: string) =>
    openPeerNetwork({
      clock,
      random,
      crypto: simCrypto(random),
      log,
      carriers: kinds.map((kind) => net.carrier(kind, keyHex)),
    });
  const [near, far] = [networkOf(nearKeyHex), networkOf(farKeyHex)];
  const nearMessages: string[] = [];
  const farMessages: string[] = [];
  const asked: string[] = [];
  let closed = 0;
  let read = 0;
  far.serve({
    admit: (credential) =>
      credential === GOOD
        ? { ok: true, expiresAtMs: clock.wallMs() + 600_000 }
        : refuse("invalid-key", `the credential ${credential} is not the right one`),
    onFetch: async (request) => {
      const name = Buffer.from(request).toString();
      asked.push(name);
      if (name.startsWith("secret")) return refuse("insufficient-scope", "not for you");
      return {
        ok: true,
        totalBytes: Number(name.split(" ")[0]),
        read: async (offset, length) => {
          read += length;
          return contents(offset, length);
        },
        close: () => {
          closed++;
        },
      };
    },
    onMessage: (message) => farMessages.push(Buffer.from(message).toString()),
  });
  near.serve({
    admit: () => refuse("invalid-key", "nobody is let in here"),
    onFetch: async () => refuse("not-found", "nothing is served here"),
    onMessage: (message) => nearMessages.push(Buffer.from(message).toString()),
  });
  const until = async (isReached: () => boolean) => {
    const endMs = timeline.nowMs + WAIT_MS_MAX;
    while (!isReached() && timeline.nowMs < endMs) await timeline.run(timeline.nowMs + 1, () => !isReached());
    if (!isReached()) throw new Error(`not reached within ${WAIT_MS_MAX} virtual ms`);
  };
  return {
    net,
    near,
    far,
    nearKeyHex,
    clock,
    nearMessages,
    farMessages,
    asked,
    answersClosed: () => closed,
    readBytes: () => read,
    target: {
      nodeId: nodeId(`node_${"0".repeat(32)}`),
      publicKeyHex: farKeyHex,
      endpoints: { tcp: [{ host: "192.0.2.1", port: 1 }], hasUdp: kinds.includes("udp") },
    },
    nowMs: () => timeline.nowMs,
    pass: (ms) => timeline.run(timeline.nowMs + ms, () => true),
    until,
    settled: async (promise) => {
      let isSettled = false;
      const done = promise.finally(() => {
        isSettled = true;
      });
      done.catch(() => undefined); // told by the second await
      await until(() => isSettled);
      return await done;
    },
    stop: async () => {
      await Promise.all([near.close(), far.close()]);
    },
  };
}

/** The byte at a place. */
export function contents(offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at++) bytes[at] = ((offset + at) * 2_654_435_761) >>> 13;
  return bytes;
}

export interface Fetched {
  readonly bytes: Uint8Array;
}

/** Takes a whole answer; `onPart` after each part of it. */
export async function fetchAll(
  link: PeerLink,
  request: string,
  options: Partial<PeerFetchOptions> & { readonly totalBytes: number },
  onPart: (received: number) => Promise<void> | void = () => undefined,
): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let received = 0;
  const asked = { signal: new AbortController().signal, bytesPerSecondMin: 1, ...options };
  for await (const part of link.fetch(Buffer.from(request), asked)) {
    parts.push(part);
    received += part.length;
    await onPart(received);
  }
  return Buffer.concat(parts);
}
