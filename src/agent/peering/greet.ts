/** The first frames of a connection, seen from the end that dialled it: one question, one answer, within a bound. */
import { FallowError } from "../../domain/fault.ts";
import type { Clock } from "../../ports/clock.ts";
import type { WireRefusal } from "../../wire/peer-frame-bytes.ts";
import type { PeerFrame } from "../../wire/peer-frames.ts";
import { GREETING_MS_MAX } from "./link-bounds.ts";
import type { LinkConnection } from "./link-connection.ts";

export type GreetingAnswer = Extract<PeerFrame, { kind: "accepted" | "attached" }>;

/**
 * `onAnswer` is called before anything that came behind the answer is read, so that it can hand the connection over. Rejects with
 * `peer-refused`, or `peer-unreachable` when the connection ends or no answer comes.
 */
export function greet(
  connection: LinkConnection,
  clock: Clock,
  greeting: Extract<PeerFrame, { kind: "hello" | "attach" }>,
  onAnswer: (answer: GreetingAnswer) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (fault: FallowError) => {
      timer.cancel();
      // Destroying may end it at once, with a cause that says less.
      reject(fault);
      connection.destroy();
    };
    const timer = clock.setTimer(GREETING_MS_MAX, () => fail(gone(`no answer within ${GREETING_MS_MAX} ms`)));
    connection.begin(
      {
        onFrame: (_, frame) => {
          if (frame.kind === "refused") fail(refused(frame.refusal));
          else if (frame.kind === (greeting.kind === "hello" ? "accepted" : "attached")) {
            timer.cancel();
            onAnswer(frame);
            resolve();
          } else return `a ${frame.kind} frame in answer to a ${greeting.kind}`;
          return null;
        },
        onRoom: () => undefined,
        onClosed: (_, { cause }) => fail(gone(cause)),
      },
      ["accepted", "attached", "refused", "ping", "pong"],
    );
    connection.role = greeting.role;
    connection.send(greeting);
  });
}

function gone(cause: string): FallowError {
  return new FallowError("peer-unreachable", `the other node did not greet: ${cause}`);
}

function refused({ code, message, retryAfterMs }: WireRefusal): FallowError {
  return new FallowError("peer-refused", `the other node refused: ${message}`, { data: { code, retryAfterMs } });
}
