/** Commands that run something on this machine: the grid, an agent, checks, keys of the node. */
import { type Command, Option } from "commander";
import { CHAIN_PROBES, PROBE_SECONDS_MAX } from "../coordinator/chains/chain-probes.ts";
import { WIRE_FORMATS, type WireFormat } from "../domain/chain.ts";
import { SPARES_PER_CHAIN_MAX } from "../scheduler/chains/choose-spares.ts";
import { withAttachedOptions } from "./attached-flags.ts";
import {
  decimalNumber,
  deviceMemory,
  hostPort,
  MBIT_MAX,
  megabits,
  pricePerHour,
  regionName,
  tierFactor,
  wholeNumber,
  withCommonOptions,
} from "./command-options.ts";
import { withGpuSplitOptions } from "./gpu-split-flags.ts";
import { engineOption } from "./program-engine.ts";
import { addPlan, addSim } from "./program-sim.ts";

const PORT_DEFAULT = 8_420;
const port = wholeNumber({ min: 0, max: 65_535 });

export function addHostCommands(program: Command): void {
  addUp(program);
  addJoin(program);
  addDiscover(program);
  addAgentRun(program);
  addDoctor(program);
  addIdentity(program);
  addPlan(program);
  addSim(program);
}

const PRICE_HELP =
  "what you want for an hour of this machine while it serves, e.g. 0.15: cheaper ones are planned first";
const REGION_HELP = "where this machine stands, e.g. eu or us-east: callers may demand a region";

const MAX_VRAM_HELP =
  "use at most so much memory of each device (a GPU, or the CPU's pool), e.g. 8GiB: a model that needs more is split over several nodes";

/** How much of its line an owner lends; kept in the home, so that it is said once. */
function withTransferOptions(command: Command): Command {
  return command
    .option("--upload-mbit <n>", "send other nodes at most so much; `none` for no cap (kept in the home)", megabits)
    .option("--download-mbit <n>", "fetch at most so much; `none` for no cap (kept in the home)", megabits)
    .option(
      "--quiet-hours <when>",
      'hours in which less is moved, e.g. "Mon-Fri 08:00-18:00"; `none` for none (kept in the home)',
    )
    .option(
      "--quiet-mbit <n>",
      "what may be moved each way in quiet hours (default: nothing)",
      decimalNumber({ min: 0, max: MBIT_MAX }),
    );
}

const NO_SPECULATION_HELP = "send no drafts around the chains whose first stage is here";

/** Of models that are split over nodes. */
function withChainOptions(command: Command): Command {
  return command
    .option("--max-vram <size>", MAX_VRAM_HELP, deviceMemory)
    .option("--no-speculation", NO_SPECULATION_HELP)
    .addOption(
      new Option(
        "--stage-wire <format>",
        "numbers between the stages of a model that is split over nodes: f32 gives the unsplit model's answers bit by bit, f16 takes half the bytes",
      )
        .choices(WIRE_FORMATS)
        .default("f16" satisfies WireFormat),
    )
    .option(
      "--chain-spares <n>",
      "stages that are kept loaded a second time for each split model, where memory is free",
      wholeNumber({ min: 0, max: SPARES_PER_CHAIN_MAX }),
      1,
    )
    .option(
      "--chain-probes <seconds>",
      "how often each split model is asked something of which the layers' work is known, to find stages that give garbage; 0: never",
      wholeNumber({ min: 0, max: PROBE_SECONDS_MAX }),
      CHAIN_PROBES.everyMs / 1_000,
    );
}

function addUp(program: Command): void {
  const command = program
    .command("up")
    .description("start a grid on this machine: coordinator, one agent, a model")
    .addOption(
      new Option("--port <port>", "port to listen on; 0 picks a free one")
        .env("FALLOW_PORT")
        .default(PORT_DEFAULT)
        .argParser(port),
    )
    .option("--host <address>", "address to listen on; beyond loopback TLS is used", "127.0.0.1")
    .option(
      "--tls-cert <file>",
      "serve with this certificate (PEM, a chain is fine) instead of the grid's own; with --tls-key",
    )
    .option("--tls-key <file>", "private key of --tls-cert, PEM")
    .option("--database <where>", "SQLite file or postgres:// address (default: grid.sqlite in the home)")
    .option("--model <reference>", "serve this model too, e.g. hf:owner/repo or a file, and wait until it is ready")
    .option(
      "--warm <replicas>",
      "replicas of the bundled model that are kept ready",
      wholeNumber({ min: 0, max: 1_000 }),
      2,
    )
    .option("--no-agent", "run no agent on this machine")
    .option("--region <name>", REGION_HELP, regionName)
    .option("--price-per-hour <usd>", PRICE_HELP, pricePerHour)
    .option(
      "--threads <n>",
      "CPU threads of each engine (default: half of the cores)",
      wholeNumber({ min: 1, max: 1_024 }),
    )
    .addOption(engineOption())
    .option(
      "--tier-price <tier=factor>",
      "what a tier costs, as a factor of the model's price, e.g. flex=0.5 (our own) or priority=2; once for each tier",
      tierFactor,
    )
    .option(
      "--client-stall <seconds>",
      "a client that reads nothing of its stream for so long is gone",
      decimalNumber({ min: 0.1, max: 3_600 }),
      60,
    )
    .option(
      "--peer-port <port>",
      "first of four UDP ports for hole punching between nodes (default: the number of --port)",
      wholeNumber({ min: 1, max: 65_532 }),
    )
    .option(
      "--peer-address <ipv4>",
      "where nodes reach those ports, when it is not this machine's own address (default: the first of the join code)",
    )
    .option("--no-udp", "no hole punching: nodes without a direct way go through the coordinator")
    .option("--no-relay", "carry nothing between nodes: those without a way to each other stay apart")
    .option("--no-lan", "do not tell the local network of this grid")
    .addOption(
      new Option("--log-level <level>", "what is logged to stderr")
        .choices(["debug", "info", "warn", "error", "silent"])
        .default("warn"),
    )
    .addHelpText(
      "after",
      `
With --json stdout gets exactly one line once the grid answers:
  {"event":"ready","apiUrl":…,"baseUrl":…,"apiKey":…,"joinCode":…,"dashboardUrl":…}
Ctrl-C drains for at most 5 s and ends with 0; a second Ctrl-C ends at once.`,
    );
  withGpuSplitOptions(command);
  withAttachedOptions(command);
  withTransferOptions(withChainOptions(withCommonOptions(command, { isClient: false }))).action(async (options) => {
    const { runUp } = await import("./commands/up.ts");
    await runUp(options);
  });
}

