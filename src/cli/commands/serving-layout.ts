/**
 * The layout that `--layout` names: a file, one that the cluster file brings, one of the rules that ours is compared with (our own
 * implementations), or ours, planned on the spot. Each comes with the router that its system uses, unless `--router` says otherwise.
 */
import type { Cluster, Layout } from "../../domain/cluster.ts";
import { parallaxLayout } from "../../scheduler/layout/baselines/parallax.ts";
import { petalsLayout } from "../../scheduler/layout/baselines/petals.ts";
import { separateLayout } from "../../scheduler/layout/baselines/separate.ts";
import { swarmLayout } from "../../scheduler/layout/baselines/swarm.ts";
import type { SearchStep } from "../../scheduler/layout/layout-score.ts";
import type { PlanGoals } from "../../scheduler/layout/plan-goals.ts";
import { planLayout } from "../../scheduler/layout/plan-layout.ts";
import type { RouterName } from "../../scheduler/routing/router.ts";
import type { ServingInput } from "../../sim/serving/serving-run.ts";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { readLayoutFile } from "./cluster-input.ts";

export interface NamedLayout {
  readonly name: string;
  readonly layout: Layout;
  readonly router: RouterName;
  readonly settings: Pick<ServingInput, "pipelines" | "kvTokenLayers" | "isPartialAllowed">;
  readonly warnings: readonly string[];
}

/** `stored:NAME` takes a layout of the cluster file's `layouts`. */
const STORED = /^stored:(.+)$/;
/** The name under which Helix's solver's layout stands in its settings. */
const HELIX_STORED = "ilp";

interface Options {
  readonly layout: string;
  readonly router?: RouterName;
  readonly seed: number;
  readonly objective: PlanGoals["objective"];
}

export function resolveLayout(cluster: Cluster, options: Options, onImproved: (step: SearchStep) => void): NamedLayout {
  const { layout: name } = options;
  const stored = STORED.exec(name)?.[1] ?? (name === "helix" ? HELIX_STORED : null);
  if (stored !== null) return { ...plain(name, storedLayout(cluster, stored)), router: options.router ?? "helix" };
  if (name === "ours") return ours(cluster, options, onImproved);
  const baseline = baselineLayout(name, cluster);
  if (baseline !== null) return { ...baseline, router: options.router ?? baseline.router };
  const file = readLayoutFile(name, cluster);
  return {
    name,
    layout: file.layout,
    router: options.router ?? "ours",
    settings: {
      ...(file.pipelines === null ? {} : { pipelines: file.pipelines }),
      ...(file.isPartialAllowed === null ? {} : { isPartialAllowed: file.isPartialAllowed }),
      ...(file.kvTokenLayers === null ? {} : { kvTokenLayers: file.kvTokenLayers }),
    },
    warnings: file.warnings,
  };
}

function plain(name: string, layout: Layout): Omit<NamedLayout, "router"> {
  return { name, layout, settings: {}, warnings: [] };
}

/** Null: no baseline has this name. */
function baselineLayout(name: string, cluster: Cluster): NamedLayout | null {
  switch (name) {
    case "petals":
      return { ...plain(name, petalsLayout(cluster)), router: "petals", settings: { isPartialAllowed: true } };
    case "parallax":
      return { ...plain(name, parallaxLayout(cluster)), router: "parallax" };
    case "swarm": {
      const layout = swarmLayout(cluster);
      if (layout === null) throw noLayout("Swarm's equal stages: no stage length lets the nodes cover the model");
      return { ...plain(name, layout), router: "swarm" };
    }
    case "separate": {
      const { layout, pipelines, leftOut } = separateLayout(cluster);
      if (layout.size === 0) throw noLayout("separate pipelines: no machine type holds the model by itself");
      const warnings = leftOut.map((type) => `machines of type ${type} cannot hold the model by themselves: left out`);
      return { name, layout, router: "helix", settings: { pipelines }, warnings };
    }
    default:
      return null;
  }
}

function noLayout(why: string): CliError {
  return new CliError(`there is no layout by ${why}`, {
    exitCode: EXIT.refused,
    code: "no-capacity",
    fix: "take --layout ours, or a cluster with more nodes",
  });
}

function ours(cluster: Cluster, options: Options, onImproved: (step: SearchStep) => void): NamedLayout {
  const plan = planLayout({ cluster, seed: options.seed, goals: { objective: options.objective }, onImproved });
  if (plan.ok) return { ...plain("ours", plan.value.layout), router: options.router ?? "ours" };
  throw new CliError(`there is no plan: ${plan.reason.message}`, {
    exitCode: EXIT.refused,
    code: plan.reason.code,
    fix: "see `fallow plan --cluster C.json` for what was tried",
  });
}

function storedLayout(cluster: Cluster, stored: string): Layout {
  const layout = cluster.layouts.get(stored);
  if (layout !== undefined) return layout;
  const known = [...cluster.layouts.keys()].map((name) => `stored:${name}`).join(", ");
  throw new CliError(
    `the cluster file has no layouts.${stored}${stored === HELIX_STORED ? ", the outcome of Helix's solver" : ""}`,
    {
      exitCode: EXIT.usage,
      code: "layout-unknown",
      fix:
        known === ""
          ? "take --layout ours, or a file of `fallow plan --json`"
          : `take --layout ours, or one of ${known}`,
    },
  );
}
