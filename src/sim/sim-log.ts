/** Log events of the code under test, as lines of the trace, with the host's name and virtual time. */
import type { Log, LogFields } from "../ports/log.ts";

export type LogSink = (line: { level: "debug" | "info" | "warn" | "error"; fields: LogFields; event: string }) => void;

export function simLog(sink: LogSink, bound: LogFields = {}): Log {
  const at = (level: "debug" | "info" | "warn" | "error") => (fields: LogFields, event: string) =>
    sink({ level, fields: { ...bound, ...fields }, event });
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    child: (fields) => simLog(sink, { ...bound, ...fields }),
  };
}
