/**
 * Which slot of the engine a new sequence takes. A slot keeps the keys and values of the last sequence that it held, and a
 * request of the same conversation begins with the same tokens.
 *
 * Rule: an idle slot that holds mostly the beginning of this prompt is its own conversation's and is taken. Otherwise the
 * least recently used slot is given up, and the longest beginning that any slot holds is copied into it if that saves
 * enough. Ties go to the lowest slot. Slots are given up in order of use, so that sequences which start together lie side
 * by side, where the engine decodes them as one piece.
 *
 * A slot of another scope holds nothing for this prompt, however alike the tokens are: tenants do not learn of each other.
 */

/** A copy moves a slot's whole memory: it must save at least this many tokens of prefill. */
export const COPY_GAIN_TOKENS_MIN = 64;

export interface SlotState {
  readonly isBusy: boolean;
  /** Tokens whose keys and values the slot holds. */
  readonly tokens: ArrayLike<number>;
  /** Whose tokens they are; null when the slot was never used. */
  readonly scope: string | null;
  /** Rises with every use; 0 when never used. */
  readonly lastUse: number;
}

export interface SlotChoice {
  readonly slot: number;
  /** Tokens of the beginning that need no decoding. */
  readonly reusedTokens: number;
  /** Slot to copy the beginning from, or null when it is in the slot itself. */
  readonly copyFrom: number | null;
}

interface Holding {
  readonly slot: number;
  readonly shared: number;
}

/**
 * The slot for a prompt, or null when all are busy. At least one token is left to decode: the last one's logits are what
 * the answer begins with.
 */
export function chooseSlot(
  slots: readonly SlotState[],
  sequence: { readonly prompt: ArrayLike<number>; readonly scope: string },
): SlotChoice | null {
  const { prompt, scope } = sequence;
  const most = prompt.length - 1;
  let oldest: { slot: number; lastUse: number } | null = null;
  let own: Holding | null = null;
  let longest: Holding | null = null;
  for (const [slot, state] of slots.entries()) {
    const shared = state.scope === scope ? Math.min(most, commonPrefix(state.tokens, prompt)) : 0;
    if (shared > (longest?.shared ?? 0)) longest = { slot, shared };
    if (state.isBusy) continue;
    if (oldest === null || state.lastUse < oldest.lastUse) oldest = { slot, lastUse: state.lastUse };
    const isMostlyOurs = 2 * shared >= state.tokens.length;
    if (isMostlyOurs && shared > (own?.shared ?? 0)) own = { slot, shared };
  }
  if (oldest === null) return null;
  const target = own ?? { slot: oldest.slot, shared: sharedIn(slots[oldest.slot], sequence, most) };
  if (longest !== null && longest.slot !== target.slot && longest.shared >= target.shared + COPY_GAIN_TOKENS_MIN) {
    return { slot: target.slot, reusedTokens: longest.shared, copyFrom: longest.slot };
  }
  return { slot: target.slot, reusedTokens: target.shared, copyFrom: null };
}

export function commonPrefix(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const most = Math.min(a.length, b.length);
  let length = 0;
  while (length < most && a[length] === b[length]) length++;
  return length;
}

function sharedIn(
  slot: SlotState | undefined,
  sequence: { readonly prompt: ArrayLike<number>; readonly scope: string },
  most: number,
): number {
  return slot?.scope === sequence.scope ? Math.min(most, commonPrefix(slot.tokens, sequence.prompt)) : 0;
}
