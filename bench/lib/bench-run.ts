/**
 * What every bench has in common: `--smoke` runs it small and keeps nothing; otherwise its figures go to
 * bench/results/<name>.json with the facts of the machine that matter for them.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { fileURLToPath } from "node:url";

export interface BenchRun {
  readonly isSmoke: boolean;
  /** Prints a line for people. */
  say(line: string): void;
  /** Keeps the figures, unless it is a smoke run. A missed bar is told, and is no failure: machines differ. */
  keep(figures: Figures): void;
  /** Only prints which bars are met: of a run that left something out. */
  tell(figures: Figures): void;
}

export interface Figures {
  readonly bars: readonly Bar[];
  readonly measured: Readonly<Record<string, unknown>>;
}

export interface Bar {
  readonly name: string;
  readonly value: number;
  /** Which side of the limit is good. */
  readonly wanted: "at-least" | "at-most";
  readonly limit: number;
}

const RESULTS = new URL("../results/", import.meta.url);

export function openBench(name: string): BenchRun {
  const isSmoke = process.argv.includes("--smoke");
  const say = (line: string) => console.log(line);
  const tell = ({ bars }: Figures) => {
    for (const bar of bars) {
      const sign = bar.wanted === "at-least" ? ">=" : "<=";
      say(`${isMet(bar) ? "meets " : "MISSES"} ${bar.name}: ${bar.value} (bar ${sign} ${bar.limit})`);
    }
  };
  return {
    isSmoke,
    say,
    tell,
    keep: ({ bars, measured }) => {
      tell({ bars, measured });
      if (isSmoke) return;
      mkdirSync(RESULTS, { recursive: true });
      const file = new URL(`${name}.json`, RESULTS);
      const result = { name, command: `npm run bench -- ${name}`, ...machineFacts(), bars, measured };
      writeFileSync(file, `${JSON.stringify(result, null, 2)}\n`);
      say(`written to ${fileURLToPath(file).split("/").slice(-3).join("/")}`);
    },
  };
}

export function isMet(bar: Bar): boolean {
  return bar.wanted === "at-least" ? bar.value >= bar.limit : bar.value <= bar.limit;
}

/** No host name and no path: results are published with the code. */
export function machineFacts(): Readonly<Record<string, unknown>> {
  const [cpu] = cpus();
  return {
    measuredAt: new Date().toISOString().slice(0, 10),
    commit: commit(),
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    cpu: cpu?.model ?? "unknown",
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
  };
}

function commit(): string {
  try {
    return execFileSync("git", ["rev-parse", "--short", "HEAD"], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {
    return "unknown"; // not a clone
  }
}
