/**
 * Models of the Hugging Face hub, or of a mirror that speaks its protocol:
 *
 * | request                                            | tells                                                            |
 * | -------------------------------------------------- | ---------------------------------------------------------------- |
 * | `api/models/<repo>/revision/<revision>`            | the commit, licence, whether it is private or gated              |
 * | `api/models/<repo>/tree/<commit>?recursive=true`   | each file's path and size, SHA-256 of large ones; pages by `Link` |
 * | `<repo>/resolve/<commit>/<path>`                   | the bytes, mostly by a redirect to the hub's content network     |
 *
 * Everything after the first is asked for by commit, so that a branch that moves meanwhile changes nothing. The token goes to the endpoint's
 * own host and nowhere else.
 */
import type { IncomingHttpHeaders } from "node:http";
import { z } from "zod";
import { FallowError } from "../../domain/fault.ts";
import type { ResolvedSource } from "../../ports/model-source.ts";
import { chooseFiles } from "./choose-files.ts";
import type { Followed, Hop, Route } from "./follow.ts";
import { baseName, suggestedIdOf } from "./gguf-names.ts";
import type { Look, Patience } from "./passing-fault.ts";
import { type JsonAnswer, readJson } from "./read-json.ts";
import type { ModelReference } from "./reference.ts";
import { changed, RemoteFile } from "./remote-file.ts";
import { describeUrl, type SafeHttp, unsafe } from "./safe-http.ts";
import { isListedHost, type SourceSettings } from "./source-settings.ts";

type HubReference = Extract<ModelReference, { kind: "hf" }>;

/** 20 pages of 1,000: more files than any model has. */
const PAGES_MAX = 20;

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const commit = z.string().regex(/^[0-9a-f]{40,64}$/);
const repositorySchema = z.object({
  sha: commit,
  private: z.boolean().optional(),
  gated: z.union([z.boolean(), z.string()]).optional(),
  tags: z.array(z.string()).max(10_000).optional(),
  cardData: z.object({ license: z.union([z.string(), z.array(z.string())]).nullish() }).nullish(),
});
const entrySchema = z.object({
  type: z.string(),
  path: z.string().min(1).max(1_024),
  oid: z.string().max(128).nullish(),
  size: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER).optional(),
  lfs: z.object({ oid: sha256, size: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER) }).nullish(),
});
type Entry = z.infer<typeof entrySchema>;
const pageSchema = z.array(entrySchema).max(10_000);

export interface HubSourceOptions {
  readonly settings: SourceSettings;
  readonly http: SafeHttp;
  readonly patience: Patience;
}

export class HubSource {
  readonly #options: HubSourceOptions;

  constructor(options: HubSourceOptions) {
    this.#options = options;
  }

  async resolve(reference: HubReference, look: Look): Promise<ResolvedSource> {
    const { repo, revision, selector } = reference;
    const route = this.#route(repo);
    const ask = { http: this.#options.http, route, ...look };
    const asked = this.#address(`api/models/${repo}/revision/${encodeURIComponent(revision ?? "main")}`);
    const { value: facts } = await readJson(asked, repositorySchema, ask);
    const entries = await this.#files(repo, facts.sha, ask);
    const { paths, chosen } = chooseFiles([...entries.keys()], selector, repo);
    const [first = ""] = paths;
    return {
      origin: { kind: "hf", repo, revision: facts.sha, isPrivate: facts.private === true || isGated(facts.gated) },
      pinned: `hf:${repo}@${facts.sha}:${first}`,
      chosen,
      suggestedId: suggestedIdOf(first),
      licence: licenceOf(facts),
      files: paths.map((path) => this.#file({ repo, commit: facts.sha, path }, entries.get(path), route)),
    };
  }

  async #files(
    repo: string,
    revision: string,
    ask: Parameters<typeof readJson>[2],
  ): Promise<ReadonlyMap<string, Entry>> {
    const entries = new Map<string, Entry>();
    let url: URL | null = this.#address(`api/models/${repo}/tree/${revision}?recursive=true`);
    for (let page = 0; url !== null && page < PAGES_MAX; page++) {
      const answer: JsonAnswer<readonly Entry[]> = await readJson(url, pageSchema, ask);
      for (const entry of answer.value) if (entry.type === "file") entries.set(entry.path, entry);
      url = this.#nextPage(linkOf(answer), url);
    }
    return entries;
  }

  /** Mirrors pass on the hub's own `Link`: of it only the query counts, so that neither the request nor the token goes elsewhere. */
  #nextPage(link: string | undefined, from: URL): URL | null {
    const text = link ?? "";
    const [, next] = /<([^<>]{1,4096})>\s*;\s*rel="?next"?/i.exec(text) ?? [];
    if (next === undefined || !URL.canParse(next, from.href)) return null;
    const url = new URL(from);
    url.search = new URL(next, from).search;
    return url.search === from.search ? null : url;
  }

