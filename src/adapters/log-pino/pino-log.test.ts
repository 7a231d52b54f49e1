import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { FallowError } from "../../domain/fault.ts";
import { createPinoLog, type LogLevel } from "./pino-log.ts";

function logged(level: LogLevel) {
  const lines: string[] = [];
  const log = createPinoLog({ level, sink: { write: (line) => void lines.push(line) } });
  return { log, lines: (): unknown[] => lines.map((line) => JSON.parse(line)) };
}

describe("the log", () => {
  test("writes one JSON line per event, with its level, its name and its fields", () => {
    const { log, lines } = logged("info");
    log.child({ nodeId: "node_1" }).info({ leaseId: "lease_1", waitedMs: 7 }, "lease granted");
    const [line] = lines();
    expect(line).toMatchObject({
      level: "info",
      event: "lease granted",
      nodeId: "node_1",
      leaseId: "lease_1",
      waitedMs: 7,
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
    });
    expect(line).not.toHaveProperty("pid");
  });

  test("leaves out what is below its level", () => {
    const { log, lines } = logged("warn");
    log.debug({}, "a");
    log.info({}, "b");
    log.warn({}, "c");
    log.error({}, "d");
    expect(lines()).toMatchObject([{ event: "c" }, { event: "d" }]);
  });

  test("prints an error under any name as one line with its causes", () => {
    const { log, lines } = logged("info");
    const cause = new FallowError("disk-full", "the disk is full", { cause: new Error("ENOSPC") });
    log.error({ cause, fault: new Error("other") }, "write failed");
    expect(lines()).toMatchObject([{ cause: "the disk is full: ENOSPC", fault: "other" }]);
  });

  test("never writes prompts, outputs or secrets", () => {
    const { log, lines } = logged("info");
    log
      .child({ secret: "s" })
      .info({ prompt: "my diary", output: "dear", apiKey: "sk", authorization: "Bearer", joinToken: "j" }, "x");
    expect(JSON.stringify(lines())).not.toMatch(/diary|dear|"sk"|Bearer|"j"|"s"/);
    expect(lines()).toMatchObject([{ prompt: "[redacted]" }]);
  });

  test("goes to standard error and has said everything when the process exits", async () => {
    const module = new URL("./pino-log.ts", import.meta.url).href;
    const script = `const { createPinoLog } = await import(${JSON.stringify(module)}); createPinoLog({ level: "info" }).info({ last: true }, "goodbye"); process.exit(0);`;
    const { stdout, stderr } = await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", script]);
    expect(stdout).toBe("");
    expect(JSON.parse(stderr)).toMatchObject({ event: "goodbye", last: true });
  });
});
