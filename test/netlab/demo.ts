/**
 * Brings a lab up to try things by hand, and says what to type. Orders are read from standard input until it ends:
 *
 *     set LINK {"lossShare": 0.05}     cut LINK     restore LINK     partition ONE OTHER     heal ONE OTHER     counters
 *
 * Run it as root: node test/netlab/demo.ts [MINUTES]
 */
import { createInterface } from "node:readline";
import { linkSpecSchema } from "./link-shape.ts";
import { type Netlab, startNetlab } from "./netlab.ts";
import { startProbe } from "./probe.ts";

const MINUTES_DEFAULT = 30;
const MS_PER_MINUTE = 60_000;

const HOSTS = ["coordinator", "alice", "bob", "carol"] as const;
const NATS = ["home", "mobile"] as const;
type Name = (typeof HOSTS)[number] | (typeof NATS)[number];
type DemoLab = Netlab<(typeof HOSTS)[number], (typeof NATS)[number]>;

const minutes = Number(process.argv[2] ?? MINUTES_DEFAULT);
const lab: DemoLab = await startNetlab({
  hosts: { coordinator: {}, alice: { lan: "flat" }, bob: { lan: "flat" }, carol: { lan: "street" } },
  nats: { home: { lan: "flat", kind: "cone" }, mobile: { lan: "street", kind: "random" } },
  links: {
    coordinator: {},
    home: { delayMs: 20, rateMbit: 100 },
    mobile: { delayMs: 35, jitterMs: 10, lossShare: 0.01, rateMbit: 20 },
  },
  lifeMs: minutes * MS_PER_MINUTE,
});
const probe = await startProbe(lab.host("coordinator"));
const lines = createInterface({ input: process.stdin });
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => lines.close());

console.log(`lab ${lab.prefix} is up for ${minutes} minutes; emulator ${lab.emulatorPid}, probe ${probe.pid}`);
for (const name of HOSTS) {
  const { address, publicAddress, namespace } = lab.host(name);
  console.log(`  ${name.padEnd(12)} ${address.padEnd(14)} seen as ${publicAddress}   ip netns exec ${namespace} bash`);
}
console.log(
  `Links: ${[...NATS, "coordinator"].join(", ")}. Orders: set, cut, restore, partition, heal, counters; Ctrl-D ends it.`,
);

for await (const line of lines) {
  try {
    const said = await carryOut(line.trim());
    if (said !== "") console.log(said);
  } catch (error) {
    console.log(error instanceof Error ? error.message : String(error));
  }
}
await lab.stop();
console.log("the lab is gone");

async function carryOut(line: string): Promise<string> {
  const [order = "", one = "", ...rest] = line.split(/\s+/);
  switch (order) {
    case "":
      return "";
    case "counters":
      return JSON.stringify(await lab.counters(), null, 2);
    case "set":
      await lab.link(named(one)).set(linkSpecSchema.parse(JSON.parse(rest.join(" "))));
      return JSON.stringify(lab.link(named(one)).shape);
    case "cut":
      await lab.link(named(one)).cut();
      return "cut";
    case "restore":
      await lab.link(named(one)).restore();
      return "restored";
    case "partition":
      await lab.partition(named(one), named(rest[0] ?? ""));
      return "parted";
    case "heal":
      await lab.heal(named(one), named(rest[0] ?? ""));
      return "healed";
    default:
      return `there is no order ${order}`;
  }
}

function named(word: string): Name {
  const name = [...HOSTS, ...NATS].find((one) => one === word);
  if (name === undefined) throw new Error(`there is no ${word} in this lab`);
  return name;
}
