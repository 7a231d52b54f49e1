/**
 * The emulator of one lab, in a process of its own: one loop that waits for packets, for the time at which the next one is
 * due, and for orders. It outlives the process that started the lab by a moment: when that one is gone, however it went, or
 * when the lab's time is over, it ends what runs in the lab's namespaces and removes them.
 *
 * Usage: emulator-process.ts PREFIX LIFE_MS; orders on standard input, answers on standard output.
 */
import { writeSync } from "node:fs";
import { setPriority } from "node:os";
import { type Answer, type Order, orderSchema } from "../emulator-messages.ts";
import { namespacesWithPrefix, removeNamespaces } from "../namespaces.ts";
import { InternetCore } from "./internet-core.ts";
import { fixedMemory, goFirst, POLL_ENDED, POLLIN, Poll, readInto, sharpenTimers } from "./libc.ts";

const STDIN = 0;
const STDOUT = 1;
const ORDER_BUFFER_BYTES = 65_536;
/** With nothing to do the loop still looks at the clock this often. */
const IDLE_WAIT_MS = 1_000;
/** Where going first is not allowed. A late emulator measures itself. */
const PRIORITY = -20;

const [prefix, life] = process.argv.slice(2);
const lifeMs = Number(life);
if (prefix === undefined || !(lifeMs > 0)) throw new Error("usage: emulator-process.ts PREFIX LIFE_MS");
if (!goFirst()) setPriority(PRIORITY);
sharpenTimers();

const core = new InternetCore();
const orders = fixedMemory(ORDER_BUFFER_BYTES);
let unread = "";
let isEnding = false;
let poll = new Poll([STDIN]);
const endAtMs = performance.now() + lifeMs;

while (!isEnding) {
  const nextMs = core.advance();
  const nowMs = performance.now();
  if (nowMs > endAtMs) {
    process.stderr.write(`netlab: ${prefix} lived for ${lifeMs} ms and is removed\n`);
    break;
  }
  poll.wait(Math.max(0, Math.min(nextMs - nowMs, IDLE_WAIT_MS, endAtMs - nowMs)));
  for (let index = core.descriptors().length; index > 0; index--) {
    if ((poll.ready(index) & POLLIN) !== 0) core.receive(index - 1);
  }
  if ((poll.ready(0) & (POLLIN | POLL_ENDED)) !== 0) takeOrders();
}
core.close();
removeNamespaces(namespacesWithPrefix(prefix));

function takeOrders(): void {
  const bytes = readInto(STDIN, orders.address, ORDER_BUFFER_BYTES);
  if (bytes <= 0) {
    isEnding = true;
    return;
  }
  unread += Buffer.from(orders.buffer, 0, bytes).toString("utf8");
  const lines = unread.split("\n");
  unread = lines.pop() ?? "";
  for (const line of lines) writeSync(STDOUT, `${JSON.stringify(answerTo(line))}\n`);
}

function answerTo(line: string): Answer {
  try {
    const order = orderSchema.parse(JSON.parse(line));
    return order.op === "counters" ? { ok: true, counters: core.counters() } : carryOut(order);
  } catch (error) {
    return { ok: false, message: error instanceof Error ? error.message : String(error) };
  }
}

function carryOut(order: Exclude<Order, { op: "counters" }>): Answer {
  switch (order.op) {
    case "open":
      for (const link of order.links) core.open(link);
      poll = new Poll([STDIN, ...core.descriptors()]);
      break;
    case "shape":
      core.reshape(order.link, order.shape);
      break;
    case "cut":
      core.cut(order.link, order.isCut);
      break;
    case "block":
      core.block(order.pair, order.isBlocked);
      break;
    case "close":
      isEnding = true;
      break;
  }
  return { ok: true };
}
