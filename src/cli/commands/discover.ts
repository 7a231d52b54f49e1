/** `fallow discover`: the grids and nodes that tell of themselves on this local network. It shows where they are; joining needs a code. */
import { setTimeout as sleep } from "node:timers/promises";
import { MdnsDiscovery } from "../../adapters/lan-mdns/mdns-discovery.ts";
import type { LanNeighbour } from "../../ports/lan-discovery.ts";
import { table } from "../format.ts";
import { note, printJson, printText } from "../terminal.ts";

export interface DiscoverOptions {
  readonly seconds: number;
  readonly json?: boolean;
}

export interface NearbyGrid {
  readonly host: string;
  readonly port: number;
}

export async function runDiscover({ seconds, json }: DiscoverOptions): Promise<void> {
  const found = await listened(seconds * 1_000);
  const grids = [...new Set(found.map(({ gridId }) => gridId))].sort().map((grid) => {
    const ofGrid = found.filter(({ gridId }) => gridId === grid);
    const addresses = (role: LanNeighbour["role"]) =>
      ofGrid.filter((one) => one.role === role).flatMap((one) => one.addresses.map(addressText));
    const nodes = new Set(ofGrid.filter(({ role }) => role === "agent").map(({ publicKeyHex }) => publicKeyHex));
    return { grid, coordinators: [...new Set(addresses("coordinator"))].sort(), nodes: nodes.size };
  });
  if (json === true) {
    printJson({ grids });
  } else if (grids.length === 0) {
    note("fallow: no grid tells of itself on this network (those that listen on 127.0.0.1 only do not)");
  } else {
    printText(
      table(
        [{ title: "GRID", dropOrder: 1 }, { title: "COORDINATOR" }, { title: "NODES", isRight: true }],
        grids.map(({ grid, coordinators, nodes }) => [grid, coordinators.join(", ") || "not seen", String(nodes)]),
        "",
      ),
    );
    note(
      "fallow: to join one, ask its operator for a code (`fallow join-code` on his machine), then `fallow join CODE`",
    );
  }
}

/** Coordinators that answer in time, in the order of their addresses. */
export async function gridsNearby(withinMs: number): Promise<readonly NearbyGrid[]> {
  const found = (await listened(withinMs)).filter(({ role }) => role === "coordinator");
  const byText = new Map(found.flatMap(({ addresses }) => addresses).map((at) => [addressText(at), at]));
  return [...byText.keys()].sort().flatMap((text) => byText.get(text) ?? []);
}

async function listened(ms: number): Promise<readonly LanNeighbour[]> {
  const found: LanNeighbour[] = [];
  const search = await new MdnsDiscovery().listen((one) => found.push(one));
  await sleep(ms);
  await search.stop();
  return found;
}

function addressText({ host, port }: NearbyGrid): string {
  return `${host}:${port}`;
}
