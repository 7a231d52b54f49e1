/** The paths on which links between nodes are measured: a server and a client, and what lies between them. */
import type { LabHost } from "../../test/netlab/lab-host.ts";
import type { Congestion } from "../../test/netlab/lab-plan.ts";
import type { LinkSpec } from "../../test/netlab/link-shape.ts";
import { type LabCounters, startNetlab } from "../../test/netlab/netlab.ts";

export interface Scenario {
  readonly name: string;
  /** Of the client's link, or null when both are on one LAN. The loss is each way's own. */
  readonly link: LinkSpec | null;
  /** Of the LAN's cables; null is as fast as the machine copies. */
  readonly lanMbit: number | null;
  /** Of the path, without waiting in queues. */
  readonly rttMs: number;
}

const MBIT = 100;
const GIGABIT = 1_000;
/** 80 ms at that rate: what a home router holds. */
const QUEUE_KB = 1_000;
const path = (rttMs: number, lossShare: number): Scenario => ({
  name: `${rttMs} ms, ${MBIT} Mbit/s${lossShare === 0 ? "" : `, ${lossShare * 100} % loss`}`,
  link: { delayMs: rttMs / 2, lossShare, rateMbit: MBIT, queueKb: QUEUE_KB },
  lanMbit: null,
  rttMs,
});

export const SCENARIOS: readonly Scenario[] = [
  { name: "LAN", link: null, lanMbit: null, rttMs: 0 },
  { name: "LAN, 1 Gbit/s", link: null, lanMbit: GIGABIT, rttMs: 0 },
  path(40, 0),
  path(40, 0.01),
  path(150, 0.02),
];

export interface PathLab {
  readonly server: LabHost;
  readonly client: LabHost;
  counters(): Promise<LabCounters>;
  stop(): Promise<void>;
}

export async function startPathLab({ link, lanMbit }: Scenario, congestion: Congestion): Promise<PathLab> {
  const lab =
    link === null
      ? await startNetlab({
          hosts: { server: { lan: "lan" }, client: { lan: "lan" } },
          congestion,
          lans: { lan: lanMbit === null ? {} : { rateMbit: lanMbit } },
        })
      : await startNetlab({ hosts: { server: {}, client: {} }, links: { server: {}, client: link }, congestion });
  return { server: lab.host("server"), client: lab.host("client"), counters: lab.counters, stop: lab.stop };
}
