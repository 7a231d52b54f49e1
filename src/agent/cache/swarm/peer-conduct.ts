/** Which nodes broke the rules, or cannot be reached (`scheduler/distribution/peer-bans.ts`), for all models together; the coordinator is told. */
import type { NodeId, Sha256Hex } from "../../../domain/ids.ts";
import type { Clock } from "../../../ports/clock.ts";
import type { Log } from "../../../ports/log.ts";
import type { Random } from "../../../ports/random.ts";
import { PeerBans, type PeerOffence } from "../../../scheduler/distribution/peer-bans.ts";
import { WIRE_BOUNDS } from "../../../wire/link-atoms.ts";
import type { CoordinatorLine } from "./coordinator-line.ts";

export interface PeerConductPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly line: CoordinatorLine;
}

export class PeerConduct {
  readonly #ports: PeerConductPorts;
  readonly #bans = new PeerBans();

  constructor(ports: PeerConductPorts) {
    this.#ports = ports;
  }

  isBanned(nodeId: NodeId): boolean {
    return this.#bans.isBanned(nodeId, this.#ports.clock.monoMs());
  }

  served(nodeId: NodeId): void {
    this.#bans.served(nodeId);
  }

  /** Many transfers fail with one link: while a node is banned no more is counted, unless it is worse. */
  report(nodeId: NodeId, fault: { offence: PeerOffence; weightsSha256: Sha256Hex; detail: string }): void {
    const { offence, weightsSha256, detail } = fault;
    const { clock, random, log, line } = this.#ports;
    if (this.isBanned(nodeId) && offence !== "bad-chunk" && offence !== "wrong-length") return;
    const nowMs = clock.monoMs();
    const decision = this.#bans.report(nodeId, { offence, nowMs, draw: random.fraction() });
    const forMs = decision.untilMs - nowMs;
    log.info({ peer: nodeId, weightsSha256, offence, detail, forMs }, "node left alone");
    if (!decision.isReported || offence === "expired") return;
    const code = offence;
    line.send({ type: "peer.report", nodeId, weightsSha256, code, detail: detail.slice(0, WIRE_BOUNDS.textMax) });
  }
}
