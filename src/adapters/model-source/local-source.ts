/**
 * A file of the coordinator's machine, the first of a split set, or a folder that holds one model. A file is followed wherever its link leads,
 * because the operator named it; what a folder holds was named by nobody, so a link there that leads outside is refused.
 */
import { lstat, readdir, realpath, stat } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, relative, sep } from "node:path";
import { FallowError } from "../../domain/fault.ts";
import type { ResolvedSource, SourceFile } from "../../ports/model-source.ts";
import { chooseFiles } from "./choose-files.ts";
import { namesOfSet, splitNameOf, suggestedIdOf } from "./gguf-names.ts";

/** A folder of models holds some hundred files; this only bounds a foreign one. */
const FOLDER_FILES_MAX = 10_000;

/** Rejects: `model-source-invalid`, `model-source-unsafe`, `model-file-unreadable`. */
export async function resolveLocal(path: string): Promise<ResolvedSource> {
  if (!isAbsolute(path)) throw invalid(`${path} is no whole path: the coordinator needs one that begins at the root`);
  const facts = await factsOf(path);
  const { paths, chosen } = facts.isDirectory() ? await ofFolder(path) : { paths: setOf(path), chosen: null };
  const files: SourceFile[] = [];
  for (const one of paths) files.push(localFile(one, await sizeOf(one)));
  const [first = path] = paths;
  return {
    origin: { kind: "local" },
    pinned: first,
    chosen,
    suggestedId: suggestedIdOf(basename(first)),
    licence: null,
    files,
  };
}

async function ofFolder(folder: string): Promise<{ paths: readonly string[]; chosen: string | null }> {
  const names = await readdir(folder);
  if (names.length > FOLDER_FILES_MAX) {
    throw invalid(`${folder} has ${names.length} entries: name the file itself, a folder may have ${FOLDER_FILES_MAX}`);
  }
  const { paths, chosen } = chooseFiles(names, null, folder);
  const inside = await realpath(folder);
  for (const name of paths) {
    const at = join(folder, name);
    if (!(await lstat(at)).isSymbolicLink()) continue;
    const target = await realpath(at);
    const way = relative(inside, target);
    if (way === ".." || way.startsWith(`..${sep}`) || isAbsolute(way)) {
      const message = `${name} in ${folder} is a link that leads outside, to ${target}: name that file itself if you mean it`;
      throw new FallowError("model-source-unsafe", message, { data: { path: at, target } });
    }
  }
  return { paths: paths.map((name) => join(folder, name)), chosen };
}

function setOf(path: string): readonly string[] {
  const name = basename(path);
  const split = splitNameOf(name);
  if (split === null) return [path];
  const names = namesOfSet(split);
  if (split.index !== 1) throw invalid(`${name} is file ${split.index} of a set: name the first, ${names[0]}`);
  return names.map((one) => join(dirname(path), one));
}

function localFile(path: string, fileBytes: number): SourceFile {
  return {
    name: basename(path),
    fileBytes,
    sha256: null,
    version: null,
    localPath: path,
    // A file of this machine is read where it lies (`localPath`).
    read: () => {
      throw new FallowError("model-file-unreadable", `${path} is read where it lies, not fetched`);
    },
  };
}

async function factsOf(path: string) {
  try {
    return await stat(path);
  } catch (cause) {
    const isMissing = cause instanceof Error && "code" in cause && cause.code === "ENOENT";
    const why = isMissing ? "there is no such file" : cause instanceof Error ? cause.message : String(cause);
    throw new FallowError("model-file-unreadable", `${path} cannot be read: ${why}`, { data: { path }, cause });
  }
}

async function sizeOf(path: string): Promise<number> {
  const facts = await factsOf(path);
  if (facts.isFile()) return facts.size;
  throw new FallowError("model-file-unreadable", `${path} cannot be read: it is no regular file`, { data: { path } });
}

function invalid(message: string): FallowError {
  return new FallowError("model-source-invalid", message);
}
