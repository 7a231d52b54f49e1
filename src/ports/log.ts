/** Structured log: fields first, then the name of the event. Prompts, outputs and keys are never logged. */
export interface Log {
  debug(fields: LogFields, event: string): void;
  info(fields: LogFields, event: string): void;
  warn(fields: LogFields, event: string): void;
  error(fields: LogFields, event: string): void;
  child(fields: LogFields): Log;
}
export type LogFields = Readonly<Record<string, unknown>>;

/**
 * Event at level `error`: handling what a link brought threw, and only that link was ended. A bug wherever it shows, and the
 * simulator counts it as one.
 */
export const FAULT_AT_LINK = "fault at a link";
