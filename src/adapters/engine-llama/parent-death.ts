/** No orphan holds the owner's GPU: Linux kills this process when its parent ends, however that ends. */
import koffi from "koffi";

const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;

export function dieWithParent(): void {
  if (process.platform !== "linux") return;
  const parentId = process.ppid;
  const prctl: (option: number, value: number) => number = koffi.load(null).func("int prctl(int, unsigned long)");
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The parent may have gone before the call took effect.
  if (process.ppid !== parentId) process.exit(0);
}
