import { expect, test } from "vitest";
import { sequenceId } from "../../domain/chain.ts";
import { heldBy, type SequenceEntry, StageSequences } from "./stage-sequences.ts";

const named = (index: number) => sequenceId(index.toString(16).padStart(16, "0"));

function taken(sequences: StageSequences, index: number): SequenceEntry {
  const entry = sequences.take(named(index), "open")?.entry;
  if (entry === undefined) throw new Error(`sequence ${index} gets a slot`);
  return entry;
}

const note = (start: number, count: number) => ({ tag: 0, start, count, how: "together", draw: null }) as const;

test("slots are given from the lowest on, and again when they are free", () => {
  const sequences = new StageSequences(3);
  const entries = [1, 2, 3].map((index) => taken(sequences, index));
  expect(entries.map(({ slot }) => slot)).toEqual([0, 1, 2]);
  expect(sequences.take(named(4), "open")).toBeNull();
  for (const entry of [entries[2], entries[0]]) if (entry !== undefined) sequences.remove(entry);
  expect([taken(sequences, 5).slot, taken(sequences, 6).slot]).toEqual([0, 2]);
});

test("the slot released longest ago is emptied for another; those that are open are not", () => {
  const sequences = new StageSequences(2);
  const [first, second] = [taken(sequences, 1), taken(sequences, 2)];
  sequences.release(second);
  sequences.release(first);
  const other = sequences.take(named(3), "open");
  expect(other).toMatchObject({ emptied: 1, entry: { slot: 1 } });
  expect(sequences.get(named(2))).toBeNull();
  expect(sequences.get(named(1))).toBe(first);
});

test("what comes for an earlier opening finds nobody", () => {
  const sequences = new StageSequences(1);
  const entry = taken(sequences, 1);
  const { key } = entry;
  sequences.release(entry);
  expect(sequences.byKey(key)).toBe(entry);
  sequences.reopen(entry);
  expect(sequences.byKey(key)).toBeNull();
  expect(sequences.byKey(entry.key)).toBe(entry);
});

test("passes count as done while it is open; at release, what they would cut off counts as lost", () => {
  const sequences = new StageSequences(1);
  const entry = taken(sequences, 1);
  entry.held = 10;
  entry.pending.push(note(10, 4), note(6, 2));
  expect(heldBy(entry)).toBe(8);
  sequences.release(entry);
  expect(heldBy(entry)).toBe(6);
});
