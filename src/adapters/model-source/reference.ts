/**
 * How people name where a model is:
 *
 * | reference                                                       | means                                          |
 * | --------------------------------------------------------------- | ---------------------------------------------- |
 * | `hf:owner/repo`, `…@revision`, `…:quantisation`, `…:path.gguf`  | files of a repository of the hub               |
 * | `hf.co/owner/repo…`, `https://huggingface.co/owner/repo/…`      | the same                                       |
 * | `https://…`, with `#sha256=<hex>` for each file, by commas      | one file, or the first of a split set          |
 * | anything else                                                   | a path on the coordinator's machine            |
 */
import { FallowError } from "../../domain/fault.ts";

export type ModelReference =
  | {
      readonly kind: "hf";
      readonly repo: string;
      /** Null for the main branch. */
      readonly revision: string | null;
      readonly selector: string | null;
    }
  | { readonly kind: "https"; readonly url: URL; readonly sha256: readonly string[] }
  | { readonly kind: "local"; readonly path: string };

export const REFERENCE_CHARS_MAX = 4_096;
const PART = /^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$/;
const REVISION = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$/;
const HUB_NAME = /^(?:https?:\/\/)?(?:www\.)?(?:hf\.co|huggingface\.co)\//i;
const FORM = "hf:<owner>/<repo>, with @<revision> and :<quantisation or file.gguf> if you like";

/** `endpoint`: the hub's address; its pages are read as references to it. Throws `model-source-invalid`. */
export function parseReference(text: string, endpoint: URL): ModelReference {
  if (text === "" || text.length > REFERENCE_CHARS_MAX) {
    throw invalid(`a reference has 1 to ${REFERENCE_CHARS_MAX} characters, this has ${text.length}`);
  }
  if (/^hf:/i.test(text)) return hubReference(text.slice(3).replace(/^\/+/, ""), text);
  if (HUB_NAME.test(text)) return fromPage(text.replace(HUB_NAME, ""), text);
  if (!/^https?:/i.test(text)) return { kind: "local", path: text };
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null) throw invalid(`${text} is no address`);
  const isHubPage = url.host === endpoint.host && url.pathname.startsWith(endpoint.pathname);
  if (isHubPage) return fromPage(url.pathname.slice(endpoint.pathname.length).replace(/^\/+/, ""), text);
  if (url.username !== "" || url.password !== "") {
    throw invalid(`${url.host}: an address with a name and password would end in logs; use one without`);
  }
  const sha256 = digestsOf(url.hash, text);
  url.hash = "";
  return { kind: "https", url, sha256 };
}

function hubReference(body: string, text: string): ModelReference {
  const [, owner = "", name = "", revision = null, selector = null] =
    /^([^/@:]+)\/([^/@:]+)(?:@([^:]+))?(?::(.+))?$/.exec(body) ?? [];
  if (!PART.test(owner) || !PART.test(name) || name.includes(".."))
    throw invalid(`${text} names no model: write ${FORM}`);
  if (revision !== null && (!REVISION.test(revision) || revision.includes(".."))) {
    throw invalid(`${revision} is no revision: a branch, a tag or a commit is right`);
  }
  if (selector !== null && !isPlainPath(selector)) {
    throw invalid(`${JSON.stringify(selector)} is no quantisation and no path of a file in the repository`);
  }
  return { kind: "hf", repo: `${owner}/${name}`, revision, selector };
}

/** `owner/repo`, `owner/repo:Q4_K_M`, `owner/repo/resolve/main/file.gguf`, `owner/repo/tree/main`. */
function fromPage(page: string, text: string): ModelReference {
  const path = page.replace(/[?#].*$/, "").replace(/\/+$/, "");
  const [, repo, revision, file] = /^([^/]+\/[^/:@]+)\/(?:resolve|blob|tree|raw)\/([^/]+)(?:\/(.+))?$/.exec(path) ?? [];
  if (repo === undefined) return hubReference(path, text);
  const decoded = [revision ?? "", ...(file === undefined ? [] : [decodedPart(file, text)])];
  return hubReference(`${repo}@${decoded.join(":")}`, text);
}

function decodedPart(part: string, text: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw invalid(`${text} has a broken % escape`);
  }
}

function digestsOf(hash: string, text: string): readonly string[] {
  if (hash === "") return [];
  const digests = /^#sha256=([0-9a-f]{64}(?:,[0-9a-f]{64})*)$/i.exec(hash)?.[1];
  if (digests === undefined) throw invalid(`${text}: after # only sha256= and 64 hex digits for each file are right`);
  return digests.toLowerCase().split(",");
}

function isPlainPath(path: string): boolean {
  const hasControl = [...path].some((one) => (one.codePointAt(0) ?? 0) < 0x20);
  const parts = path.split("/");
  return path.length <= 1_024 && !hasControl && !path.includes("\\") && !parts.some((part) => /^\.{0,2}$/.test(part));
}

function invalid(message: string): FallowError {
  return new FallowError("model-source-invalid", message);
}
