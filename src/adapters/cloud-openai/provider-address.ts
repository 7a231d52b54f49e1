/**
 * Where requests to providers may go. A base URL is the operator's word, and still must not become a way into his own network by a name
 * that somebody else controls:
 *
 * | host of the base URL                        | https                    | http    |
 * | ------------------------------------------- | ------------------------ | ------- |
 * | loopback or private address, `localhost`    | yes                      | yes     |
 * | name listed in FALLOW_PRIVATE_PROVIDERS     | yes, wherever it leads   | yes     |
 * | any other name, public address              | to public addresses only | no      |
 * | link-local, metadata service, multicast     | no                       | no      |
 *
 * Names are checked when a connection is made, by the addresses that the connection then uses.
 */
import { lookup as lookupName } from "node:dns";
import { isIP, type LookupFunction } from "node:net";
import { addressKind } from "../model-source/address-rules.ts";

/** `host`, `host:port`, `*.domain`, in lower case. */
export type PrivateHosts = readonly string[];

export const PRIVATE_HOSTS_VARIABLE = "FALLOW_PRIVATE_PROVIDERS";
const URL_CHARS_MAX = 512;

export function privateHostsOf(environment: Readonly<Record<string, string | undefined>>): PrivateHosts {
  return (environment[PRIVATE_HOSTS_VARIABLE] ?? "")
    .split(",")
    .map((one) => one.trim().toLowerCase())
    .filter((one) => one !== "");
}

/** Null when requests may go there. */
export function addressProblem(baseUrl: string, privateHosts: PrivateHosts): string | null {
  if (baseUrl.length > URL_CHARS_MAX || !URL.canParse(baseUrl))
    return `${quoted(baseUrl)} is no address; write it as https://host/v1`;
  const url = new URL(baseUrl);
  if (url.username !== "" || url.password !== "") {
    return "the address holds a user or password; name the key with an environment variable or a secret instead";
  }
  if (url.search !== "" || url.hash !== "") return `${quoted(baseUrl)} has a query or a fragment; leave it out`;
  if (url.protocol !== "https:" && url.protocol !== "http:") return `${quoted(baseUrl)} is neither https nor http`;
  const host = bareHost(url);
  if (isIP(host) !== 0 && addressKind(host) === "forbidden") return `${host} is an address that no provider has`;
  const isOwn =
    isListed(url.host, privateHosts) || host === "localhost" || (isIP(host) !== 0 && addressKind(host) === "private");
  if (url.protocol === "http:" && !isOwn) {
    return `${quoted(baseUrl)} would carry prompts and key in the clear; use https, or for a host of your own list it in ${PRIVATE_HOSTS_VARIABLE}`;
  }
  return null;
}

/** For the sockets of requests: a name that is not the operator's own leads to public addresses or nowhere. */
export function guardedLookup(privateHosts: PrivateHosts): LookupFunction {
  return (hostname, options, callback) => {
    const isOwn = hostname === "localhost" || isListedName(hostname, privateHosts);
    lookupName(hostname, { ...options, all: true }, (error, found) => {
      if (error !== null) return callback(error, []);
      const allowed = found.filter(({ address }) => {
        const kind = addressKind(address);
        return kind === "public" || (isOwn && kind === "private");
      });
      const [first] = allowed;
      if (first === undefined) return callback(new AddressForbidden(hostname), []);
      if (options.all === true) return callback(null, allowed);
      return callback(null, first.address, first.family);
    });
  };
}

/** The name leads to addresses where nothing may be sent. */
export class AddressForbidden extends Error {
  override readonly name = "AddressForbidden";
  readonly code = "EADDRFORBIDDEN";
  constructor(hostname: string) {
    super(`${hostname} leads into a private network; if it is yours, list it in ${PRIVATE_HOSTS_VARIABLE}`);
  }
}

function isListed(host: string, hosts: PrivateHosts): boolean {
  return hosts.some((one) => host === one || isListedName(host.replace(/:\d+$/, ""), [one]));
}

/** The port of a listed host does not count here: a lookup does not know for which port it is, and `addressProblem` has checked it. */
function isListedName(hostname: string, hosts: PrivateHosts): boolean {
  return hosts.some((one) => {
    const name = one.replace(/:\d+$/, "");
    return name.startsWith("*.") ? hostname.endsWith(name.slice(1)) : hostname === name;
  });
}

function bareHost(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, "");
}

function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 120));
}
