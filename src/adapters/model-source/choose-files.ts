/**
 * Which of a repository's files are meant. A split set is one choice. Exact names win over quantisations; without either the usual
 * quantisation is taken and said; where two fit, nobody guesses: the refusal lists them.
 */
import { FallowError } from "../../domain/fault.ts";
import {
  baseName,
  canonicalQuantisation,
  isWeightsPath,
  namesOfSet,
  quantisationOfPath,
  splitNameOf,
} from "./gguf-names.ts";

export interface ChosenFiles {
  /** In load order. */
  readonly paths: readonly string[];
  /** Says what was chosen and why; null when it was named. */
  readonly chosen: string | null;
}

/** What people take first: the best size for its quality, then what loses nothing that shows, then the rest by habit. */
const PREFERRED = ["Q4_K_M", "Q8_0", "Q5_K_M", "Q6_K", "Q4_K_S", "Q4_0", "IQ4_XS", "MXFP4", "BF16", "F16"] as const;
/** Enough to see what there is; a repository holds some thirty. */
const LISTED_MAX = 40;

interface Choice {
  /** Of the first file. */
  readonly path: string;
  readonly paths: readonly string[];
  readonly quantisation: string | null;
  readonly missing: readonly string[];
}

/** `selector`: a path, a file name or a quantisation. Throws `model-source-invalid`. */
export function chooseFiles(paths: readonly string[], selector: string | null, where: string): ChosenFiles {
  const choices = choicesOf(paths);
  if (choices.length === 0) throw invalid(`${where} has no GGUF file of weights: this engine runs GGUF only`);
  if (selector === null) return byDefault(choices, where);
  const named = byName(choices, selector);
  if (named.length === 1 && named[0] !== undefined) return { paths: whole(named[0], where), chosen: null };
  if (named.length > 1) throw ambiguous(named, `${selector} names ${named.length} files in ${where}`);
  const wanted = canonicalQuantisation(selector);
  const fitting = choices.filter(({ quantisation }) => quantisation === wanted);
  if (fitting.length === 1 && fitting[0] !== undefined) return { paths: whole(fitting[0], where), chosen: null };
  if (fitting.length > 1) throw ambiguous(fitting, `${fitting.length} files of ${where} are ${wanted}`);
  throw invalid(`${where} has no file or quantisation ${selector}; it has ${listed(choices)}`);
}

function byDefault(choices: readonly Choice[], where: string): ChosenFiles {
  const [only] = choices;
  if (choices.length === 1 && only !== undefined) return { paths: whole(only, where), chosen: null };
  for (const quantisation of PREFERRED) {
    const fitting = choices.filter((choice) => choice.quantisation === quantisation);
    const [first] = fitting;
    if (first === undefined) continue;
    if (fitting.length > 1) throw ambiguous(fitting, `${fitting.length} files of ${where} are ${quantisation}`);
    const chosen = `${baseName(first.path)} is taken (${quantisation}) of ${choices.length} in ${where}`;
    return { paths: whole(first, where), chosen };
  }
  throw ambiguous(choices, `${where} has ${choices.length} files of weights, none of a usual quantisation`);
}

function byName(choices: readonly Choice[], selector: string): readonly Choice[] {
  const exact = choices.filter(({ paths }) => paths.includes(selector));
  if (exact.length > 0) return exact;
  return choices.filter(({ paths }) => paths.some((path) => baseName(path) === selector));
}

function choicesOf(paths: readonly string[]): readonly Choice[] {
  const there = new Set(paths);
  const choices = new Map<string, Choice>();
  for (const path of [...there].filter(isWeightsPath).sort()) {
    const split = splitNameOf(path);
    const all = split === null ? [path] : namesOfSet(split);
    const [first = path] = all;
    if (choices.has(first)) continue;
    const missing = all.filter((one) => !there.has(one));
    choices.set(first, { path: first, paths: all, quantisation: quantisationOfPath(path), missing });
  }
  return [...choices.values()];
}

function whole({ path, paths, missing }: Choice, where: string): readonly string[] {
  if (missing.length === 0) return paths;
  const lacks = missing.slice(0, LISTED_MAX).join(", ");
  throw invalid(`the set of ${baseName(path)} in ${where} has ${paths.length} files and lacks ${lacks}`);
}

function ambiguous(choices: readonly Choice[], what: string): FallowError {
  return invalid(`${what}: name one of ${listed(choices)}`);
}

function listed(choices: readonly Choice[]): string {
  const names = choices.slice(0, LISTED_MAX).map(({ path, quantisation, paths }) => {
    const quality = quantisation === null ? [] : [quantisation];
    const facts = [...quality, ...(paths.length > 1 ? [`${paths.length} files`] : [])].join(", ");
    return facts === "" ? path : `${path} (${facts})`;
  });
  const more = choices.length - names.length;
  return more > 0 ? `${names.join(", ")} and ${more} more` : names.join(", ");
}

function invalid(message: string): FallowError {
  return new FallowError("model-source-invalid", message);
}
