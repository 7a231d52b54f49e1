/** Carries the drawn faults out, repairs each after its time, and everything when the time of faults is over. */
import { FallowError } from "../../domain/fault.ts";
import { CALM_NETWORK, type PacketNetwork } from "../network/packet-network.ts";
import type { SimPeers } from "../network/sim-peers.ts";
import type { Witness } from "../observation.ts";
import { COORDINATOR, type SimCoordinator } from "../sim-coordinator.ts";
import type { SimNode } from "../sim-node.ts";
import { CALM_STORE, type StoreConditions } from "../store/chaotic-store.ts";
import type { Host } from "../time/host.ts";
import type { Timeline } from "../time/timeline.ts";
import type { FaultEvent, FaultPlan } from "./faults.ts";
import { StageFaults } from "./stage-faults.ts";

export interface FaultDriverOptions {
  readonly plan: FaultPlan;
  readonly timeline: Timeline;
  readonly network: PacketNetwork;
  readonly coordinator: SimCoordinator;
  readonly coordinatorHost: Host;
  readonly nodes: readonly SimNode[];
  /** Null where nodes know the coordinator alone. */
  readonly peers: SimPeers | null;
  readonly witness: Witness;
}

/** After the faults a coordinator may still be opening: drains are lifted for so long, so often. */
const LIFT_MS = 5_000;
const LIFT_REPEAT_MS = 1_000;

export class FaultDriver {
  readonly #options: FaultDriverOptions;
  readonly #stages: StageFaults;

  constructor(options: FaultDriverOptions) {
    this.#options = options;
    this.#stages = new StageFaults(options);
  }

  /** False once the faults are over. */
  isFaulty(): boolean {
    return this.#options.timeline.nowMs < this.#options.plan.faultsEndMs;
  }

  storeConditions(): StoreConditions {
    const { store } = this.#options.plan;
    return this.isFaulty() ? store : { ...CALM_STORE, isSerial: store.isSerial };
  }

  start(): void {
    const { plan, timeline } = this.#options;
    for (const event of plan.events) {
      timeline.at(event.atMs, () => this.#strike(event));
      if (event.durationMs > 0) timeline.at(event.atMs + event.durationMs, () => this.#repair(event));
    }
    timeline.at(plan.faultsEndMs, () => this.#repairAll());
  }

  #strike(event: FaultEvent): void {
    this.#tell(event, true);
    if (this.#stages.strike(event)) return;
    if (event.node === null) this.#strikeGrid(event);
    else if (event.kind.includes("partition") || event.kind === "clog") this.#strikePath(event);
    else this.#strikeNode(event);
  }

  #strikeGrid(event: FaultEvent): void {
    const { coordinator, coordinatorHost, witness } = this.#options;
    if (event.kind === "coordinator-crash") coordinator.crash({ isPowerLoss: event.coin });
    if (event.kind === "wall-step") coordinator.clock.stepWall(event.stepMs);
    if (event.kind !== "coordinator-freeze" || coordinatorHost.state !== "running") return;
    coordinatorHost.freeze();
    witness({ kind: "host", host: COORDINATOR, change: "frozen" });
  }

  #strikeNode(event: FaultEvent): void {
    const node = this.#node(event);
    switch (event.kind) {
      case "crash":
      case "power":
      case "spot":
        node?.crash({ isPowerLoss: event.kind !== "crash", isDiskLost: event.coin });
        break;
      case "freeze":
        node?.freeze();
        break;
      case "engine-crash":
        node?.crashEngines();
        break;
      case "engine-hang":
        node?.hangEngines();
        break;
      case "owner":
      case "owner-week":
        node?.ownerArrives();
        break;
      case "drain":
        if (node !== undefined) this.#drain(node, true);
        break;
      case "wall-step":
        node?.clock.stepWall(event.stepMs);
        break;
    }
  }

  #strikePath(event: FaultEvent): void {
    const { network, timeline } = this.#options;
    const node = this.#node(event);
    if (node === undefined) return;
    const { name } = node;
    if (event.kind === "clog") {
      const untilMs = timeline.nowMs + event.durationMs;
      network.clog(name, COORDINATOR, untilMs);
      network.clog(COORDINATOR, name, untilMs);
      return;
    }
    const isBothWays = event.kind === "partition";
    if (isBothWays || event.coin) network.cut(name, COORDINATOR);
    if (isBothWays || !event.coin) network.cut(COORDINATOR, name);
  }

  #repair(event: FaultEvent): void {
    const { network, coordinatorHost } = this.#options;
    this.#tell(event, false);
    if (this.#stages.repair(event)) return;
    const node = this.#node(event);
    switch (event.kind) {
      case "crash":
      case "power":
      case "spot":
        if (node?.host.state === "dead") node.start();
        break;
      case "freeze":
        node?.thaw();
        break;
      case "owner":
      case "owner-week":
        node?.ownerLeaves();
        break;
      case "drain":
        if (node !== undefined) this.#drain(node, false);
        break;
      case "partition":
      case "one-way-partition":
        if (node !== undefined) network.heal(node.name, COORDINATOR);
        if (node !== undefined) network.heal(COORDINATOR, node.name);
        break;
      case "coordinator-crash":
        if (coordinatorHost.state === "dead") this.#options.coordinator.start();
        break;
      case "coordinator-freeze":
        this.#thawCoordinator();
        break;
    }
  }

  #repairAll(): void {
    const { network, nodes, coordinator, coordinatorHost, witness } = this.#options;
    network.healAll();
    this.#stages.repairAll();
    network.changeConditions(CALM_NETWORK);
    this.#thawCoordinator();
    if (coordinatorHost.state === "dead") coordinator.start();
    for (const node of nodes) {
      node.thaw();
      if (node.host.state === "dead") node.start();
      node.ownerLeaves();
      this.#drain(node, false);
    }
    witness({ kind: "faults-over" });
  }

  /** The grid's operator orders it, and insists on lifting it: a store that fails keeps what it had. */
  #drain(node: SimNode, isDraining: boolean): void {
    const { coordinator, coordinatorHost, timeline } = this.#options;
    coordinatorHost.after(0, () => {
      coordinator.grid?.registry.drain(node.nodeId, isDraining).catch((fault: unknown) => {
        if (!(fault instanceof FallowError)) throw fault;
      });
    });
    const isLasting = !isDraining && !this.isFaulty() && timeline.nowMs < this.#options.plan.faultsEndMs + LIFT_MS;
    if (isLasting) timeline.after(LIFT_REPEAT_MS, () => this.#drain(node, false));
  }

  #thawCoordinator(): void {
    const { coordinatorHost, witness } = this.#options;
    if (coordinatorHost.state !== "frozen") return;
    coordinatorHost.thaw();
    witness({ kind: "host", host: COORDINATOR, change: "thawed" });
  }

  #node(event: FaultEvent): SimNode | undefined {
    return event.node === null ? undefined : this.#options.nodes[event.node];
  }

  #tell(event: FaultEvent, isOn: boolean): void {
    const target = this.#node(event)?.name ?? COORDINATOR;
    this.#options.witness({ kind: "fault", fault: event.kind, target, isOn });
  }
}
