/**
 * The lab's internet: access links around a core that forwards IPv4 packets by destination and does nothing else. A packet
 * goes up its sender's link, through the core and down the receiver's link; what happens to it is worked out with the times
 * at which it should have been there, so a late turn of the loop does not add up.
 */
import { closeSync } from "node:fs";
import type { EmulatorCounters, OpenedLink } from "../emulator-messages.ts";
import type { LinkShape } from "../link-shape.ts";
import { Lateness } from "./lateness.ts";
import { openTun, readInto, writeFrom } from "./libc.ts";
import { OneWay, shapeOf } from "./one-way.ts";
import { PacketPool, SLOT_BYTES } from "./packet-pool.ts";

const DEVICE = "wan0";
/** Read in one go from one device, so that a busy link does not hold up the others. */
const READ_BATCH = 64;

interface AccessLink {
  readonly name: string;
  readonly descriptor: number;
  readonly up: OneWay;
  readonly down: OneWay;
  readonly blocked: Set<AccessLink>;
  isCut: boolean;
}

export class InternetCore {
  readonly #pool: PacketPool = new PacketPool();
  readonly #links: AccessLink[] = [];
  readonly #byAddress: Map<number, AccessLink> = new Map();
  readonly #lateness: Lateness = new Lateness();
  #unroutedPackets = 0;

  open({ name, namespace, address, shape, seed }: OpenedLink): void {
    const link: AccessLink = {
      name,
      descriptor: openTun(namespace, DEVICE),
      up: new OneWay(shapeOf(shape, "up"), seed),
      down: new OneWay(shapeOf(shape, "down"), seed ^ 0x5bd1_e995),
      blocked: new Set(),
      isCut: false,
    };
    this.#links.push(link);
    this.#byAddress.set(numberOf(address), link);
  }

  /** The descriptors to wait for, in the order by which `receive` names them. */
  descriptors(): readonly number[] {
    return this.#links.map(({ descriptor }) => descriptor);
  }

  /** Reads what the owner of a link sent. */
  receive(index: number): void {
    const link = this.#links[index];
    if (link === undefined) return;
    for (let read = 0; read < READ_BATCH; read++) {
      const slot = this.#pool.take();
      if (slot < 0) return; // the device's own queue holds them until packets have left
      const bytes = readInto(link.descriptor, this.#pool.addressOf(slot), SLOT_BYTES);
      if (bytes <= 0) {
        this.#pool.release(slot);
        return;
      }
      this.#pool.filled(slot, bytes);
      if (link.isCut) link.up.counters.refusedPackets++;
      else if (link.up.admit({ slot, bytes, atMs: performance.now() })) continue;
      this.#pool.release(slot);
    }
  }

  /** Moves every packet that is due, and says when the next one is; infinity when none is on its way. */
  advance(): number {
    const nowMs = performance.now();
    for (const link of this.#links) {
      for (let dueMs = link.up.fifo.headDueMs(); dueMs <= nowMs; dueMs = link.up.fifo.headDueMs()) {
        this.#cross(link, { slot: link.up.fifo.pop(), atMs: dueMs });
      }
    }
    let nextMs = Number.POSITIVE_INFINITY;
    for (const link of this.#links) {
      for (let dueMs = link.down.fifo.headDueMs(); dueMs <= nowMs; dueMs = link.down.fifo.headDueMs()) {
        this.#deliver(link, { slot: link.down.fifo.pop(), dueMs });
      }
      nextMs = Math.min(nextMs, link.up.fifo.headDueMs(), link.down.fifo.headDueMs());
    }
    return nextMs;
  }

  #cross(from: AccessLink, { slot, atMs }: { slot: number; atMs: number }): void {
    const bytes = this.#pool.lengthOf(slot);
    const to = this.#byAddress.get(this.#pool.destinationOf(slot));
    if (from.isCut) from.up.counters.refusedPackets++;
    else {
      from.up.counters.packets++;
      from.up.counters.bytes += bytes;
      if (to === undefined) this.#unroutedPackets++;
      else if (to.isCut || from.blocked.has(to)) to.down.counters.refusedPackets++;
      else if (to.down.admit({ slot, bytes, atMs })) return;
    }
    this.#pool.release(slot);
  }

  #deliver(link: AccessLink, { slot, dueMs }: { slot: number; dueMs: number }): void {
    const bytes = this.#pool.lengthOf(slot);
    if (!link.isCut && writeFrom(link.descriptor, this.#pool.addressOf(slot), bytes) === bytes) {
      link.down.counters.packets++;
      link.down.counters.bytes += bytes;
      this.#lateness.note(performance.now() - dueMs);
    } else link.down.counters.refusedPackets++;
    this.#pool.release(slot);
  }

  reshape(name: string, shape: LinkShape): void {
    const link = this.#link(name);
    link.up.shape = shapeOf(shape, "up");
    link.down.shape = shapeOf(shape, "down");
  }

  /** A cut link also loses what is on its way. */
  cut(name: string, isCut: boolean): void {
    this.#link(name).isCut = isCut;
  }

  block([one, other]: readonly [string, string], isBlocked: boolean): void {
    const [a, b] = [this.#link(one), this.#link(other)];
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      if (isBlocked) from.blocked.add(to);
      else from.blocked.delete(to);
    }
  }

  counters(): EmulatorCounters {
    const links = this.#links.map(({ name, up, down }) => [name, { up: up.counters, down: down.counters }] as const);
    return {
      links: Object.fromEntries(links),
      unroutedPackets: this.#unroutedPackets,
      late: this.#lateness.figures(),
    };
  }

  close(): void {
    for (const { descriptor } of this.#links.splice(0)) closeSync(descriptor);
  }

  #link(name: string): AccessLink {
    const link = this.#links.find((one) => one.name === name);
    if (link === undefined) throw new Error(`the lab has no link ${name}`);
    return link;
  }
}

function numberOf(address: string): number {
  return address.split(".").reduce((number, part) => number * 256 + Number(part), 0);
}
