import { CliError } from "./cli-error.ts";
import { EXIT } from "./exit-codes.ts";

const POWERS: Readonly<Record<string, number>> = { "": 0, K: 1, M: 2, G: 3, T: 4 };

/** `8GiB`, `8G`, `512M` or plain bytes. All units are binary, as operating systems count memory. */
export function parseBytes(text: string): number {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?$/i.exec(text.trim()) ?? [];
  const bytes = Number(digits) * 1_024 ** (POWERS[(unit ?? "").toUpperCase()] ?? 0);
  if (digits !== undefined && Number.isSafeInteger(Math.floor(bytes)) && bytes >= 1) return Math.floor(bytes);
  throw new CliError(`${text} is no size`, { exitCode: EXIT.usage, code: "usage", fix: "write it as 8GiB or 512MiB" });
}
