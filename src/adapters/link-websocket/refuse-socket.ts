import type { Duplex } from "node:stream";

/** How long the other end may take to read the answer and close: several round trips of a bad link. */
const LINGER_MS = 1_000;

/**
 * Answers over a socket that no server looks after, and lets go of it: one whose other end never closes would be held for ever,
 * and strangers could hold all that the port takes.
 */
export function refuseSocket(socket: Duplex, answer: string): void {
  socket.end(answer);
  // What it still sends is read, so that closing does not cut the answer off.
  socket.resume();
  const timer = setTimeout(() => socket.destroy(), LINGER_MS);
  timer.unref();
  socket.once("close", () => clearTimeout(timer));
}
