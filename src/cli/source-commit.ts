import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";

/** The commit that this clone stands on, in short; null when it is no clone, or there is no git. */
export function sourceCommit(): string | null {
  try {
    const cwd = fileURLToPath(new URL(".", import.meta.url));
    return execFileSync("git", ["rev-parse", "--short", "HEAD"], { cwd, encoding: "utf8", stdio: "pipe" }).trim();
  } catch {
    return null; // an installed package has no commit
  }
}

/** True when one names the other in short. */
export function isSameCommit(a: string, b: string): boolean {
  return a.startsWith(b) || b.startsWith(a);
}
