/** transfers.json in an agent's home: how much of its line the owner lends, so that it is said once only. */
import { z } from "zod";
import type { TransferLimits } from "../../scheduler/distribution/transfer-limits.ts";
import { MBIT_MAX } from "../command-options.ts";
import { parseQuietHours } from "../quiet-hours.ts";
import { type HomeFolder, readJsonFile, writeFileSafely } from "./home-folder.ts";

const mbit = z.number().min(0).max(MBIT_MAX);
const transferSettingsSchema = z.object({
  /** Null: no cap. */
  uploadMbit: mbit.nullable(),
  downloadMbit: mbit.nullable(),
  /** As it was typed; null for none. */
  quietHours: z.string().max(2_000).nullable(),
  /** Each way in quiet hours; 0 for nothing. */
  quietMbit: mbit,
});
export type TransferSettings = z.infer<typeof transferSettingsSchema>;

/** As given on the command line: `none` takes a limit away, absent leaves it. */
export interface TransferFlags {
  readonly uploadMbit?: number | "none";
  readonly downloadMbit?: number | "none";
  readonly quietHours?: string;
  readonly quietMbit?: number;
}

/** Only what was given. */
export function transferFlagsOf({ uploadMbit, downloadMbit, quietHours, quietMbit }: TransferFlags): TransferFlags {
  return {
    ...(uploadMbit === undefined ? {} : { uploadMbit }),
    ...(downloadMbit === undefined ? {} : { downloadMbit }),
    ...(quietHours === undefined ? {} : { quietHours }),
    ...(quietMbit === undefined ? {} : { quietMbit }),
  };
}

const NONE: TransferSettings = { uploadMbit: null, downloadMbit: null, quietHours: null, quietMbit: 0 };
const FILE = "transfers.json";
const BYTES_PER_MBIT = 125_000;

/** What the home keeps with what was given now, which is kept from here on. Throws for hours that cannot be read. */
export function keptTransferSettings(home: HomeFolder, flags: TransferFlags): TransferSettings {
  const kept = readJsonFile(home.at(FILE), transferSettingsSchema) ?? NONE;
  const settings: TransferSettings = {
    uploadMbit: flags.uploadMbit === "none" ? null : (flags.uploadMbit ?? kept.uploadMbit),
    downloadMbit: flags.downloadMbit === "none" ? null : (flags.downloadMbit ?? kept.downloadMbit),
    quietHours: flags.quietHours === "none" ? null : (flags.quietHours ?? kept.quietHours),
    quietMbit: flags.quietMbit ?? kept.quietMbit,
  };
  if (settings.quietHours !== null) parseQuietHours(settings.quietHours);
  if (Object.keys(flags).length > 0) writeFileSafely(home.at(FILE), `${JSON.stringify(settings)}\n`);
  return settings;
}

export interface DirectionLimits {
  upload(): TransferLimits;
  download(): TransferLimits;
}

/** Asked again and again: the offset of the owner's clock changes with summer time. */
export function limitsOf(settings: TransferSettings): DirectionLimits {
  const quietHours = settings.quietHours === null ? [] : parseQuietHours(settings.quietHours);
  const of = (cap: number | null): TransferLimits => ({
    bytesPerSecondMax: cap === null ? null : cap * BYTES_PER_MBIT,
    quietHours,
    quietBytesPerSecondMax: settings.quietMbit * BYTES_PER_MBIT,
    utcOffsetMinutes: -new Date().getTimezoneOffset(),
  });
  return { upload: () => of(settings.uploadMbit), download: () => of(settings.downloadMbit) };
}
