/** Preferences of which each is fine and which together leave nowhere to run: refused with both names, before anybody waits. */
import { GRID_PROVIDER, type RoutePreferences } from "../../domain/preferences.ts";
import { type Outcome, refuse } from "../../domain/refusal.ts";

interface Conflict {
  /** As the API names them. */
  readonly names: readonly [string, string];
  readonly why: string;
}

/**
 * `said`: what one caller wrote, where one region in both lists is a slip already. `left`: what a key's rules left of it, where
 * only nothing at all is one.
 */
export function conflictOf(preferences: RoutePreferences, when: "said" | "left"): Outcome<never> | null {
  const conflict = regionConflict(preferences, when) ?? providerConflict(preferences) ?? hybridConflict(preferences);
  if (conflict === null) return null;
  const [first, second] = conflict.names;
  const whose = when === "left" ? " (with the rules of this key)" : "";
  return refuse("invalid-request", `${first} and ${second} contradict each other${whose}: ${conflict.why}`, {
    param: first,
  });
}

function regionConflict({ regions, excludedRegions }: RoutePreferences, when: "said" | "left"): Conflict | null {
  if (regions === null) return null;
  const inBoth = regions.filter((region) => excludedRegions.includes(region));
  const isConflict = when === "said" ? inBoth.length > 0 : inBoth.length === regions.length;
  if (!isConflict) return null;
  const why = `${list(inBoth)} ${inBoth.length === 1 ? "is" : "are"} in both; take it out of one`;
  return { names: ["grid.regions", "grid.exclude_regions"], why };
}

function providerConflict({ only, ignore, order, allowFallbacks }: RoutePreferences): Conflict | null {
  if (only?.every((name) => ignore.includes(name)) === true) {
    return {
      names: ["provider.only", "provider.ignore"],
      why: `all of ${list(only)} are to be ignored, which leaves none`,
    };
  }
  if (order === null || allowFallbacks) return null;
  const isAllowed = (name: string) => (only?.includes(name) ?? true) && !ignore.includes(name);
  if (order.some(isAllowed)) return null;
  const isOutside = only !== null && !order.some((name) => only.includes(name));
  return {
    names: ["provider.order", isOutside ? "provider.only" : "provider.ignore"],
    why: `none of ${list(order)} may be used, and allow_fallbacks is false`,
  };
}

function hybridConflict({ hybrid, only, ignore, confidentiality }: RoutePreferences): Conflict | null {
  const hasGrid = (only?.includes(GRID_PROVIDER) ?? true) && !ignore.includes(GRID_PROVIDER);
  if (hybrid === "grid-only" && !hasGrid) {
    const other = only !== null && !only.includes(GRID_PROVIDER) ? "provider.only" : "provider.ignore";
    return { names: ["grid.hybrid", other], why: "it is to run on the grid only, and the grid is left out" };
  }
  if (hybrid !== "cloud-only") return null;
  if (only?.every((name) => name === GRID_PROVIDER) === true) {
    return {
      names: ["grid.hybrid", "provider.only"],
      why: "it is to run in the cloud only, and only the grid is named",
    };
  }
  if (confidentiality !== "own-nodes") return null;
  return {
    names: ["grid.hybrid", "grid.confidentiality"],
    why: "a cloud provider is nobody's own node; send 'grid-only', or another confidentiality",
  };
}

function list(names: readonly string[]): string {
  return names.map((name) => `'${name}'`).join(", ");
}
