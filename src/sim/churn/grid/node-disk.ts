/** What layers a machine has on its disk. Bytes that were fetched once need not move again, until the disk is full or lost. */

import type { SimModel } from "../policies/served-mix.ts";
import type { GridNode, StagePlan } from "./grid-parts.ts";

/** Places of a model on a disk: its layers, then embedding, then head. */
function places(disk: GridNode["disk"], model: number, spec: SimModel): Uint8Array {
  let held = disk.get(model);
  if (held === undefined) {
    held = new Uint8Array(spec.layerCount + 2);
    disk.set(model, held);
  }
  return held;
}

function placeBytes(spec: SimModel, place: number): number {
  return place < spec.layerCount ? spec.layerBytes : spec.endsBytes / 2;
}

/** Places that a stage needs, in order. */
function placesOf(plan: StagePlan, spec: SimModel): readonly number[] {
  const needed = Array.from({ length: plan.end - plan.first }, (_, at) => plan.first + at);
  if (plan.first === 0) needed.push(spec.layerCount);
  if (plan.end === spec.layerCount) needed.push(spec.layerCount + 1);
  return needed;
}

/** Bytes that have to be fetched before the stage can be loaded. */
export function missingBytes(node: GridNode, plan: StagePlan, spec: SimModel): number {
  const held = node.disk.get(plan.model);
  let bytes = 0;
  for (const place of placesOf(plan, spec)) if (held?.[place] !== 1) bytes += placeBytes(spec, place);
  return bytes;
}

/** Puts what `bytes` of a transfer brought on the disk: whole layers in order; a layer cut off in the middle is fetched anew. */
export function keepFetched(
  node: GridNode,
  plan: StagePlan,
  fetched: { spec: SimModel; bytes: number; nowMs: number },
): void {
  const { spec, nowMs } = fetched;
  const held = places(node.disk, plan.model, spec);
  let left = fetched.bytes;
  for (const place of placesOf(plan, spec)) {
    if (held[place] === 1) continue;
    left -= placeBytes(spec, place);
    // Half a byte of slack: sums of doubles.
    if (left < -0.5) break;
    held[place] = 1;
  }
  node.diskUsedAtMs.set(plan.model, nowMs);
}

export function diskBytesHeld(node: GridNode, models: readonly SimModel[]): number {
  let bytes = 0;
  for (const [model, held] of node.disk) {
    const spec = models[model];
    if (spec === undefined) continue;
    for (const [place, isHeld] of held.entries()) if (isHeld === 1) bytes += placeBytes(spec, place);
  }
  return bytes;
}

/** Deletes models that nothing on the machine uses, the longest unused first, until `bytes` more fit. False when they cannot. */
export function makeDiskRoom(node: GridNode, need: { bytes: number; models: readonly SimModel[] }): boolean {
  let over = diskBytesHeld(node, need.models) + need.bytes - node.draw.diskBytes;
  if (over <= 0) return true;
  const inUse = new Set(node.stages.map(({ model }) => model));
  const byAge = [...node.disk.keys()]
    .filter((model) => !inUse.has(model))
    .sort((a, b) => (node.diskUsedAtMs.get(a) ?? 0) - (node.diskUsedAtMs.get(b) ?? 0) || a - b);
  for (const model of byAge) {
    const before = diskBytesHeld(node, need.models);
    node.disk.delete(model);
    over -= before - diskBytesHeld(node, need.models);
    if (over <= 0) return true;
  }
  return false;
}
