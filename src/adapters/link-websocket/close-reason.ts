/** What a close frame can say: `ws` throws at a longer reason, and parts of reasons are words of the other end. */

/** RFC 6455: a close frame carries 125 bytes, two of them the code. */
const REASON_BYTES_MAX = 123;

/** The longest beginning of the text that fits. */
export function closeReason(text: string): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= REASON_BYTES_MAX) return text;
  let end = REASON_BYTES_MAX;
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
  return bytes.subarray(0, end).toString();
}
