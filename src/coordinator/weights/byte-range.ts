/** One byte range of a request (RFC 9110 section 14). Several ranges may be answered with the whole file, and are. */
export interface ByteRange {
  readonly from: number;
  /** Exclusive. */
  readonly to: number;
}

/** Null for no range, or one that need not be honoured. */
export function readRange(header: string | null, fileBytes: number): ByteRange | "unsatisfiable" | null {
  const [, first = "", last = ""] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header ?? "") ?? [];
  if (first === "" && last === "") return null;
  if (first === "") {
    const count = Math.min(Number(last), fileBytes);
    return count === 0 ? "unsatisfiable" : { from: fileBytes - count, to: fileBytes };
  }
  const from = Number(first);
  const to = last === "" ? fileBytes : Math.min(Number(last) + 1, fileBytes);
  if (last !== "" && Number(last) < from) return null;
  return from >= fileBytes ? "unsatisfiable" : { from, to };
}
