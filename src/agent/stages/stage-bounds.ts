/** Bounds of a stage's dealings with its neighbours. */

/** Each side shows so often that it lives, while any sequence is open. */
export const PULSE_MS = 125;
/** So long a silence is a fault, this node's own pauses taken out, whoever the neighbour is. */
export const SILENT_MS = 1_000;
/** A neighbour that was always heard quickly is given up after this; one whose frames came late now and then is given `SILENT_TIMES` its longest gap. */
export const SILENT_MS_MIN = 500;
export const SILENT_TIMES = 2;
/** The longest gap counts half after so long. */
export const GAP_HALF_LIFE_MS = 10_000;
/** What a neighbour's gap is taken for before it was heard for a while. */
export const GAP_MS_START = 300;
/** A tick that comes so late means that this machine stood still: what came meanwhile is not yet read. */
export const STALL_MS = 150;
/** From the order to the neighbours' hellos; they may hear of the epoch later than this node. */
export const LINKING_MS = 5_000;
/** Between two tries to be let in by a neighbour that may not know the epoch yet. */
export const LINK_RETRY_MS_MIN = 25;
export const LINK_RETRY_MS_MAX = 400;
/** `chain.state` while nothing changes. */
export const STATE_MS = 1_000;

/** Activations frames that the next stage has not taken: more than round trip times rate of any chain, and little memory. */
export const WINDOW_FRAMES = 64;
/** Of these, bytes. */
export const WINDOW_BYTES = 8 * 1024 * 1024;
/** What was taken is told in steps. */
export const CREDIT_FRAMES = 8;
export const CREDIT_BYTES = 1024 * 1024;
/** Outputs that wait for the window; the head is told to wait long before. */
export const WAITING_BYTES_MAX = 32 * 1024 * 1024;

/** Pieces that are sent again: a decode of so many positions is as fast as any. */
export const REPLAY_POSITIONS_MAX = 256;
/** A stage that was asked for what is missing sends it within this; what it goes on sending behind the hole is wrong from then on. */
export const GAP_MS = 10_000;
/** Gaps of one sequence under one lease that are mended: a stage that forgets again and again is not served for ever. */
export const GAPS_MAX = 16;

/** Sequences that a stage remembers, open or not: their names, leases and positions. */
export const SEQUENCES_MAX = 1_024;
/** Passes that came before their attempt's order, of all sequences. Their frames are not credited meanwhile, so the window bounds them too. */
export const EARLY_MS_MAX = 10_000;
/** A sequence that holds a slot of the last stage for so long without an attempt is the first stage's fault, which hears of attempts at the same time. */
export const UNLEASED_MS = 3_000;
