/** The writing thread of sqlite-thread.ts: opens the store, answers calls, ends when it was closed. */
import { parentPort, workerData } from "node:worker_threads";
import { z } from "zod";
import { assert } from "../../domain/assert.ts";
import { describeFault, FallowError } from "../../domain/fault.ts";
import { openSqliteStore, type SqlStore } from "./sql-store.ts";
import { type ThreadAnswer, type ThreadCall, WRITE_NAMES } from "./sqlite-thread-messages.ts";

const optionsSchema = z.object({
  path: z.string(),
  nowMs: z.number(),
  fileBytesMax: z.number().nullable().optional(),
});

const port = parentPort;
assert(port !== null, "this file runs in a thread");
let store: SqlStore | null = null;

/** Of one turn: what one commit made durable goes over in one message. */
let answers: ThreadAnswer[] = [];

port.on("message", (calls: readonly ThreadCall[]) => {
  for (const call of calls) {
    void answered(call).then((answer) => {
      if (answers.length === 0) setImmediate(send);
      answers.push(answer);
      if (call.name !== "close") return;
      send();
      port.close();
    });
  }
});

function send(): void {
  if (answers.length > 0) port?.postMessage(answers);
  answers = [];
}

async function answered(call: ThreadCall): Promise<ThreadAnswer> {
  try {
    return { id: call.id, value: await carriedOut(call), fault: null };
  } catch (cause) {
    return { id: call.id, value: null, fault: portable(cause) };
  }
}

async function carriedOut(call: ThreadCall): Promise<unknown> {
  if (call.name === "open") {
    const { path, nowMs, fileBytesMax } = optionsSchema.parse(workerData);
    store = await openSqliteStore({ path, nowMs, fileBytesMax: fileBytesMax ?? null });
    return null;
  }
  if (call.name === "close") return store?.close();
  assert(store !== null, "the store is open before anything is written");
  assert(WRITE_NAMES.includes(call.name), `${call.name} is a write of the store`);
  const [group = "", method = ""] = call.name.split(".");
  const part: unknown = Reflect.get(store, group);
  assert(typeof part === "object" && part !== null, `${group} is a part of the store`);
  const write: unknown = Reflect.get(part, method);
  assert(typeof write === "function", `${call.name} is a method`);
  const value: unknown = await Reflect.apply(write, part, call.values);
  return value;
}

function portable(cause: unknown): NonNullable<ThreadAnswer["fault"]> {
  if (!(cause instanceof FallowError)) {
    return { code: null, message: describeFault(cause), data: {}, cause: null };
  }
  // Data of faults is plain; a value that cannot travel must not hide the fault.
  const data = z.record(z.string(), z.json()).safeParse(cause.data);
  return {
    code: cause.code,
    message: cause.message,
    data: data.success ? data.data : {},
    cause: cause.cause === undefined ? null : describeFault(cause.cause),
  };
}
