/** Bounds of a link between two nodes; docs/peer-link.md says what follows from them. */

/** A link looks after itself this often while something moves, and the governor's ping goes out as often. */
export const BUSY_TICK_MS = 50;
export const IDLE_TICK_MS = 1_000;
/** Pings of an idle connection: they keep mappings of NATs open (30 s is the shortest seen) and notice the dead. */
export const IDLE_PING_MS = 10_000;
/** A connection that answers nothing for so long, or four round trips, is passed over; after five times that it is cut. */
export const SILENT_MS = 800;
/** A connection of bulk from which nothing comes for so long is asked whether it is there. */
export const QUIET_MS = 200;
export const SILENT_ROUND_TRIPS = 4;
export const SILENT_CUTS_TIMES = 5;
/** Without any connection for so long a link ends as unreachable, on either side. */
export const UNREACHABLE_MS = 15_000;
/** From a connection to its greeting: one round trip. */
export const GREETING_MS_MAX = 5_000;
/** Connections whose greeting has not come. */
export const GREETINGS_MAX = 128;
/** Of these, from one address: who opens connections and says nothing keeps no others out. */
export const GREETINGS_OF_ADDRESS_MAX = 48;
/** Of one session: 16 TCP bulk, one UDP, three for messages, and as many again that are about to end. */
export const CONNECTIONS_PER_LINK_MAX = 24;
export const LINKS_MAX = 256;
/** Carriers start one after the other, so that the best has a chance to be the first to answer. */
export const CARRIER_STAGGER_MS = 300;
/** While no connection answers. */
export const REDIAL_MS_MIN = 500;
export const REDIAL_MS_MAX = 30_000;

/** What a link asked for and holds unread, of all fetches together: the credit that it gives. */
export const LINK_BUFFER_BYTES = 16 * 1024 * 1024;
/** One fetch's share of it. */
export const FETCH_BUFFER_BYTES = 8 * 1024 * 1024;
/** More at once wait for nothing: a chunk each is 128 MiB. */
export const FETCHES_MAX = 128;
/** What is asked for at once from one connection; it moves to another whole when the connection is cut. */
export const SEGMENT_BYTES_MIN = 16 * 1024;
export const SEGMENT_BYTES_MAX = 256 * 1024;
/** What one connection may owe: a second of 4 MB/s, and beyond it more would not make it faster. */
export const CONNECTION_ASKED_BYTES_MAX = 4 * 1024 * 1024;
export const CONNECTION_ASKED_BYTES_MIN = 64 * 1024;
export const CONNECTION_ASKED_BYTES_START = 256 * 1024;
/** A connection is asked for what it brings in two round trips and this long: queues at the sender then never run dry. */
export const ASK_AHEAD_MS = 150;
/** Asks that one connection may hold open with the serving node. */
export const ASKS_PER_CONNECTION_MAX = 512;
/** Answers that a serving node keeps open between asks for the same thing. */
export const ANSWERS_KEPT_MAX = 160;
export const ANSWER_KEPT_MS = 2_000;
/** Read and written at once by the serving node. */
export const PIECE_BYTES = 128 * 1024;
/** On a connection that messages share, so that they wait for little. */
export const SHARED_PIECE_BYTES = 16 * 1024;
/** There bulk waits while so much is queued: at 10 Mbit/s a message waits 25 ms for it. */
export const SHARED_QUEUE_BYTES = 32 * 1024;
export const SHARED_LOOK_MS = 5;

/**
 * An asker that takes nothing of what it asked for in so long is cut: what is queued for one comes in time at 4 KB/s. It may seem alive, since
 * bytes of its own do come, and would hold an upload's place for ever.
 */
export const UNREAD_MS = 120_000;

/** Messages sent and not acknowledged. */
export const MESSAGE_WINDOW_BYTES = 4 * 1024 * 1024;
export const MESSAGE_WINDOW_COUNT = 256;
/** A delivered message is acknowledged within so long, or with others: an answer to each at once costs both nodes more than the message. */
export const ACK_MS = 20;
/** Of either so much unacknowledged is acknowledged at once, far below the window. */
export const ACK_COUNT = 32;
export const ACK_BYTES = 512 * 1024;
/** Callers that wait for room in it. */
export const MESSAGES_WAITING_MAX = 256;
/** A carrier that is not in use is measured for so long: some ten pings. Its connection stays as a spare while the link is busy, the relay's does not. */
export const PROBE_MS = 2_000;
/** What a carrier brings counts after so long: by then its start is over. */
export const RATE_TRIAL_MS = 4_000;

/**
 * Answers and other small frames that wait at one connection for an end that reads nothing. `ASKS_PER_CONNECTION_MAX` refusals, and the pongs
 * of a stall of `UNREACHABLE_MS`, stay below it.
 */
export const SMALL_UNREAD_BYTES_MAX = 1024 * 1024;
/** Of a queued frame beside its bytes: a few dozen of those take more memory in their envelope than in themselves. */
export const SMALL_FRAME_COST_BYTES = 256;
/** Credentials that a node may present over an open link, in a burst and each second after it: each costs a look at a signature. */
export const PRESENTS_BURST_MAX = 256;
export const PRESENTS_PER_SECOND_MAX = 8;

/** Over which a fetch's least rate is looked at. */
export const SLOW_LOOK_MS = 10_000;
