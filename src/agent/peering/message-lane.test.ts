import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MESSAGE_WINDOW_COUNT } from "./link-bounds.ts";
import { MessageLane } from "./message-lane.ts";

interface Wire {
  readonly sent: [number, Uint8Array][];
  readonly acks: number[];
  readonly delivered: number[];
  readonly lane: MessageLane;
}

function wire(): Wire {
  const sent: [number, Uint8Array][] = [];
  const acks: number[] = [];
  const delivered: number[] = [];
  const lane = new MessageLane({
    transmit: (seq, bytes) => void sent.push([seq, bytes]),
    acknowledge: (seq) => void acks.push(seq),
    deliver: (bytes) => void delivered.push(bytes[0] ?? -1),
  });
  return { sent, acks, delivered, lane };
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
        for (const ack of to.acks) expect(from.lane.onAck(ack)).toBeNull();
        expect(from.lane.hasUnacked).toBe(false);
      }),
    );
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
