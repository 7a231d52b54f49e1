/**
 * Law 3, the parts of it that are rules and no sizes of memory: no attempt on a node outside the regions that its request allows (a node
 * whose operator names no region is in none), and nothing staged ahead of need on a disk whose node said that it has no room for
 * it. Trust and price of nodes are the same for all here, so a rule on them is never broken.
 */
import type { Checker, Observation, Report } from "../observation.ts";

export class RuleChecker implements Checker {
  readonly name = "rules";
  readonly #report: Report;
  readonly #regionOf: (node: string) => string | null;
  /** Of requests that set one. */
  readonly #regions = new Map<string, readonly string[]>();

  /** By connection, as the node told last; null where nothing limits it. */
  readonly #freeBytes = new Map<number, number | null>();

  constructor(options: { report: Report; regionOf: (node: string) => string | null }) {
    this.#report = options.report;
    this.#regionOf = options.regionOf;
  }

  observe(observation: Observation): void {
    if (observation.kind === "asked") {
      const { requestId, constraints } = observation.request.terms;
      const regions = constraints?.regions ?? null;
      if (regions !== null) this.#regions.set(requestId, regions);
    }
    if (observation.kind === "message" && observation.message.type === "weights.state") {
      this.#freeBytes.set(observation.connection, observation.message.freeBytes);
    }
    if (observation.kind !== "order") return;
    const { message, node, connection } = observation;
    if (message.type === "attempt.start") this.#started(message.terms.requestId, node);
    if (message.type !== "weights.stage") return;
    const freeBytes = this.#freeBytes.get(connection) ?? null;
    if (freeBytes === null || freeBytes >= message.fileBytes) return;
    this.#report({
      law: 3,
      what: `${message.fileBytes} bytes are staged on ${node}, which said that ${freeBytes} are free`,
    });
  }

  #started(requestId: string, node: string): void {
    const allowed = this.#regions.get(requestId);
    const region = this.#regionOf(node);
    if (allowed === undefined || (region !== null && allowed.includes(region))) return;
    this.#report({
      law: 3,
      what: `${requestId} may run in ${allowed.join(", ")} and went to ${node} in ${region ?? "no region"}`,
    });
  }
}
