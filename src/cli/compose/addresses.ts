/** Under which addresses other machines reach this one: what a join code carries. */
import { networkInterfaces } from "node:os";
import { isLoopback } from "../../adapters/tls-identity/loopback.ts";

/** A join code holds at most four. */
const ADDRESSES_MAX = 4;

/** Best first. A wildcard host becomes the machine's own addresses, IPv4 before IPv6, link-local ones left out. */
export function reachableHosts(host: string): readonly string[] {
  if (isLoopback(host)) return [host === "localhost" ? "127.0.0.1" : bracketed(host)];
  if (host !== "0.0.0.0" && host !== "::") return [bracketed(host)];
  const found = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ internal, address }) => !internal && !/^(fe80:|169\.254\.)/i.test(address))
    .filter(({ family }) => host === "::" || family === "IPv4")
    .sort((a, b) => (a.family === b.family ? a.address.localeCompare(b.address) : a.family === "IPv4" ? -1 : 1))
    .map(({ address }) => bracketed(address));
  return found.length === 0 ? ["127.0.0.1"] : found.slice(0, ADDRESSES_MAX);
}

function bracketed(host: string): string {
  return host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
}

/** As a certificate names it: an IPv6 address stands in brackets in a URL only. */
export function unbracketed(host: string): string {
  return host.replace(/^\[|\]$/g, "");
}
