import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ACK_BYTES, ACK_COUNT, MESSAGE_WINDOW_COUNT } from "./link-bounds.ts";
import { MessageLane } from "./message-lane.ts";

interface Wire {
  readonly sent: [number, Uint8Array][];
  readonly acks: number[];
  readonly delivered: number[];
  /** Lets the time pass after which what is owed is acknowledged. */
  readonly wait: () => void;
  readonly lane: MessageLane;
}

function wire(): Wire {
  const sent: [number, Uint8Array][] = [];
  const acks: number[] = [];
  const delivered: number[] = [];
  const timers: (() => void)[] = [];
  const lane = new MessageLane({
    transmit: (seq, bytes) => void sent.push([seq, bytes]),
    acknowledge: (seq) => void acks.push(seq),
    deliver: (bytes) => void delivered.push(bytes[0] ?? -1),
    later: (fire) => void timers.push(fire),
  });
  const wait = () => {
    for (const fire of timers.splice(0)) fire();
  };
  return { sent, acks, delivered, wait, lane };
}

describe("the lane of messages", () => {
  test("delivers each message once and in order, whatever is lost, repeated or overtaken", async () => {
    const events = fc.array(
      fc.tuple(fc.nat(40), fc.constantFrom("deliver" as const, "lose" as const, "resend" as const)),
      {
        maxLength: 200,
      },
    );
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 40 }), events, async (count, turns) => {
        const [from, to] = [wire(), wire()];
        for (let index = 0; index < count; index++) await from.lane.send(Uint8Array.of(index));
        for (const [at, what] of turns) {
          const [copy] = from.sent.splice(at % Math.max(1, from.sent.length), 1);
          if (what === "resend") from.lane.resend();
          else if (what === "deliver" && copy !== undefined) expect(to.lane.onMessage(...copy)).toBeNull();
        }
        from.lane.resend();
        for (const copy of from.sent) expect(to.lane.onMessage(...copy)).toBeNull();
        expect(to.delivered).toEqual(Array.from({ length: count }, (_, index) => index));
        to.wait();
        for (const ack of to.acks) expect(from.lane.onAck(ack)).toBeNull();
        expect(from.lane.hasUnacked).toBe(false);
      }),
    );
  });

  test("acknowledges several messages at once, after a while or when they are many, and again what comes again", async () => {
    const [from, to] = [wire(), wire()];
    for (let index = 0; index < ACK_COUNT + 2; index++) await from.lane.send(Uint8Array.of(index));
    for (const copy of from.sent.slice(0, ACK_COUNT - 1)) expect(to.lane.onMessage(...copy)).toBeNull();
    expect([to.delivered.length, to.acks]).toEqual([ACK_COUNT - 1, []]);
    for (const copy of from.sent.slice(ACK_COUNT - 1)) expect(to.lane.onMessage(...copy)).toBeNull();
    expect(to.acks).toEqual([ACK_COUNT]);
    to.wait();
    expect(to.acks).toEqual([ACK_COUNT, ACK_COUNT + 2]);
    to.wait();
    for (const copy of from.sent.slice(0, 1)) to.lane.onMessage(...copy);
    to.wait();
    expect(to.acks).toEqual([ACK_COUNT, ACK_COUNT + 2, ACK_COUNT + 2]);
  });

  test("acknowledges large messages before they fill the window", async () => {
    const { lane, acks } = wire();
    lane.onMessage(1, new Uint8Array(ACK_BYTES - 1));
    expect(acks).toEqual([]);
    lane.onMessage(2, new Uint8Array(1));
    expect(acks).toEqual([2]);
  });

  test("holds a sender up at its window, and lets one go on with each acknowledgement", async () => {
    const { lane, sent } = wire();
    for (let index = 0; index < MESSAGE_WINDOW_COUNT; index++) await lane.send(Uint8Array.of(1));
    let isSent = false;
    const more = lane.send(Uint8Array.of(2)).then(() => {
      isSent = true;
    });
    await Promise.resolve();
    expect([isSent, sent.length]).toEqual([false, MESSAGE_WINDOW_COUNT]);
    lane.onAck(1);
    await more;
    expect(sent.length).toBe(MESSAGE_WINDOW_COUNT + 1);
  });

  test("who waits for room comes before who asks while he is being woken", async () => {
    const { lane, sent } = wire();
    for (let index = 0; index < MESSAGE_WINDOW_COUNT; index++) await lane.send(Uint8Array.of(0));
    const first = lane.send(Uint8Array.of(1));
    lane.onAck(2);
    const second = lane.send(Uint8Array.of(2));
    await Promise.all([first, second]);
    expect(sent.slice(MESSAGE_WINDOW_COUNT).map(([, bytes]) => bytes[0])).toEqual([1, 2]);
  });
});
