/**
 * Standard error of a child as native code needs it. Node makes the pipe non-blocking as soon as anything looks at
 * `process.stderr`; what a library then prints while the pipe is full is lost, and with it the cause of a crash. So the
 * flag is taken off again, and our own last words are written to the descriptor itself.
 */
import { writeSync } from "node:fs";
import koffi from "koffi";

const STDERR = 2;
const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = process.platform === "darwin" ? 0x0004 : 0x0800;

/** To be called before native code prints, and again after JavaScript may have looked at `process.stderr`. */
export function makeStderrBlocking(): void {
  if (process.platform === "win32") return;
  const fcntl: (descriptor: number, command: number, type: "int", value: number) => number = koffi
    .load(null)
    .func("int fcntl(int, int, ...)");
  const flags = fcntl(STDERR, F_GETFL, "int", 0);
  if (flags >= 0) fcntl(STDERR, F_SETFL, "int", flags & ~O_NONBLOCK);
}

export function writeLastWords(text: string): void {
  writeSync(STDERR, `${text}\n`);
}
