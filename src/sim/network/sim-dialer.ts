/**
 * How an agent reaches the coordinator in the simulator: a handshake of two packets over the packet network. Nobody
 * listening on a machine that runs means refused at once; a machine that is off, or a cut path, means no answer and a
 * timeout.
 */
import { FallowError } from "../../domain/fault.ts";
import type { Link, LinkDialer, LinkTarget } from "../../ports/link.ts";
import type { Host } from "../time/host.ts";
import type { Scheduled } from "../time/timeline.ts";
import type { PacketNetwork } from "./packet-network.ts";
import { type LinkTap, SimLink } from "./sim-link.ts";

export const DIAL_TIMEOUT_MS = 5_000;
const SYN_BYTES = 60;
/** The first try and its repetitions. */
const SYN_AT_MS = [0, 1_000, 3_000] as const;

/** The coordinator's listening socket. */
export interface Listener {
  readonly host: Host;
  onLink(link: Link): void;
}

export class SimInternet {
  readonly network: PacketNetwork;
  readonly #tap: LinkTap;
  readonly #links = new Set<SimLink>();
  #listener: Listener | null = null;
  #coordinator: Host;
  #connections = 0;

  constructor(options: { network: PacketNetwork; tap: LinkTap; coordinator: Host }) {
    this.network = options.network;
    this.#tap = options.tap;
    this.#coordinator = options.coordinator;
  }

  listen(listener: Listener | null): void {
    this.#listener = listener;
  }

  /** On the fullest link end. */
  bufferedBytesMost(): number {
    let most = 0;
    for (const link of this.#links) {
      if (link.isOver) this.#links.delete(link);
      most = Math.max(most, link.bufferedBytes());
    }
    return most;
  }

  /** The process at `hostName` ended: its kernel says so, unless the whole machine lost its power. */
  drop(hostName: string, options: { isPowerLoss: boolean }): void {
    for (const link of [...this.#links].filter((end) => end.hostName === hostName)) {
      if (options.isPowerLoss) link.vanish();
      else link.kill();
      this.#links.delete(link);
    }
  }

  dialerFrom(host: Host): LinkDialer {
    return { dial: (target, signal) => this.#dial(host, target, signal) };
  }

  #dial(host: Host, target: LinkTarget, signal: AbortSignal): Promise<Link> {
    const connection = ++this.#connections;
    return new Promise((resolve, reject) => {
      const scheduled: Scheduled[] = [];
      let isOver = false;
      const end = (finish: () => void) => {
        if (isOver) return;
        isOver = true;
        for (const timer of scheduled) timer.cancel();
        finish();
      };
      const fail = (why: string) =>
        end(() => reject(new FallowError("link-unreachable", `no link to ${target.url}: ${why}`)));
      if (signal.aborted) return fail("the dial was given up");
      signal.addEventListener("abort", () => fail("the dial was given up"), { once: true });
      let made: { near: SimLink; far: SimLink } | null = null;
      const knock = () => {
        const listener = this.#listener;
        if (!this.#coordinator.isPowered) return;
        if (this.#coordinator.state === "dead" || listener === null) {
          this.#packet(this.#coordinator, host, () => host.after(0, () => fail("connection refused")));
          return;
        }
        if (made === null) {
          made = this.#pair(host, listener.host, connection);
          const { far } = made;
          listener.host.after(0, () => this.#listener?.onLink(far));
        }
        const { near } = made;
        this.#packet(listener.host, host, () => host.after(0, () => end(() => resolve(near))));
      };
      for (const atMs of SYN_AT_MS) {
        scheduled.push(host.after(atMs, () => this.#packet(host, this.#coordinator, knock)));
      }
      scheduled.push(host.after(DIAL_TIMEOUT_MS, () => fail(`no answer in ${DIAL_TIMEOUT_MS} ms`)));
    });
  }

  #pair(from: Host, to: Host, connection: number): { near: SimLink; far: SimLink } {
    const common = { network: this.network, channelBinding: "loopback", tap: this.#tap, connection };
    const ends = SimLink.pair(
      { ...common, host: from, peerName: to.name },
      { ...common, host: to, peerName: from.name },
    );
    this.#links.add(ends.near);
    this.#links.add(ends.far);
    return ends;
  }

  #packet(from: Host, to: Host, arrive: () => void): void {
    this.network.send({ from: from.name, to: to.name, bytes: SYN_BYTES, arrive });
  }
}
