/** Lines of a file, a piece of it in memory at a time. */
import { FallowError } from "../../domain/fault.ts";
import type { BlobReader } from "../../ports/blob-files.ts";
import { isBlank, LineSplitter, type SplitLine } from "../../scheduler/jobs/line-splitter.ts";
import { LINE_BYTES_MAX, READ_BYTES } from "./job-options.ts";

export interface FileRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** Lines that are not blank, in order; a line's bytes are good until the next one is asked for. Throws `line-too-long`. */
export async function* readLines(reader: BlobReader, range: FileRange): AsyncGenerator<SplitLine, void, undefined> {
  const splitter = new LineSplitter({ lineBytesMax: LINE_BYTES_MAX });
  const endBytes = range.offsetBytes + range.lengthBytes;
  for (let at = range.offsetBytes; at < endBytes; at += READ_BYTES) {
    const piece = await reader.read(at, Math.min(READ_BYTES, endBytes - at));
    for (const line of splitter.push(piece)) if (!isBlank(line.bytes)) yield line;
    const { tooLong } = splitter;
    if (tooLong !== null) {
      throw new FallowError("line-too-long", `line ${tooLong} has more than ${LINE_BYTES_MAX} bytes`, {
        data: { line: tooLong },
      });
    }
  }
  const last = splitter.end();
  if (last !== null && !isBlank(last.bytes)) yield last;
}
