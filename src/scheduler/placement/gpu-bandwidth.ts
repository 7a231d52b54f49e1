/**
 * A GPU's memory bandwidth by the name that its driver gives it. Drivers write one card in many ways ("NVIDIA GeForce RTX 4090",
 * "AMD Radeon RX 7900 XTX (RADV NAVI31)", "Tesla V100-SXM2-16GB"), so a name is reduced to the words that tell cards apart. A word that
 * may change the chip ("Ti", "Laptop", "XT") is never dropped: a card that is not in the table is unknown, and not its nearest name.
 */
import { GPU_BANDWIDTHS } from "./gpu-bandwidths.ts";

/** Makers, brands and other words that tell no card from another. */
const PLAIN_WORDS: ReadonlySet<string> = new Set(
  "nvidia geforce amd ati radeon instinct intel tesla quadro corporation graphics gpu generation series edition with design blackwell workstation server data center".split(
    " ",
  ),
);
/** How a card is built in; the table names those for which that changes the bandwidth. */
const FORM_WORDS = /^(maxq|pcie|sxm\d?|nvl|oam|hbm\d?e?|mxm)$/;
const SIZE = /\b(\d+) ?(?:gb|gib)\b/;
const NAME_CHARS_MAX = 128;
const GIB = 2 ** 30;

const BY_KEY: ReadonlyMap<string, number> = new Map(
  Object.entries(GPU_BANDWIDTHS).map(([name, gbPerSecond]) => {
    const { words, size } = wordsOf(name);
    return [keyOf(words, size), gbPerSecond * 1e9];
  }),
);

/** Bytes a second; null when the table does not know the card. */
export function gpuBytesPerSecond(device: { readonly name: string; readonly memoryBytes: number }): number | null {
  const { words, size } = wordsOf(device.name.slice(0, NAME_CHARS_MAX));
  const sizes = [size ?? String(Math.round(device.memoryBytes / GIB)), null];
  const bare = words.filter((word) => !FORM_WORDS.test(word));
  for (const some of [words, bare]) {
    for (const one of sizes) {
      const found = BY_KEY.get(keyOf(some, one));
      if (found !== undefined) return found;
    }
  }
  return null;
}

function wordsOf(name: string): { readonly words: readonly string[]; readonly size: string | null } {
  const text = name
    .toLowerCase()
    .replace(/\([^()]*\)/g, " ")
    .replace(/max-q/g, "maxq")
    .replace(/[^a-z0-9]+/g, " ");
  const words = text.replace(SIZE, " ").split(" ");
  return {
    words: words.filter((word) => word !== "" && !PLAIN_WORDS.has(word)),
    size: SIZE.exec(text)?.[1] ?? null,
  };
}

/** Words joined without a gap: "RX7900 XT" and "RX 7900XT" are one card. */
function keyOf(words: readonly string[], size: string | null): string {
  return size === null ? words.join("") : `${words.join("")} ${size}`;
}
