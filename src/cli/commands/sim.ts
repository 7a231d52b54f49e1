/**
 * `fallow sim`: the real coordinator and agents on virtual time, a bad network and drawn faults, with the laws checked after every
 * event. A seed gives the same run on the same commit; unless told otherwise each is run twice and the hashes are compared.
 * Exit code 5 when a law was broken or a replay differed.
 */
import { runSimulation, type SimulationResult } from "../../sim/run-simulation.ts";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { isSameCommit, sourceCommit } from "../source-commit.ts";
import { note, printJson, printLine } from "../terminal.ts";

export interface SimOptions {
  readonly seed: number;
  readonly count: number;
  readonly replay: boolean;
  readonly commit?: string;
  readonly trace?: "short" | "full";
  /** A model that fits on no node, and faults that strike its stages. */
  readonly chains?: boolean;
  readonly json?: boolean;
}

/** A broken law usually breaks others right after; the first ones say what happened. */
const VIOLATIONS_SHOWN = 5;

export async function runSim(options: SimOptions): Promise<void> {
  const commit = sourceCommit();
  if (options.commit !== undefined && commit !== null && !isSameCommit(options.commit, commit)) {
    const message = `the seed failed on commit ${options.commit}, this is ${commit}: another program draws another history`;
    throw new CliError(message, {
      exitCode: EXIT.refused,
      code: "commit-differs",
      fix: `git checkout ${options.commit}`,
    });
  }
  let failed = 0;
  for (let seed = options.seed; seed < options.seed + options.count; seed++) {
    const hasChains = options.chains === true;
    const result = await runSimulation({ seed, hasChains, detail: options.trace ?? "none" });
    const replayed = options.replay ? await runSimulation({ seed, hasChains }) : null;
    const isReplayed = replayed === null ? null : replayed.hash === result.hash;
    const isGood = result.violations.length === 0 && isReplayed !== false;
    if (!isGood) failed++;
    if (options.json === true) printJson({ ...result, isGood, isReplayed });
    else print(result, { isGood, isReplayed });
    const which = `${hasChains ? " --chains" : ""} --seed ${seed}${commit === null ? "" : ` --commit ${commit}`}`;
    if (!isGood) note(`fallow: to see it again: fallow sim${which}`);
  }
  if (failed === 0) return;
  process.exitCode = EXIT.checkFailed;
  note(`fallow: ${failed} of ${options.count} seeds failed`);
}

function print(result: SimulationResult, verdict: { isGood: boolean; isReplayed: boolean | null }): void {
  const { seed, hash, stats, violations } = result;
  for (const line of result.lines) printLine(line);
  const outcomes = Object.entries(stats.outcomes)
    .map(([name, count]) => `${count} ${name}`)
    .join(", ");
  const replay = verdict.isReplayed === null ? "" : verdict.isReplayed ? ", replayed alike" : ", REPLAY DIFFERS";
  printLine(
    `seed ${seed}: ${verdict.isGood ? "ok" : "FAILED"}, ${hash.slice(0, 16)}${replay}; ` +
      `${stats.nodes} nodes, ${(stats.virtualMs / 1_000).toFixed(0)} s, ${stats.events} events; ` +
      `${outcomes}; ${stats.moved} moved; faults: ${stats.faults.join(", ") || "none"}`,
  );
  for (const { law, atMs, what } of violations.slice(0, VIOLATIONS_SHOWN)) {
    printLine(`  broken at ${(atMs / 1_000).toFixed(3)} s: ${law}: ${what}`);
  }
}