  #file(place: { repo: string; commit: string; path: string }, entry: Entry | undefined, route: Route): RemoteFile {
    const { repo, commit: revision, path } = place;
    const name = baseName(path);
    const url = this.#address(`${repo}/resolve/${revision}/${path.split("/").map(encodeURIComponent).join("/")}`);
    const fileBytes = entry?.lfs?.size ?? entry?.size;
    if (fileBytes === undefined || fileBytes === 0) {
      throw new FallowError("model-source-refused", `${repo} does not tell how long ${path} is, or it is empty`);
    }
    const digest = entry?.lfs?.oid ?? null;
    const facts = {
      url,
      name,
      fileBytes,
      sha256: digest,
      version: digest ?? entry?.oid ?? null,
      validator: null,
      check: (followed: Followed) => checkHeads(followed, { url, name, commit: revision, sha256: digest, fileBytes }),
    };
    return new RemoteFile(facts, { http: this.#options.http, route, patience: this.#options.patience });
  }

  #address(path: string): URL {
    return new URL(path, this.#options.settings.endpoint);
  }

  #route(repo: string): Route {
    const { endpoint, hubHosts, token } = this.#options.settings;
    return {
      token,
      start: { isTrustedHost: isOwn(endpoint), isTokenSent: true },
      redirect: (from, to) => this.#redirect(from, to, hubHosts),
      advice: ({ status, code }) => adviceFor({ status, code, repo, hasToken: token !== null, endpoint }),
    };
  }

  #redirect(from: URL, to: URL, hubHosts: readonly string[]): Hop {
    const { endpoint } = this.#options.settings;
    if (from.protocol === "https:" && to.protocol !== "https:") {
      throw unsafe(`${from.host} leads from HTTPS to plain HTTP (${describeUrl(to)})`, to, { from: from.host });
    }
    if (to.host === endpoint.host && to.protocol === endpoint.protocol) {
      return { isTrustedHost: isOwn(endpoint), isTokenSent: true };
    }
    if (isListedHost(to, hubHosts)) {
      // The hub's own networks are on the internet; a host that the operator listed may be anywhere.
      const isNamed = isListedHost(
        to,
        hubHosts.filter((host) => !HUB_WILDCARD.test(host)),
      );
      return { isTrustedHost: isNamed, isTokenSent: false };
    }
    const message = `${from.host} leads to ${to.host}, which is no host of the hub; if you trust it, add ${to.host} to FALLOW_HUB_HOSTS`;
    throw unsafe(message, to, { from: from.host, to: to.host });
  }
}

function linkOf({ headers }: { headers: IncomingHttpHeaders }): string | undefined {
  const link = headers["link"];
  return Array.isArray(link) ? link.join(", ") : link;
}

const HUB_WILDCARD = /^\*\.(huggingface\.co|hf\.co)$/;

/** An endpoint that the operator set himself may be in his own network. */
function isOwn(endpoint: URL): boolean {
  return !/(^|\.)(huggingface\.co|hf\.co)$/.test(endpoint.hostname);
}

function isGated(gated: boolean | string | undefined): boolean {
  return gated !== undefined && gated !== false;
}

function licenceOf(facts: z.infer<typeof repositorySchema>): string | null {
  const named = facts.cardData?.license;
  const text = Array.isArray(named) ? named.join(", ") : named;
  const tag = facts.tags?.find((one) => one.startsWith("license:"))?.slice("license:".length);
  return (text ?? tag ?? null)?.slice(0, 200) ?? null;
}

/** The hub's own heads name the commit, the size and the digest of what it leads to; they stand in its answer, not in the network's. */
function checkHeads(
  { heads }: Followed,
  expected: { url: URL; name: string; commit: string; sha256: string | null; fileBytes: number },
): void {
  const { url, name } = expected;
  for (const head of heads) {
    const told = (header: string) => {
      const value = head[header];
      return typeof value === "string" ? value.replace(/^(W\/)?"|"$/g, "") : null;
    };
    const revision = told("x-repo-commit");
    if (revision !== null && revision !== expected.commit) {
      throw changed(url, name, `it is of commit ${revision}, ${expected.commit} was asked for`);
    }
    const bytes = told("x-linked-size");
    if (bytes !== null && Number(bytes) !== expected.fileBytes) {
      throw changed(url, name, `the hub says ${bytes} bytes, its list ${expected.fileBytes}`);
    }
    const etag = told("x-linked-etag");
    if (etag !== null && expected.sha256 !== null && /^[0-9a-f]{64}$/.test(etag) && etag !== expected.sha256) {
      throw changed(url, name, `its digest is ${etag}, the hub's list says ${expected.sha256}`);
    }
  }
}

function adviceFor(refusal: {
  status: number;
  code: string | null;
  repo: string;
  hasToken: boolean;
  endpoint: URL;
}): string {
  const { status, code, repo, hasToken, endpoint } = refusal;
  const page = new URL(repo, endpoint).href;
  const tokenFix = hasToken
    ? "check that the token (HF_TOKEN, or `hf auth login`) is valid and may read it"
    : "set HF_TOKEN to a token of the hub that may read it";
  if (code === "GatedRepo") {
    return `: ${repo} is gated; accept its terms at ${page}${hasToken ? " with the token's account" : ", then set HF_TOKEN"}`;
  }
  if (code === "RevisionNotFound") return `: ${repo} has no such branch, tag or commit`;
  if (code === "EntryNotFound") return `: ${repo} has no such file in this revision`;
  if (code === "DisabledRepo") return `: the hub has disabled ${repo}`;
  if (status === 401 || (status === 404 && code === "RepoNotFound")) {
    return `: there is no model ${repo}, or it is private: check the name, or ${tokenFix}`;
  }
  if (status === 403) return `: ${tokenFix}; a gated model's terms are accepted at ${page}`;
  if (status === 404) return `: check the name ${repo}, its revision and file`;
  return "";
}
