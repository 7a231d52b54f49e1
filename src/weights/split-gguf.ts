/**
 * A model that llama.cpp's gguf-split cut into files (tools/gguf-split, src/llama-model-loader.cpp): each file is a GGUF of some of the
 * tensors, the first has all metadata, and each tells its number (`split.no` from 0), how many there are (`split.count`) and how many
 * tensors all hold (`split.tensors.count`). An engine opens the first and finds the others by name: `NAME-00001-of-00003.gguf`.
 *
 * Not handled: a file of the same model in another quantisation that was cut at the same tensors looks right here; digests tell those apart.
 */
import { no, type Outcome, ok } from "../domain/refusal.ts";
import { WEIGHTS_FILES_MAX } from "../domain/weights.ts";
import type { GgufHeader } from "./gguf-header.ts";
import { GgufProblem, type GgufRefusal } from "./gguf-refusal.ts";
import { Metadata } from "./metadata.ts";

export interface SplitName {
  /** All that stands before the number: files of one model share it. */
  readonly prefix: string;
  /** From 1. */
  readonly number: number;
  readonly count: number;
}

/** Null when the name is not one of a split file. */
export function splitNameOf(name: string): SplitName | null {
  const [, prefix, number, count] = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/s.exec(name) ?? [];
  if (prefix === undefined || number === undefined || count === undefined) return null;
  return { prefix, number: Number(number), count: Number(count) };
}

export function splitFileName({ prefix, number, count }: SplitName): string {
  const five = (value: number): string => String(value).padStart(5, "0");
  return `${prefix}-${five(number)}-of-${five(count)}.gguf`;
}

/** One description of all files of a model: the only one, or those of a split in order. A file that is missing, twice or foreign is refused by name. */
export function joinHeaders(
  headers: readonly GgufHeader[],
  names: readonly string[] | null,
): Outcome<GgufHeader, GgufRefusal> {
  try {
    return ok(joinSplit(headers, names));
  } catch (problem) {
    if (problem instanceof GgufProblem) return no(problem.refusal);
    throw problem;
  }
}

/** As `joinHeaders`, for callers in this room: throws the refusal. */
export function joinSplit(headers: readonly GgufHeader[], names: readonly string[] | null): GgufHeader {
  const [first, ...others] = headers;
  if (first === undefined) throw new GgufProblem("split-missing", "a model has at least one file, none was given");
  const nameOf = (index: number): string => names?.[index] ?? `file ${index + 1}`;
  const infos = headers.map((header, index) => splitInfoOf(header, nameOf(index)));
  const count = infos[0]?.count ?? 1;
  checkNumbers(infos, nameOf);
  if (names !== null && count > 1) checkNames(names, count);
  checkOneModel(headers, nameOf);
  const tensors = headers.flatMap((header) => header.tensors);
  refuseDoubles(headers, nameOf);
  const declared = infos[0]?.tensorCount ?? null;
  if (count > 1 && declared !== null && declared !== tensors.length) {
    const message = `split.tensors.count of ${nameOf(0)} is ${declared}, the ${count} files hold ${tensors.length} tensors`;
    throw new GgufProblem("split-foreign", message);
  }
  if (others.length === 0) return first;
  const entries = new Map([...first.entries].filter(([key]) => !key.startsWith("split.")));
  const fileBytes = headers.reduce((sum, header) => sum + header.fileBytes, 0);
  return { ...first, entries, tensors, fileBytes };
}

interface SplitInfo {
  /** From 0. */
  readonly number: number;
  readonly count: number;
  readonly tensorCount: number | null;
}

