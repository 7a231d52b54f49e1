/**
 * From what a lab asks for to the namespaces, devices, addresses and routes that make it: decided here, carried out elsewhere.
 *
 * Each host or NAT router with an entry in `links` has a public address, 203.0.113.n, on a device `wan0` of the emulator. Each
 * LAN is a bridge in a namespace of its own, 192.168.n.0/24 with `.1` for its router; hosts have `eth0`, routers `lan0`. LAN
 * addresses are private ones, because programs treat them as such. Nothing leads out of the lab.
 */
import { type LinkShape, type LinkSpec, PLAIN_SHAPE, reshape } from "./link-shape.ts";
import { LAN_DEVICE, type NatSpec, natRules, WAN_DEVICE } from "./nat-rules.ts";

/** Every device of a lab: small enough for tunnels on real paths, and the same on both sides of a router. */
export const MTU_BYTES = 1_400;
/** Packets that wait in the kernel for the emulator to read them. */
const TUN_QUEUE_PACKETS = 4_000;
const PUBLIC_PREFIX = "203.0.113";
/** As many as the public range has addresses. */
const LINKS_MAX = 250;
const LANS_MAX = 100;
const LAN_HOSTS_MAX = 200;
const NAME = /^[a-z][a-z0-9-]{0,30}$/;

export type Congestion = "cubic" | "reno" | "bbr";

export interface HostSpec {
  /** The LAN that it is on; with a NAT there, that is its way out. */
  readonly lan?: string;
  /** For this host's TCP; default is the lab's. */
  readonly congestion?: Congestion;
}

export interface LanSpec {
  /** Of each port, both ways (token bucket); as fast as the machine without. */
  readonly rateMbit?: number;
}

export interface LabSpec<Host extends string, Nat extends string> {
  readonly hosts: Readonly<Record<Host, HostSpec>>;
  readonly nats?: Readonly<Record<Nat, NatSpec>>;
  /** One for each NAT and for each host that is on the internet itself. */
  readonly links?: Readonly<Partial<Record<NoInfer<Host | Nat>, LinkSpec>>>;
  /** LANs need no entry here; it says how fast they are. */
  readonly lans?: Readonly<Record<string, LanSpec>>;
  /** What TCP does everywhere in the lab; default is what the kernel does. */
  readonly congestion?: Congestion;
  /** Losses and jitter are drawn from it. */
  readonly seed?: number;
  /** After this the lab is removed with all that runs in it. */
  readonly lifeMs?: number;
}

export interface MachinePlan {
  readonly name: string;
  readonly namespace: string;
  /** Its own: the LAN's where it is on one. */
  readonly address: string;
  /** As the internet sees it; null without a way there. */
  readonly publicAddress: string | null;
  readonly congestion: Congestion | null;
  /** For `ip -batch` in its namespace, once its devices exist. */
  readonly setUp: readonly string[];
  readonly nft: string | null;
}

export interface LanPortPlan {
  readonly lan: string;
  readonly namespace: string;
  readonly switchNamespace: string;
  readonly device: string;
  readonly switchDevice: string;
  readonly rateMbit: number | null;
}

export interface LinkPlan {
  readonly name: string;
  readonly namespace: string;
  readonly address: string;
  readonly shape: LinkShape;
  readonly seed: number;
}

export interface LabPlan {
  readonly hosts: readonly MachinePlan[];
  readonly routers: readonly MachinePlan[];
  readonly switches: readonly { readonly lan: string; readonly namespace: string }[];
  readonly ports: ReadonlyMap<string, LanPortPlan>;
  readonly links: readonly LinkPlan[];
}

