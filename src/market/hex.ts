/** Bytes as text: lower-case hex, and base64 as RFC 4648 section 4 (what C2SP notes use). */

export { fromHex, toHex } from "../domain/hex.ts";

const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

export function toBase64(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 3) {
    const [a = 0, b, c] = [bytes[at], bytes[at + 1], bytes[at + 2]];
    const bits = (a << 16) | ((b ?? 0) << 8) | (c ?? 0);
    text += BASE64.charAt(bits >> 18) + BASE64.charAt((bits >> 12) & 63);
    text += b === undefined ? "=" : BASE64.charAt((bits >> 6) & 63);
    text += c === undefined ? "=" : BASE64.charAt(bits & 63);
  }
  return text;
}

/** Null unless the text is canonical, padded base64: one text per value, so that a note cannot be varied. */
export function fromBase64(text: string): Uint8Array | null {
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return null;
  const digits = text.replace(/=+$/, "");
  const bytes = new Uint8Array(Math.floor((digits.length * 3) / 4));
  let bits = 0;
  let bitCount = 0;
  let length = 0;
  for (const digit of digits) {
    bits = (bits << 6) | BASE64.indexOf(digit);
    bitCount += 6;
    if (bitCount < 8) continue;
    bitCount -= 8;
    bytes[length++] = (bits >> bitCount) & 255;
    bits &= (1 << bitCount) - 1;
  }
  return toBase64(bytes) === text ? bytes : null;
}
