/** Structured log: fields first, then the name of the event. Prompts, outputs and keys are never logged. */
export interface Log {
  debug(fields: LogFields, event: string): void;
  info(fields: LogFields, event: string): void;
  warn(fields: LogFields, event: string): void;
  error(fields: LogFields, event: string): void;
  child(fields: LogFields): Log;
}
export type LogFields = Readonly<Record<string, unknown>>;