function splitInfoOf(header: GgufHeader, name: string): SplitInfo {
  const metadata = new Metadata(header);
  const count = metadata.integerOrNull("split.count", { least: 0, most: 65_535 }) ?? 1;
  const number = metadata.integerOrNull("split.no", { least: 0, most: 65_535 }) ?? 0;
  const tensorCount = metadata.integerOrNull("split.tensors.count", { least: 0, most: 0x7fffffff });
  if (count <= 1) return { number: 0, count: 1, tensorCount };
  if (count > WEIGHTS_FILES_MAX) {
    throw new GgufProblem(
      "too-large",
      `split.count of ${name} is ${count}; at most ${WEIGHTS_FILES_MAX} files are taken`,
    );
  }
  if (number >= count) {
    throw new GgufProblem(
      "bad-metadata",
      `split.no of ${name} is ${number}, not 0 to ${count - 1} as its split.count says`,
    );
  }
  return { number, count, tensorCount };
}

function checkNumbers(infos: readonly SplitInfo[], nameOf: (index: number) => string): void {
  const count = infos[0]?.count ?? 1;
  const seen = new Map<number, number>();
  for (const [index, info] of infos.entries()) {
    if (info.count !== count) {
      const message = `${nameOf(index)} is of a model of ${info.count} files, ${nameOf(0)} of one of ${count}`;
      throw new GgufProblem("split-foreign", message);
    }
    const earlier = seen.get(info.number);
    if (earlier !== undefined) {
      const which = count === 1 ? "are both whole models" : `are both number ${info.number + 1} of ${count}`;
      throw new GgufProblem("split-doubled", `${nameOf(earlier)} and ${nameOf(index)} ${which}`);
    }
    seen.set(info.number, index);
  }
  const missing = Array.from({ length: count }, (_, number) => number).filter((number) => !seen.has(number));
  if (missing.length > 0) {
    const shown = missing
      .slice(0, 8)
      .map((number) => number + 1)
      .join(", ");
    const message = `split.count is ${count}: ${missing.length} of the files are missing, number ${shown} of ${count}`;
    throw new GgufProblem("split-missing", message);
  }
  for (const [index, { number }] of infos.entries()) {
    if (number === index) continue;
    const message = `${nameOf(index)} is number ${number + 1} of ${count} and stands at place ${index + 1}: files come in their order`;
    throw new GgufProblem("split-order", message);
  }
}

function checkNames(names: readonly string[], count: number): void {
  const prefix = splitNameOf(names[0] ?? "")?.prefix;
  for (const [index, name] of names.entries()) {
    const right = splitFileName({ prefix: prefix ?? "NAME", number: index + 1, count });
    if (prefix !== undefined && name === right) continue;
    const message = `number ${index + 1} of ${count} is called ${JSON.stringify(name.slice(0, 200))}; an engine looks for ${JSON.stringify(right)}`;
    throw new GgufProblem("split-foreign", message);
  }
}

/** Later files repeat some of the first one's metadata at most: what they do tell must agree. */
function checkOneModel(headers: readonly GgufHeader[], nameOf: (index: number) => string): void {
  const [first] = headers;
  for (const [index, header] of headers.entries()) {
    for (const key of ["general.architecture", "general.name", "split.tensors.count"]) {
      const [own, other] = [header.entries.get(key)?.value, first?.entries.get(key)?.value];
      if (own === undefined || other === undefined || own.type === "array" || other.type === "array") continue;
      if (own.value === other.value) continue;
      const message = `${key} of ${nameOf(index)} is ${shown(own.value)}, of ${nameOf(0)} ${shown(other.value)}: they are of two models`;
      throw new GgufProblem("split-foreign", message);
    }
  }
}

function refuseDoubles(headers: readonly GgufHeader[], nameOf: (index: number) => string): void {
  const holders = new Map<string, number>();
  for (const [index, { tensors }] of headers.entries()) {
    for (const { name } of tensors) {
      const earlier = holders.get(name);
      if (earlier !== undefined) {
        const message = `the tensor ${name} stands in ${nameOf(earlier)} and in ${nameOf(index)}`;
        throw new GgufProblem("split-doubled", message);
      }
      holders.set(name, index);
    }
  }
}

function shown(value: number | bigint | boolean | string): string {
  return JSON.stringify(String(value).slice(0, 80));
}
