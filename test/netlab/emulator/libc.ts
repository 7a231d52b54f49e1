/**
 * The few calls of Linux that Node lacks: a device in another network namespace, and one wait for many descriptors. Packets
 * stay in memory that does not move, so calls take addresses as plain numbers, which costs a third of a microsecond each.
 */
import { closeSync, openSync } from "node:fs";
import { constants } from "node:os";
import koffi from "koffi";

const CLONE_NEWNET = 0x4000_0000;
const TUNSETIFF = 0x4004_54ca;
const IFF_TUN = 0x0001;
const IFF_NO_PI = 0x1000;
const O_RDWR_NONBLOCK_CLOEXEC = 0x2 | 0x800 | 0x8_0000;
/** Of a struct ifreq, with room to spare, so that it lies in memory that does not move. */
const IFREQ_BYTES = 4_096;
const IFNAME_BYTES = 16;
const PR_SET_TIMERSLACK = 29;
const SCHED_FIFO = 1;
const SCHED_RESET_ON_FORK = 0x4000_0000;
/** Of a struct sched_param, with room to spare. */
const PARAMETER_BYTES = 4_096;

export const POLLIN = 0x1;
/** What poll reports of a pipe whose other end is gone, and of a broken descriptor. */
export const POLL_ENDED = 0x8 | 0x10 | 0x20;

const c = koffi.load(null);
const setns: (descriptor: number, kind: number) => number = c.func("int setns(int, int)");
const openFile: (path: string, flags: number) => number = c.func("int open(const char *, int)");
const ioctl: (descriptor: number, request: number, kind: "uintptr_t", at: number) => number = c.func(
  "int ioctl(int, unsigned long, ...)",
);
const setScheduler: (pid: number, policy: number, at: number) => number = c.func(
  "int sched_setscheduler(int, int, uintptr_t)",
);
const prctl: (option: number, value: number) => number = c.func("int prctl(int, unsigned long)");

export const readInto: (descriptor: number, at: number, bytes: number) => number = c.func(
  "intptr_t read(int, uintptr_t, size_t)",
);
export const writeFrom: (descriptor: number, at: number, bytes: number) => number = c.func(
  "intptr_t write(int, uintptr_t, size_t)",
);
const ppoll: (at: number, count: number, timeAt: number, mask: number) => number = c.func(
  "int ppoll(uintptr_t, unsigned long, uintptr_t, uintptr_t)",
);

/** Bytes that stay where they are for as long as the object lives: large arrays lie outside the heap that is compacted. */
export interface FixedMemory {
  readonly buffer: ArrayBuffer;
  readonly address: number;
}

export function fixedMemory(bytes: number): FixedMemory {
  const buffer = new ArrayBuffer(bytes);
  return { buffer, address: Number(koffi.address(new Uint8Array(buffer))) };
}

/**
 * Runs this process before everything that is not of its kind, at once when it wakes; what it starts runs as usual. False where
 * that is not allowed. The kernel leaves the others a twentieth of each second.
 */
export function goFirst(): boolean {
  const parameter = fixedMemory(PARAMETER_BYTES);
  new Int32Array(parameter.buffer)[0] = 1;
  return setScheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, parameter.address) === 0;
}

/** Waits end within a microsecond of what was asked, not the usual fifty. */
export function sharpenTimers(): void {
  prctl(PR_SET_TIMERSLACK, 1);
}

/** Makes a device for IP packets in a named namespace and gives its descriptor. Needs root. */
export function openTun(namespace: string, device: string): number {
  const home = openSync("/proc/self/ns/net", "r");
  const target = openSync(`/var/run/netns/${namespace}`, "r");
  try {
    if (setns(target, CLONE_NEWNET) !== 0) throw failed("setns");
    const descriptor = openFile("/dev/net/tun", O_RDWR_NONBLOCK_CLOEXEC);
    const request = fixedMemory(IFREQ_BYTES);
    new Uint8Array(request.buffer).set(Buffer.from(device, "ascii"));
    new DataView(request.buffer).setInt16(IFNAME_BYTES, IFF_TUN | IFF_NO_PI, true);
    const isMade = descriptor >= 0 && ioctl(descriptor, TUNSETIFF, "uintptr_t", request.address) === 0;
    const problem = isMade ? null : failed("making a device of /dev/net/tun");
    if (setns(home, CLONE_NEWNET) !== 0) throw failed("setns back");
    if (problem !== null) throw problem;
    return descriptor;
  } finally {
    closeSync(home);
    closeSync(target);
  }
}

function failed(call: string): Error {
  const code = koffi.errno();
  const name = Object.entries(constants.errno).find(([, value]) => value === code)?.[0] ?? String(code);
  return new Error(`${call} failed with ${name}`);
}

const POLLFD_BYTES = 8;
const MS_PER_S = 1_000;
const NS_PER_MS = 1e6;

/** One wait for any of a fixed list of descriptors to become readable. */
export class Poll {
  readonly #descriptors: readonly number[];
  readonly #list: FixedMemory;
  readonly #fields: Int16Array;
  readonly #time: FixedMemory = fixedMemory(2 * POLLFD_BYTES);
  readonly #timeFields: BigInt64Array = new BigInt64Array(this.#time.buffer);

  constructor(descriptors: readonly number[]) {
    this.#descriptors = descriptors;
    this.#list = fixedMemory(descriptors.length * POLLFD_BYTES);
    this.#fields = new Int16Array(this.#list.buffer);
    const numbers = new Int32Array(this.#list.buffer);
    for (const [index, descriptor] of descriptors.entries()) {
      numbers[index * 2] = descriptor;
      this.#fields[index * 4 + 2] = POLLIN;
    }
  }

  /** Returns when something can be read, or when the time is over. */
  wait(forMs: number): void {
    const seconds = Math.floor(forMs / MS_PER_S);
    this.#timeFields[0] = BigInt(seconds);
    this.#timeFields[1] = BigInt(Math.floor((forMs - seconds * MS_PER_S) * NS_PER_MS));
    ppoll(this.#list.address, this.#descriptors.length, this.#time.address, 0);
  }

  /** What the last wait reported of a descriptor, by its place in the list. */
  ready(index: number): number {
    return this.#fields[index * 4 + 3] ?? 0;
  }
}
