/** The single-GPU spot series of `../shared/traces` (cited in docs/forecast.md; not part of this repository). */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { z } from "zod";

const FOLDER = new URL("../../../../shared/traces/spot-traces/availability/1-node/", import.meta.url);

export interface SpotSeries {
  /** Folder and file: a zone and a class of device in one measurement. */
  readonly name: string;
  readonly cohort: string;
  readonly gapMs: number;
  readonly startMs: number;
  /** Whether a GPU was to be had at each tick. */
  readonly isUp: readonly boolean[];
}

const schema = z.object({
  metadata: z.object({ gap_seconds: z.number().positive() }),
  data: z.array(z.number().min(0)).min(2).max(100_000),
});

/** Null when the traces are not on this machine. In the order of their names. */
export function readSpotSeries(): readonly SpotSeries[] | null {
  if (!existsSync(FOLDER)) return null;
  return readdirSync(FOLDER)
    .sort()
    .flatMap((folder) =>
      readdirSync(new URL(`${folder}/`, FOLDER))
        .filter((file) => file.endsWith("_1.json.gz"))
        .sort()
        .map((file) => read(folder, file)),
    );
}

function read(folder: string, file: string): SpotSeries {
  const text = gunzipSync(readFileSync(new URL(`${folder}/${file}`, FOLDER))).toString("utf8");
  const { metadata, data } = schema.parse(JSON.parse(text));
  const [zone = "", device = ""] = file.split("_");
  const [, month = "", day = "", year = ""] = folder.split("-");
  return {
    name: `${folder}/${file.replace(".json.gz", "")}`,
    cohort: `${device} ${zone.slice(0, -1)}`,
    gapMs: metadata.gap_seconds * 1_000,
    // The traces tell the day and no hour; hours are counted from its midnight, the same shift for all series of a day.
    startMs: Date.UTC(Number(year), Number(month) - 1, Number(day)),
    isUp: data.map((count) => count > 0),
  };
}
