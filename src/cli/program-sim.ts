/** `fallow plan` and `fallow sim …`: the planner on paper, and the simulators. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { ROUTER_NAMES } from "../scheduler/routing/router.ts";
import { CHURN_KINDS, CHURN_POLICIES } from "../sim/churn/churn-report.ts";
import { decimalNumber, wholeNumber, withCommonOptions } from "./command-options.ts";

const seed = wholeNumber({ min: 0, max: 2 ** 31 - 1 });
const HTML = "write a report to this file, one page that needs nothing else";
const DAY_S = 86_400;

export function addPlan(program: Command): void {
  const command = program
    .command("plan")
    .description("plan which node holds which layers of a cluster file's model; without one, show the grid's own plan")
    .option("--cluster <file>", "cluster file (docs/cluster-format.md); may be gzip")
    .addOption(
      new Option("--objective <goal>", "what counts; flow is the measure of published placements, not of serving")
        .choices(["throughput", "latency", "flow"])
        .default("throughput"),
    )
    .option("--seed <seed>", "seed of the search; the same gives the same plan", seed, 0)
    .option("--html <file>", HTML)
    .option("--previous <layout>", "layout file of the plan in force, to start from as well")
    .option(
      "--demand <tok/s>",
      "generated tokens per second that are wanted; more is worth nothing",
      decimalNumber({ min: 0.001, max: 1e9 }),
    )
    .option("--horizon <hours>", "how long the plan should hold", decimalNumber({ min: 0.01, max: 720 }))
    .option("--regions <names>", "only nodes of these regions, separated by commas", names)
    .option("--min-trust <share>", "only nodes with this trust, 0 to 1", decimalNumber({ min: 0, max: 1 }))
    .option("--max-price <usd>", "only nodes that cost at most so much an hour", decimalNumber({ min: 0, max: 1e6 }))
    .option("--max-hops <n>", "most nodes on any way of a request", wholeNumber({ min: 1, max: 1_000 }))
    .option("--max-wan-hops <n>", "most slow links between nodes on any way", wholeNumber({ min: 0, max: 1_000 }))
    .option(
      "--min-context <tokens>",
      "room that each node must have for one request",
      wholeNumber({ min: 1, max: 1e9 }),
    )
    .option("--apart", "never two holders of a stage with one owner or network")
    .option("--partial", "let a request enter a node in the middle of its layers")
    .addHelpText(
      "after",
      `
What --json prints is what \`fallow sim serve --layout\` takes:
  fallow plan --cluster examples/three-homes.json --json > layout.json`,
    );
  withCommonOptions(command, { isClient: true }).action(async (options) => {
    const { runPlan } = await import("./commands/plan.ts");
    await runPlan(options);
  });
}

export function addSim(program: Command): void {
  const command = program
    .command("sim")
    .description(
      "simulate: the whole grid with faults (alone), a layout under load (serve), machines that come and go (churn)",
    )
    .enablePositionalOptions()
    .option("--seed <seed>", "first seed", seed, 1)
    .option("--count <seeds>", "how many seeds, one after the other", wholeNumber({ min: 1, max: 100_000 }), 1)
    .option("--commit <hash>", "the commit on which the seed failed: refused where this is another")
    .option("--chains", "a model that fits on no node, and faults that strike its stages")
    .addOption(new Option("--trace <detail>", "print what happens").choices(["short", "full"]))
    .option("--no-replay", "do not run each seed twice to compare trace hashes");
  withCommonOptions(command, { isClient: false }).action(async (options) => {
    const { runSim } = await import("./commands/sim.ts");
    await runSim(options);
  });
  addServe(command);
  addChurn(command);
}

function addServe(sim: Command): void {
  const command = sim
    .command("serve")
    .description("serve a trace of requests with a layout of a cluster: tokens per second, latencies, bottlenecks")
    .requiredOption("--cluster <file>", "cluster file (docs/cluster-format.md); may be gzip")
    .requiredOption(
      "--layout <layout>",
      "ours, helix (layouts.ilp of the cluster file), petals, swarm, separate, parallax (our own versions), stored:NAME, or a layout file",
    )
    .requiredOption("--trace <file>", "requests: CSV of the Azure traces or JSON lines of Mooncake's; may be gzip")
    .addOption(
      new Option("--mode <mode>", "offline: as many as there is room for; online: as they arrive")
        .choices(["offline", "online"])
        .default("offline"),
    )
    .option("--warmup-s <seconds>", "before measuring", decimalNumber({ min: 0, max: DAY_S }), 60)
    .option("--duration-s <seconds>", "of measuring", decimalNumber({ min: 1, max: DAY_S }), 600)
    .option("--seed <seed>", "draws lengths, arrivals and ties; also the planner's with --layout ours", seed, 0)
    .addOption(
      new Option("--router <router>", "how requests find their way (default: the layout's own)").choices(ROUTER_NAMES),
    )
    .option(
      "--rate <tok/s>",
      "online: prompt and output tokens that arrive per second (default: 0.73 of what this layout serves offline); give it to compare layouts under one load",
      decimalNumber({ min: 0.001, max: 1e9 }),
    )
    .option(
      "--in-flight <n>",
      "offline: requests that routers without admission (all but ours and helix) keep going (default: a share of the KV room)",
      wholeNumber({ min: 1, max: 1_000_000 }),
    )
    .addOption(
      new Option("--objective <goal>", "of the planner with --layout ours")
        .choices(["throughput", "latency", "flow"])
        .default("throughput"),
    )
    .option("--html <file>", HTML);
  withCommonOptions(command, { isClient: false }).action(async (options) => {
    const { runSimServe } = await import("./commands/sim-serve.ts");
    await runSimServe(options);
  });
}

function addChurn(sim: Command): void {
  const command = sim
    .command("churn")
    .description("run a grid whose machines come and go, planned by ours and by others, and compare")
    .option("--traces <folder>", "folder of measured traces; without it everything is drawn, and said to be synthetic")
    .option(
      "--churn <kinds>",
      `of ${CHURN_KINDS.join(", ")} (default: owners, and spot with --traces)`,
      listOf(CHURN_KINDS),
    )
    .option("--policies <names>", `of ${CHURN_POLICIES.join(", ")}`, listOf(CHURN_POLICIES), [...CHURN_POLICIES])
    .option("--hours <hours>", "simulated time", decimalNumber({ min: 0.1, max: 720 }), 12)
    .option("--nodes <n>", "machines that come and go", wholeNumber({ min: 2, max: 400 }), 24)
    .option(
      "--requests-per-hour <n>",
      "mean arrivals (default: 60 for each node)",
      decimalNumber({ min: 0.1, max: 100_000 }),
    )
    .option("--seed <seed>", "first seed", seed, 0)
    .option(
      "--seeds <n>",
      "how many; ten or more for an interval that means something",
      wholeNumber({ min: 1, max: 1_000 }),
      10,
    )
    .option("--html <file>", HTML);
  withCommonOptions(command, { isClient: false }).action(async (options) => {
    const { runSimChurn } = await import("./commands/sim-churn.ts");
    await runSimChurn(options);
  });
}

const NAMES_MAX = 100;

function names(text: string): readonly string[] {
  const list = text.split(",").map((name) => name.trim());
  if (list.every((name) => name !== "") && list.length <= NAMES_MAX) return list;
  throw new InvalidArgumentError(`It must be 1 to ${NAMES_MAX} names, separated by commas.`);
}

function listOf<T extends string>(known: readonly T[]): (text: string) => readonly T[] {
  return (text) => {
    const list = names(text).map((name) => known.find((one) => one === name));
    const found = list.filter((name) => name !== undefined);
    if (found.length === list.length && new Set(found).size === found.length) return found;
    throw new InvalidArgumentError(`It must be some of ${known.join(", ")}, separated by commas, each once.`);
  };
}
