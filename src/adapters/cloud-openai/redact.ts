/**
 * A provider's own words, fit for a message or a log: one line, short, without control characters, and without the key that we sent, which
 * some providers repeat ("Incorrect API key provided: sk-…").
 */
const WORDS_CHARS_MAX = 300;
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that must not reach a log or terminal
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]+/g;
/** A piece of a key that is shorter than this tells nothing, and may be a word of the sentence. */
const KEY_PIECE_CHARS_MIN = 6;
const MARK = "[key]";
/** What looks like a key, whosever it is. */
const KEY_LIKE = /\b(?:Bearer\s+\S+|(?:sk|pk|key|gsk|xai|tok|rk)[-_][\w-]{6,})/gi;

export function providerWords(text: string, secret: string | null): string {
  const line = text
    .slice(0, WORDS_CHARS_MAX * 8)
    .replace(CONTROL, " ")
    .trim();
  const withoutKey = secret === null ? line : withoutPieces(line, secret);
  return withoutKey.replace(KEY_LIKE, MARK).slice(0, WORDS_CHARS_MAX);
}

/** Takes out every run of at least `KEY_PIECE_CHARS_MIN` characters that the secret has too. */
function withoutPieces(line: string, secret: string): string {
  let out = "";
  let at = 0;
  while (at < line.length) {
    let length = 0;
    if (secret.includes(line.slice(at, at + KEY_PIECE_CHARS_MIN)) && at + KEY_PIECE_CHARS_MIN <= line.length) {
      length = KEY_PIECE_CHARS_MIN;
      while (at + length < line.length && secret.includes(line.slice(at, at + length + 1))) length += 1;
    }
    out += length > 0 ? MARK : line.charAt(at);
    at += Math.max(1, length);
  }
  return out;
}
