/** `fallow doctor`: looks at everything that can stand in the way, and says for each problem what causes it and what mends it. */

import { describeFault } from "../../domain/fault.ts";
import { type AttachedFlags, attachedWishOf } from "../attached-flags.ts";
import { checkAttached } from "../doctor/attached-checks.ts";
import { checkCertificate } from "../doctor/certificate-checks.ts";
import { type Check, problem } from "../doctor/check.ts";
import { checkEngine } from "../doctor/engine-checks.ts";
import { checkGpu } from "../doctor/gpu-checks.ts";
import { checkGrid } from "../doctor/grid-checks.ts";
import {
  checkDisk,
  checkFiles,
  checkHome,
  checkLock,
  checkMemory,
  checkNode,
  checkPort,
} from "../doctor/machine-checks.ts";
import { EXIT } from "../exit-codes.ts";
import { counted, plain } from "../format.ts";
import type { GlobalOptions } from "../grid-client.ts";
import { homeFolder } from "../home/home-folder.ts";
import { printJson, printLine } from "../terminal.ts";

type Look = () => Check | readonly Check[] | Promise<Check | readonly Check[]>;

export async function runDoctor(options: GlobalOptions & AttachedFlags & { port: number }): Promise<void> {
  const home = homeFolder(options.home);
  const attached = attachedWishOf(options);
  const looks: readonly (readonly [name: string, look: Look])[] = [
    ["node", checkNode],
    ["memory", checkMemory],
    ["disk", () => checkDisk(home)],
    ["open files", checkFiles],
    ["home", () => checkHome(home)],
    ["lock", () => checkLock(home)],
    ["port", () => checkPort(options.port, home)],
    ["engine", () => checkEngine(home)],
    ["gpu", () => checkGpu(home)],
    ["attached engine", () => (attached === null ? [] : checkAttached(attached))],
    ["certificate", () => checkCertificate(home)],
    ["coordinator", () => checkGrid(options)],
  ];
  const checks: Check[] = [];
  for (const [name, look] of looks) {
    const found = await lookAt(name, look);
    checks.push(...found);
    if (options.json !== true) for (const check of found) print(check);
  }
  const problems = checks.filter(({ state }) => state === "problem").length;
  if (problems > 0) process.exitCode = EXIT.checkFailed;
  if (options.json === true) printJson({ ok: problems === 0, checks });
  else printLine(problems === 0 ? "\nno problem found" : `\n${counted(problems, "problem")} found`);
}

/** A check that itself fails is a finding, and the others still run. */
async function lookAt(name: string, look: Look): Promise<readonly Check[]> {
  try {
    const found = await look();
    return "state" in found ? [found] : found;
  } catch (thrown) {
    return [
      problem(
        name,
        `could not be checked: ${describeFault(thrown)}`,
        "mend what the message names, then run doctor again",
      ),
    ];
  }
}

const MARKS = { ok: "ok     ", problem: "PROBLEM", skipped: "skipped" } as const;

function print(check: Check): void {
  printLine(`${MARKS[check.state]}  ${check.name.padEnd(15)} ${plain(check.detail)}`);
  if (check.fix !== null) printLine(`         ${" ".repeat(15)} fix: ${plain(check.fix)}`);
}