function addJoin(program: Command): void {
  const command = program
    .command("join")
    .description("lend this machine to a grid")
    .argument("[code]", "join code from the grid; needed the first time only")
    .option("--name <name>", "name shown in the grid (default: the host name)")
    .option("--max-vram <size>", MAX_VRAM_HELP, deviceMemory)
    .addOption(new Option("--max-memory <size>", "the former name of --max-vram").argParser(deviceMemory).hideHelp())
    .option("--no-speculation", NO_SPECULATION_HELP)
    .option(
      "--max-weights <size>",
      "keep at most this much of models' files, e.g. 50GiB (default: what the disk takes)",
    )
    .option(
      "--weights-folder <dir>",
      "keep models' files there; several agents of this machine may share it (default: in the home)",
    )
    .option(
      "--peer-port <port>",
      "TCP port for other nodes (default: a free one)",
      wholeNumber({ min: 1, max: 65_535 }),
    )
    .option("--peer-address <host:port>", "where a router forwards to that port from outside", hostPort)
    .option("--no-peers", "take weights from the grid's coordinator alone, and give other nodes none")
    .option("--no-udp", "no hole punching")
    .option("--no-relay", "never through the coordinator")
    .option("--no-lan", "do not look for other nodes on the local network, nor be found there")
    .option("--region <name>", REGION_HELP, regionName)
    .option("--price-per-hour <usd>", PRICE_HELP, pricePerHour)
    .option(
      "--threads <n>",
      "CPU threads of each engine (default: half of the cores)",
      wholeNumber({ min: 1, max: 1_024 }),
    )
    .addOption(engineOption())
    .addOption(
      new Option("--log-level <level>", "what is logged to stderr")
        .choices(["debug", "info", "warn", "error", "silent"])
        .default("warn"),
    );
  withGpuSplitOptions(command);
  withAttachedOptions(command);
  withTransferOptions(withCommonOptions(command, { isClient: false })).action(
    async (code: string | undefined, options) => {
      const { runJoin } = await import("./commands/join.ts");
      await runJoin(code ?? null, options);
    },
  );
}

function addDiscover(program: Command): void {
  const command = program
    .command("discover")
    .description("list the grids that tell of themselves on this local network")
    .option("--seconds <n>", "how long answers are waited for", decimalNumber({ min: 0.5, max: 60 }), 3);
  withCommonOptions(command, { isClient: false }).action(async (options) => {
    const { runDiscover } = await import("./commands/discover.ts");
    await runDiscover(options);
  });
}

/** The agent of `fallow up`, as its child process. Talks over the IPC channel and ends when the channel closes. */
function addAgentRun(program: Command): void {
  program.command("agent-run", { hidden: true }).action(async () => {
    const { runAgentChild } = await import("./commands/agent-run.ts");
    await runAgentChild();
  });
}

function addDoctor(program: Command): void {
  const command = program
    .command("doctor")
    .description("check this machine and home, and with --engine-url a server; name each problem's cause and fix")
    .addOption(
      new Option("--port <port>", "port that `fallow up` would use")
        .env("FALLOW_PORT")
        .default(PORT_DEFAULT)
        .argParser(port),
    );
  withAttachedOptions(command);
  withCommonOptions(command, { isClient: true }).action(async (options) => {
    const { runDoctor } = await import("./commands/doctor.ts");
    await runDoctor(options);
  });
}

function addIdentity(program: Command): void {
  const identity = program.command("identity").description("export or restore the key that is this node's identity");
  withCommonOptions(
    identity.command("export").description("write the node's key to a file, or to stdout").argument("[file]"),
    { isClient: false },
  ).action(async (file: string | undefined, options) => {
    const { exportIdentity } = await import("./commands/identity.ts");
    await exportIdentity(file ?? null, options);
  });
  withCommonOptions(
    identity.command("restore").description("make an exported key this home's identity").argument("<file>"),
    { isClient: false },
  ).action(async (file: string, options) => {
    const { restoreIdentity } = await import("./commands/identity.ts");
    await restoreIdentity(file, options);
  });
}
