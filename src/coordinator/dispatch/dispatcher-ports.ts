/** What dispatch needs of the rest of the coordinator. */
import type { Clock } from "../../ports/clock.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { Ids } from "../../ports/ids.ts";
import type { Log } from "../../ports/log.ts";
import type { Roster } from "../roster.ts";
import type { ReplicaPlanner } from "./replica-planning.ts";
import type { Outlook } from "./replica-pool.ts";
import type { ServedModels } from "./served-models.ts";

export interface DispatcherPorts {
  readonly gridId: string;
  readonly boot: number;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly crypto: Crypto;
  readonly log: Log;
  readonly roster: Roster;
  readonly models: ServedModels;
  /** Without one, placements are planned in the turn that asks. */
  readonly planner?: ReplicaPlanner;
  /** What is foreseen of nodes and demand; without it nothing is. */
  readonly outlook?: Outlook;
}
