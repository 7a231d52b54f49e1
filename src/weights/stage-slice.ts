/**
 * Cuts a model into stages: from the headers of a GGUF, or of all files of a split one, and a share of the layers, the plan of a GGUF that holds
 * these layers alone, numbered from 0, quantised bytes verbatim (stage-plan.ts). Whoever has the files, or just the chunks of the share
 * (chunks-of-layers.ts), writes the plan's pieces one behind the other.
 *
 * | tensor          | first stage               | between            | last stage                                                |
 * | --------------- | ------------------------- | ------------------ | --------------------------------------------------------- |
 * | token_embd      | the model's               | 8 rows of zeros    | the head, where the loader takes it from here; else zeros |
 * | position_embd   | the model's               | zeros              | zeros: what comes in has its position already             |
 * | output_norm     | ones (bias: zeros)        | ones (bias: zeros) | the model's                                               |
 * | output          | zeros, where it may stand | zeros, if demanded | the model's, unless token_embd holds it                   |
 * | rope factors    | the model's               | the model's        | the model's                                               |
 * | vocabulary      | none, its size is kept    | none, 8 tokens     | the model's                                               |
 *
 * Hidden states leave a stage before its output norm, so that what stands there is never computed with. The file tells in
 * `fallow.stage.output_tensor` (`STAGE_OUTPUT_KEY`) which tensor holds them; the engine captures that one. Where the file has
 * `fallow.stage.input_tensor` (`STAGE_INPUT_KEY`: gemma, gemma2, bloom), the engine changes what it is given before its first layer: hidden states
 * are given to it as always, and written into that tensor once more when it was computed (`cb_eval`, second call).
 *
 * Not handled: what stage-architectures.ts does not list is refused with `stage-refused`, also models of a listed architecture in which something
 * depends on how many layers the whole has.
 */
import { no, type Outcome, ok } from "../domain/refusal.ts";
import type { LayerShare } from "../domain/weights.ts";
import type { ByteSource } from "./byte-source.ts";
import type { GgufHeader } from "./gguf-header.ts";
import { readGgufHeader } from "./gguf-reader.ts";
import { GgufProblem, type GgufRefusal } from "./gguf-refusal.ts";
import { padding, writeGgufHeader } from "./gguf-writer.ts";
import { Metadata } from "./metadata.ts";
import { joinSplit } from "./split-gguf.ts";
import { checkStages, type StagedModel } from "./stage-checks.ts";
import { stageEntries } from "./stage-metadata.ts";
import { pieceBytes, type StagePiece, type StagePlan } from "./stage-plan.ts";
import { placesOf, stageTensors } from "./stage-tensors.ts";

/** Reads the headers and plans. Rejects only when a source's `read` does. */
export async function readStagePlan(
  files: readonly ByteSource[],
  share: LayerShare,
  names: readonly string[] | null = null,
): Promise<Outcome<StagePlan, GgufRefusal>> {
  const headers: GgufHeader[] = [];
  for (const source of files) {
    const header = await readGgufHeader(source);
    if (!header.ok) return header;
    headers.push(header.value);
  }
  return planStage(headers, share, names);
}

/** Headers in the order of the files. */
export function planStage(
  headers: readonly GgufHeader[],
  share: LayerShare,
  names: readonly string[] | null = null,
): Outcome<StagePlan, GgufRefusal> {
  return answered(() => {
    const model = checkStages(joinSplit(headers, names));
    checkShare(model, share);
    return planOf(headers, model, share);
  });
}

/** Why this model cannot be cut into stages, or null: asked when a model is taken in, before anything is planned for it. */
export function stageRefusalOf(headers: readonly GgufHeader[]): GgufRefusal | null {
  const checked = answered(() => checkStages(joinSplit(headers, null)));
  return checked.ok ? null : checked.reason;
}

function answered<T>(work: () => T): Outcome<T, GgufRefusal> {
  try {
    return ok(work());
  } catch (problem) {
    if (problem instanceof GgufProblem) return no(problem.refusal);
    throw problem;
  }
}

function checkShare({ layerCount, architecture, rules }: StagedModel, share: LayerShare): void {
  const { first, count } = share;
  const isInside = Number.isInteger(first) && Number.isInteger(count) && first >= 0 && count >= 1;
  if (!isInside || first + count > layerCount) {
    throw new GgufProblem("stage-refused", `layers ${first} + ${count} are not among the model's ${layerCount}`);
  }
  if (rules.countsRefused.includes(count)) {
    const message = `a stage of ${count} layers of a ${architecture} cannot be: the engine tells other models by that number`;
    throw new GgufProblem("stage-refused", message);
  }
  if (share.hasEmbedding !== (first === 0) || share.hasOutput !== (first + count === layerCount)) {
    const ends = `hasEmbedding ${share.hasEmbedding} and hasOutput ${share.hasOutput}`;
    throw new GgufProblem(
      "stage-refused",
      `layers ${first} + ${count} of ${layerCount} go with the ends they reach, not ${ends}`,
    );
  }
}

function planOf(headers: readonly GgufHeader[], model: StagedModel, share: LayerShare): StagePlan {
  const { alignment } = model.header;
  const tensors = stageTensors(model, share, placesOf(headers));
  const outputTensor = share.hasOutput ? null : model.rules.outputTensor(share.count);
  const inputTensor = share.hasEmbedding ? null : model.rules.inputTensor;
  const header = writeGgufHeader({
    entries: stageEntries(model, share, { outputTensor, inputTensor }),
    tensors: tensors.map(({ name, dimensions, type, piece }) => ({ name, dimensions, type, bytes: pieceBytes(piece) })),
    alignment,
  });
  const pieces: StagePiece[] = [{ kind: "bytes", bytes: header }];
  for (const { piece } of tensors) {
    pieces.push(piece);
    const gap = padding(pieceBytes(piece), alignment);
    if (gap > 0) pieces.push({ kind: "zeros", bytes: gap });
  }
  const fileBytes = pieces.reduce((sum, piece) => sum + pieceBytes(piece), 0);
  const architecture = new Metadata(model.header).text("general.architecture");
  return { architecture, share, outputTensor, inputTensor, fileBytes, pieces };
}
