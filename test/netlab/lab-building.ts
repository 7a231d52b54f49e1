/** Carries out a lab's plan: namespaces, cables, devices, addresses, routes, rules; and sees that TCP is what was asked for. */
import type { EmulatorClient } from "./emulator-client.ts";
import type { LabPlan, LanPortPlan, MachinePlan } from "./lab-plan.ts";
import { MTU_BYTES } from "./lab-plan.ts";
import { commandIn, ipBatch } from "./namespaces.ts";

/** Of a port with a rate: what may pass at once, and for how long packets wait. */
const PORT_BURST = "256kb";
const PORT_LATENCY = "50ms";
const BRIDGE = "br0";

export async function carryOut(plan: LabPlan, emulator: EmulatorClient): Promise<void> {
  const machines = [...plan.hosts, ...plan.routers];
  const ports = [...plan.ports.values()];
  await ipBatch([...machines, ...plan.switches].map(({ namespace }) => `netns add ${namespace}`));
  await Promise.all(
    plan.switches.map(({ namespace }) =>
      // Multicast goes to every port, as on a switch without snooping: there is no querier in a lab.
      ipBatch([`link add ${BRIDGE} type bridge mcast_snooping 0`, `link set ${BRIDGE} mtu ${MTU_BYTES} up`], namespace),
    ),
  );
  await ipBatch(ports.map(cable));
  await Promise.all(
    plan.switches.map(({ namespace }) =>
      ipBatch(
        ports
          .filter(({ switchNamespace }) => switchNamespace === namespace)
          .map(({ switchDevice }) => `link set ${switchDevice} mtu ${MTU_BYTES} master ${BRIDGE} up`),
        namespace,
      ),
    ),
  );
  await emulator.order({ op: "open", links: [...plan.links] });
  await Promise.all(machines.map(prepare));
  await Promise.all(ports.filter(({ rateMbit }) => rateMbit !== null).map(limit));
}

function cable({ namespace, device, switchNamespace, switchDevice }: LanPortPlan): string {
  return `link add ${device} netns ${namespace} type veth peer name ${switchDevice} netns ${switchNamespace}`;
}

/** A host's namespace keeps nothing of earlier connections, so that one measurement does not teach the next. */
async function prepare({ namespace, setUp, nft, congestion }: MachinePlan): Promise<void> {
  await ipBatch(setUp, namespace);
  const settings = ["echo 1 > /proc/sys/net/ipv4/tcp_no_metrics_save"];
  if (nft !== null) settings.push("echo 1 > /proc/sys/net/ipv4/ip_forward", "exec nft -f -");
  const args = ["netns", "exec", namespace, "sh", "-c", settings.join(" && ")];
  await commandIn({ command: "ip", args, ...(nft === null ? {} : { input: nft }) });
  if (congestion === null) return;
  const routes = await commandIn({ command: "ip", args: ["-n", namespace, "route", "show"] });
  const unlabelled = routes.split("\n").filter((route) => route !== "" && !route.includes(`congctl ${congestion}`));
  const other = unlabelled.filter((route) => !route.startsWith("224."));
  if (other.length > 0) throw new Error(`${namespace}: the kernel did not take ${congestion} for ${other.join("; ")}`);
}

async function limit({ namespace, device, switchNamespace, switchDevice, rateMbit }: LanPortPlan): Promise<void> {
  for (const [where, port] of [
    [namespace, device],
    [switchNamespace, switchDevice],
  ] as const) {
    const bucket = ["tbf", "rate", `${rateMbit}mbit`, "burst", PORT_BURST, "latency", PORT_LATENCY];
    await commandIn({ command: "tc", args: ["-n", where, "qdisc", "add", "dev", port, "root", ...bucket] });
  }
}
