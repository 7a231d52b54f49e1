/** CRC-32 (ISO 3309, the polynomial of zip and Ethernet), four bytes at a step: finds what was damaged, not what was forged. */

const POLYNOMIAL = 0xedb88320;

/** Four tables of 256: the second to fourth move a byte's remainder on by one to three bytes. */
const TABLES = tables();

export function crc32(bytes: Uint8Array): number {
  const [one, two, three, four] = TABLES;
  let crc = -1;
  let at = 0;
  for (const end = bytes.length - 3; at < end; at += 4) {
    crc ^= (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24);
    crc =
      (four[crc & 255] ?? 0) ^
      (three[(crc >>> 8) & 255] ?? 0) ^
      (two[(crc >>> 16) & 255] ?? 0) ^
      (one[crc >>> 24] ?? 0);
  }
  for (; at < bytes.length; at++) crc = (one[(crc ^ (bytes[at] ?? 0)) & 255] ?? 0) ^ (crc >>> 8);
  return ~crc >>> 0;
}

function tables(): readonly [Int32Array, Int32Array, Int32Array, Int32Array] {
  const [one, two, three, four] = [new Int32Array(256), new Int32Array(256), new Int32Array(256), new Int32Array(256)];
  for (let byte = 0; byte < 256; byte++) {
    let rest = byte;
    for (let bit = 0; bit < 8; bit++) rest = rest & 1 ? (rest >>> 1) ^ POLYNOMIAL : rest >>> 1;
    one[byte] = rest;
  }
  const next = (rest: number) => (rest >>> 8) ^ (one[rest & 255] ?? 0);
  for (let byte = 0; byte < 256; byte++) {
    two[byte] = next(one[byte] ?? 0);
    three[byte] = next(two[byte] ?? 0);
    four[byte] = next(three[byte] ?? 0);
  }
  return [one, two, three, four];
}
