import type { CloudDesk } from "./cloud/cloud-desk.ts";
import type { Dispatcher } from "./dispatch/dispatcher.ts";
import type { Forecast } from "./forecast/forecast.ts";
import type { ModelCatalogue } from "./models/model-catalogue.ts";
import type { ModelIntake } from "./models/model-intake.ts";
import type { LinkBook } from "./network/link-book.ts";
import type { RelayDesk } from "./peering/relay-desk.ts";
import type { NodeRegistry } from "./registry/node-registry.ts";
import type { Settlement } from "./settlement/settlement.ts";
import type { WeightsDistribution } from "./weights/distribution.ts";

/** What an open grid is made of. */
export interface CoordinatorParts {
  readonly gridId: string;
  /** Durable count of coordinator starts. */
  readonly boot: number;
  /** Wall clock. */
  readonly startedAtMs: number;
  readonly registry: NodeRegistry;
  readonly models: ModelCatalogue;
  /** Null in a grid that takes files of its own machine only. */
  readonly intake: ModelIntake | null;
  readonly settlement: Settlement;
  /** Null where no cloud provider can be asked. */
  readonly cloud: CloudDesk | null;
  readonly dispatcher: Dispatcher;
  readonly forecast: Forecast;
  readonly distribution: WeightsDistribution;
  readonly links: LinkBook;
  /** Connections between nodes that have no other way to each other. */
  readonly relay: RelayDesk;
}
