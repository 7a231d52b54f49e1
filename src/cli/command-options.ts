/** Options that several commands share, and parsers for numbers on the command line. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { NODE_PRICE_MICRO_USD_PER_HOUR_MAX } from "../domain/node-price.ts";
import type { HostPort } from "../domain/peer.ts";
import { REGION_PATTERN } from "../domain/region.ts";
import { SERVICE_TIERS } from "../domain/tier.ts";
import { TIER_FACTOR_BASIS_POINTS_MAX, type TierFactors } from "../market/tier-price.ts";
import { COMPUTE_BYTES } from "../scheduler/placement/slots.ts";
import { parseBytes } from "./byte-size.ts";
import { CliError } from "./cli-error.ts";
import { EXIT_CODES_HELP } from "./exit-codes.ts";

/** A terabit: above it a cap is none. */
export const MBIT_MAX = 1_000_000;

/** Options that every command takes, on the command itself so that they may stand behind its name. */
export function withCommonOptions(command: Command, more: { isClient: boolean }): Command {
  command.addOption(
    new Option("--home <folder>", "folder of the grid or agent (default: ~/.fallow)").env("FALLOW_HOME"),
  );
  if (more.isClient) {
    command.addOption(
      new Option("--url <address>", "address of the grid, e.g. http://127.0.0.1:8420").env("FALLOW_URL"),
    );
    command.addOption(new Option("--key <key>", "API key (default: FALLOW_API_KEY, else the key in the home)"));
  }
  return command
    .option("--json", "print JSON, one value per line")
    .option("-v, --verbose", "show the stack of an error")
    .addHelpText("after", EXIT_CODES_HELP);
}

/** A commander parser for whole numbers within bounds. */
export function wholeNumber(bounds: { min: number; max: number }): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^-?\d+$/.test(text) && value >= bounds.min && value <= bounds.max) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${bounds.min} to ${bounds.max}.`);
  };
}

/** A commander parser that also takes `none`, which takes a limit away. */
export function orNone(parse: (text: string) => number): (text: string) => number | "none" {
  return (text) => (text === "none" ? text : parse(text));
}

/** A commander parser for the name of a region. */
export function regionName(text: string): string {
  if (REGION_PATTERN.test(text)) return text;
  throw new InvalidArgumentError("It must be 1 to 32 lower-case letters, digits and hyphens, such as eu or us-east.");
}

/** A commander parser for `tier=factor`, given once for each tier; answers basis points of the model's price. */
export function tierFactor(text: string, before: Partial<TierFactors> = {}): Partial<TierFactors> {
  const [, name, digits] = /^([a-z]+)=(\d{1,3}(?:\.\d{1,4})?)$/.exec(text) ?? [];
  const tier = SERVICE_TIERS.find((known) => known === name);
  const basisPoints = Math.round(Number(digits) * 10_000);
  if (tier !== undefined && basisPoints <= TIER_FACTOR_BASIS_POINTS_MAX) return { ...before, [tier]: basisPoints };
  throw new InvalidArgumentError(
    `It must be one of ${SERVICE_TIERS.join(", ")}, "=", and a factor from 0 to ${TIER_FACTOR_BASIS_POINTS_MAX / 10_000}, such as flex=0.5.`,
  );
}

/** A commander parser for what an hour of a machine costs, in USD; answers micro-USD. */
export function pricePerHour(text: string): number {
  const usd = decimalNumber({ min: 0, max: NODE_PRICE_MICRO_USD_PER_HOUR_MAX / 1e6 })(text);
  return Math.round(usd * 1e6);
}

/** A commander parser for how much of a device's memory is used; answers bytes. Less than what computing alone takes holds no model at all. */
export function deviceMemory(text: string): number {
  try {
    const bytes = parseBytes(text);
    if (bytes >= COMPUTE_BYTES) return bytes;
  } catch (thrown) {
    if (!(thrown instanceof CliError)) throw thrown;
  }
  throw new InvalidArgumentError(
    `It must be a size such as 8GiB or 512MiB, of at least ${COMPUTE_BYTES / 1_024 ** 2}MiB: so much computing needs beside the weights.`,
  );
}

/** A commander parser for a cap in Mbit/s, or `none`. */
export function megabits(text: string): number | "none" {
  return text === "none" ? "none" : decimalNumber({ min: 0, max: MBIT_MAX })(text);
}

/** A commander parser for `host:port`; an IPv6 address stands in brackets. */
export function hostPort(text: string): HostPort {
  const [, bracketed, plain, digits] = /^(?:\[([0-9a-f:.]+)\]|([^:[\]\s]{1,253})):(\d{1,5})$/i.exec(text) ?? [];
  const port = Number(digits);
  const host = bracketed ?? plain;
  if (host !== undefined && port >= 1 && port <= 65_535) return { host, port };
  throw new InvalidArgumentError(
    "It must be an address and a port, such as grid.example.org:7000 or [2001:db8::1]:7000.",
  );
}

/** A commander parser for decimal numbers within bounds. */
export function decimalNumber(bounds: { min: number; max: number }): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() !== "" && value >= bounds.min && value <= bounds.max) return value;
    throw new InvalidArgumentError(`It must be a number from ${bounds.min} to ${bounds.max}.`);
  };
}