export function planLab(spec: LabSpec<string, string>, prefix: string): LabPlan {
  const nats = Object.entries(spec.nats ?? {});
  const hosts = Object.entries(spec.hosts);
  check(spec);
  const linkNames = Object.keys(spec.links ?? {});
  const links = linkNames.map((name, index) => ({
    name,
    namespace: prefix + name,
    address: `${PUBLIC_PREFIX}.${index + 1}`,
    shape: reshape(PLAIN_SHAPE, spec.links?.[name] ?? {}),
    seed: (spec.seed ?? 1) * LINKS_MAX + index,
  }));
  const addressOf = new Map(links.map(({ name, address }) => [name, address]));
  const lanNames = [...new Set([...nats, ...hosts].flatMap(([, { lan }]) => (lan === undefined ? [] : [lan])))];
  const networkOf = new Map(lanNames.map((lan, index) => [lan, `192.168.${index + 1}`]));
  const onLan = (lan: string) => [...nats, ...hosts].filter(([, one]) => one.lan === lan).map(([name]) => name);
  const ports = lanNames.flatMap((lan) =>
    onLan(lan).map((name, index): [string, LanPortPlan] => [
      name,
      {
        lan,
        namespace: prefix + name,
        switchNamespace: `${prefix}lan-${lan}`,
        device: spec.nats?.[name] === undefined ? "eth0" : LAN_DEVICE,
        switchDevice: `p${index}`,
        rateMbit: spec.lans?.[lan]?.rateMbit ?? null,
      },
    ]),
  );
  const routerOf = new Map(nats.map(([name, { lan }]) => [lan, name]));

  const planHost = ([name, { lan, congestion }]: readonly [string, HostSpec]): MachinePlan => {
    const network = lan === undefined ? undefined : networkOf.get(lan);
    const router = lan === undefined ? undefined : routerOf.get(lan);
    const own = addressOf.get(name);
    const lanAddress =
      lan === undefined || network === undefined
        ? undefined
        : `${network}.${2 + hosts.filter((other) => other[1].lan === lan).findIndex(([other]) => other === name)}`;
    const control = congestion ?? spec.congestion ?? null;
    const metric = control === null ? "" : ` congctl ${control}`;
    return {
      name,
      namespace: prefix + name,
      address: lanAddress ?? own ?? "127.0.0.1",
      publicAddress: own ?? addressOf.get(router ?? "") ?? null,
      congestion: control,
      setUp: [
        "link set lo up",
        ...(network === undefined || lanAddress === undefined ? [] : lanSetUp("eth0", lanAddress, network, metric)),
        ...(own === undefined ? [] : wanSetUp(own, metric)),
        ...(own !== undefined || network === undefined
          ? []
          : [
              router === undefined
                ? "route replace 224.0.0.0/4 dev eth0"
                : `route replace default via ${network}.1${metric}`,
            ]),
      ],
      nft: null,
    };
  };
  const planRouter = ([name, nat]: readonly [string, NatSpec]): MachinePlan => {
    const network = networkOf.get(nat.lan) ?? "";
    const address = addressOf.get(name) ?? "";
    return {
      name,
      namespace: prefix + name,
      address,
      publicAddress: address,
      congestion: null,
      setUp: ["link set lo up", ...lanSetUp(LAN_DEVICE, `${network}.1`, network, ""), ...wanSetUp(address, "")],
      nft: natRules(nat),
    };
  };
  return {
    hosts: hosts.map(planHost),
    routers: nats.map(planRouter),
    switches: lanNames.map((lan) => ({ lan, namespace: `${prefix}lan-${lan}` })),
    ports: new Map(ports),
    links,
  };
}

function lanSetUp(device: string, address: string, network: string, metric: string): readonly string[] {
  return [
    `link set ${device} mtu ${MTU_BYTES} up`,
    `addr add ${address}/24 dev ${device} noprefixroute`,
    `route replace ${network}.0/24 dev ${device} scope link src ${address}${metric}`,
  ];
}

function wanSetUp(address: string, metric: string): readonly string[] {
  return [
    `link set ${WAN_DEVICE} mtu ${MTU_BYTES} txqueuelen ${TUN_QUEUE_PACKETS} addrgenmode none`,
    `link set ${WAN_DEVICE} up`,
    `addr add ${address}/32 dev ${WAN_DEVICE}`,
    `route replace default dev ${WAN_DEVICE} src ${address}${metric}`,
  ];
}

function check(spec: LabSpec<string, string>): void {
  const hosts = Object.keys(spec.hosts);
  const nats = Object.entries(spec.nats ?? {});
  const links = Object.keys(spec.links ?? {});
  const machines = [...hosts, ...nats.map(([name]) => name)];
  const refuse = (message: string): never => {
    throw new Error(`this lab cannot be: ${message}`);
  };
  for (const name of [...machines, ...nats.map(([, { lan }]) => lan), ...Object.keys(spec.lans ?? {})]) {
    if (!NAME.test(name)) refuse(`the name ${name} is not of 1 to 31 of a-z, 0-9 and -, with a letter first`);
  }
  if (new Set(machines).size < machines.length) refuse("a host and a NAT have one name");
  for (const name of links) if (!machines.includes(name)) refuse(`the link ${name} belongs to no host and no NAT`);
  for (const [name] of nats) if (!links.includes(name)) refuse(`the NAT ${name} has no link`);
  const lans = nats.map(([, { lan }]) => lan);
  if (new Set(lans).size < lans.length) refuse("a LAN has two NATs");
  if (links.length > LINKS_MAX) refuse(`${links.length} links are more than ${LINKS_MAX}`);
  if (lans.length > LANS_MAX) refuse(`${lans.length} LANs are more than ${LANS_MAX}`);
  if (hosts.length > LAN_HOSTS_MAX) refuse(`${hosts.length} hosts are more than ${LAN_HOSTS_MAX}`);
}
