/**
 * A child ends with its parent and by nothing else. No orphan holds the owner's GPU: Linux kills this process when its parent
 * ends, however that ends. A Ctrl-C reaches every process of the terminal's group: the parent drains, so its children work on.
 */
import koffi from "koffi";

const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;

const TERMINAL_SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export function dieWithParent(): void {
  for (const signal of TERMINAL_SIGNALS) process.on(signal, () => undefined);
  if (process.platform !== "linux") return;
  const parentId = process.ppid;
  const prctl: (option: number, value: number) => number = koffi.load(null).func("int prctl(int, unsigned long)");
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The parent may have gone before the call took effect.
  if (process.ppid !== parentId) process.exit(0);
}
