/**
 * Which names a file of weights may have. A name comes from a hub, an archive or another grid and ends as a file on an owner's disk, on
 * any system: one that leaves its folder, hides, names a device of Windows or looks like another is refused.
 */

/** ext4, APFS and NTFS take 255 bytes or more; the store adds endings of its own. */
export const FILE_NAME_BYTES_MAX = 200;
const SEPARATORS = /[/\\]/;
/** Control, format (bidirectional overrides, zero width) and separator characters, and halves of a pair. */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;
const WINDOWS_CHARACTERS = /[<>:"|?*]/;
/** Also with an ending: `nul.gguf` is the device. The raised digits count as digits there. */
const WINDOWS_DEVICE = /^(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\.|$)/i;

/** What is wrong with it as the end of a sentence that begins with the name; null when it is right. */
export function fileNameProblem(name: string): string | null {
  if (name === "") return "is empty";
  if (SEPARATORS.test(name)) return "has folders: a plain file name is right";
  if (name === "." || name === "..") return "is a folder";
  if (INVISIBLE.test(name)) return "has a control or invisible character";
  if (WINDOWS_CHARACTERS.test(name)) return 'has one of < > : " | ? *, which Windows does not take';
  if (name.startsWith(".")) return "begins with a dot: such names are the store's own";
  if (name !== name.trim() || name.endsWith(".")) return "begins or ends with a space, or ends with a dot";
  if (WINDOWS_DEVICE.test(name)) return "is a device on Windows";
  const bytes = utf8Length(name);
  if (bytes > FILE_NAME_BYTES_MAX) return `has ${bytes} bytes: at most ${FILE_NAME_BYTES_MAX} are taken`;
  return null;
}

/** Two names with one key are one file on some file system: those that ignore case, or the way an accent is written. */
export function fileNameKey(name: string): string {
  return name.normalize("NFKC").toLowerCase().toUpperCase();
}

function utf8Length(text: string): number {
  let bytes = 0;
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    bytes += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  }
  return bytes;
}
