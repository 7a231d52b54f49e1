import { createSocket } from "node:dgram";

const FIRST = 20_000;
const SPAN = 12_000;

/** The first of so many consecutive UDP ports of loopback that are free at this time. */
export async function freeUdpPorts(count: number): Promise<number> {
  for (;;) {
    const first = FIRST + Math.floor(Math.random() * SPAN);
    const free = await Promise.all(Array.from({ length: count }, (_, index) => isFree(first + index)));
    if (free.every((is) => is)) return first;
  }
}

function isFree(port: number): Promise<boolean> {
  const socket = createSocket("udp4");
  return new Promise((resolve) => {
    socket.once("error", () => resolve(false));
    socket.bind(port, "127.0.0.1", () => socket.close(() => resolve(true)));
  });
}
