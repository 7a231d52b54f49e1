/** The Log port on pino: one JSON line per event, to standard error or to whatever takes lines. */
import { destination, type Logger, pino } from "pino";
import { describeFault } from "../../domain/fault.ts";
import type { Log, LogFields } from "../../ports/log.ts";

export const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Fields that must never be written, whoever passes them by mistake. */
const REDACTED = ["prompt", "output", "secret", "apiKey", "authorization", "joinToken", "seed"];
const STDERR = 2;

export class PinoLog implements Log {
  readonly #logger: Logger;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  debug(fields: LogFields, event: string): void {
    this.#logger.debug(printable(fields), event);
  }

  info(fields: LogFields, event: string): void {
    this.#logger.info(printable(fields), event);
  }

  warn(fields: LogFields, event: string): void {
    this.#logger.warn(printable(fields), event);
  }

  error(fields: LogFields, event: string): void {
    this.#logger.error(printable(fields), event);
  }

  child(fields: LogFields): Log {
    return new PinoLog(this.#logger.child(printable(fields)));
  }
}

/** `sink` takes one line with its newline at a time; without it, lines go to standard error synchronously, so none is lost at exit. */
export function createPinoLog(options: { level: LogLevel; sink?: { write(line: string): void } }): Log {
  const settings = {
    level: options.level,
    base: null,
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: (label: string) => ({ level: label }) },
    messageKey: "event",
    redact: { paths: REDACTED, censor: "[redacted]" },
  };
  return new PinoLog(pino(settings, options.sink ?? destination({ dest: STDERR, sync: true })));
}

/** pino prints an Error in full only under the key `err`; ours come under any name, as one line with their causes. */
function printable(fields: LogFields): Record<string, unknown> {
  const shown: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    shown[name] = value instanceof Error ? describeFault(value) : value;
  }
  return shown;
}
