//! Every bound, port and timeout of thorp, in one place.
//!
//! Each has its unit in its name or type, and its reason. Relations between them are asserted at
//! compile time at the end of this file, so a change that breaks one does not build.

use std::time::Duration;

// ---- names ----

/// Longest file name, in bytes: room for deep folders, small enough for a frame of 256 rows.
pub const NAME_BYTES_MAX: usize = 1024;
/// Longest part of a name between two `/`, in bytes: what ext4, XFS, APFS and NTFS can hold.
pub const NAME_PART_BYTES_MAX: usize = 255;
/// Longest target of a stored symbolic link, in bytes: `PATH_MAX` on Linux.
pub const SYMLINK_BYTES_MAX: usize = 4096;
/// Longest display name or machine label, in bytes: a host name is at most 64 on Linux.
pub const LABEL_BYTES_MAX: usize = 64;
/// Most copies that can be asked for: beyond it a typing mistake is likelier than a wish.
pub const REPLICAS_MAX: u8 = 64;
/// Copies kept when nobody says how many.
pub const REPLICAS_DEFAULT: u8 = 2;

// ---- discovery ----

/// UDP port of discovery, and the TCP port unless it is taken.
pub const PORT_DEFAULT: u16 = 7667;
/// Largest datagram, in bytes: below every Ethernet, Wi-Fi and VPN MTU, so it is never fragmented.
pub const DATAGRAM_BYTES_MAX: usize = 1200;
/// Time between two beacons of a node.
pub const BEACON_INTERVAL_MS: u64 = 1_000;
/// Least time between two beacons that a query or a change brought forward: at most 10 a second.
pub const BEACON_HURRIED_INTERVAL_MS: u64 = 100;
/// Silence on UDP and TCP after which nothing is placed on or read from a node.
pub const SUSPECT_AFTER_MS: u64 = 3_000;
/// Silence after which a node's copies are replaced, unless `--heal-after` says otherwise.
pub const HEAL_AFTER_DEFAULT: Duration = Duration::from_secs(60);
/// Silence after which a holder of one of the last two copies is no longer waited for.
pub const HEAL_LAST_COPY_AFTER_MS: u64 = 15_000;
/// After a goodbye (reboot, closed lid) copies are replaced only this much later.
pub const GOODBYE_GRACE_MS: u64 = 600_000;
/// A node that has been silent this long is no longer listed.
pub const FORGET_AFTER_MS: u64 = 7 * 24 * 3_600_000;
/// Most nodes that a member keeps track of: twenty times the largest LAN we are made for.
pub const NODES_MAX: usize = 1_024;
/// Most addresses remembered for a node (a laptop has Wi-Fi, cable, VPN, loopback).
pub const ADDRESSES_PER_NODE_MAX: usize = 4;
/// Most uuids of clusters that were merged into one, carried in a beacon.
pub const LINEAGE_MAX: usize = 8;
/// Wait for an incumbent proxy before standing, when none was ever heard of since the start.
pub const ELECTION_FIRST_WAIT_MS: u64 = 1_000;
/// Wait before standing once the incumbent has fallen silent: as long as it takes to be suspect.
pub const ELECTION_WAIT_MS: u64 = 3_000;
/// A new proxy starts healing after this long even if a peer has not sent its inventory.
pub const SAFE_MODE_MS_MAX: u64 = 5_000;
/// How often the interfaces are listed again to notice cables and Wi-Fi.
pub const INTERFACES_INTERVAL: Duration = Duration::from_secs(1);

// ---- frames ----

/// Largest head of a frame, in bytes: one page of rows, offers or catalog entries.
pub const FRAME_HEAD_BYTES_MAX: usize = 1 << 20;
/// Largest payload of a frame, in bytes: one chunk.
pub const FRAME_PAYLOAD_BYTES_MAX: usize = CHUNK_BYTES_MAX;
/// A page of rows or entries is closed once it is this many bytes, well below a frame.
pub const PAGE_BYTES_TARGET: usize = 256 << 10;
/// Most rows or entries in a page.
pub const PAGE_ROWS_MAX: usize = 512;
/// TCP connect and TLS handshake and hello together.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection on which a peer sends nothing where something is due is closed.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A link of a transfer that makes no progress for this long is given up.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(3);
/// A node that is still syncing says so this often, well within [`STALL_TIMEOUT`].
pub const WORKING_INTERVAL: Duration = Duration::from_millis(700);
/// Most connections that have not finished their handshake.
pub const CONNECTIONS_UNPROVEN_MAX: usize = 32;
/// Most connections at once.
pub const CONNECTIONS_MAX: usize = 400;
/// Messages waiting to be written to one peer.
pub const LINK_QUEUE_MAX: usize = 256;
/// Inputs waiting for the engine.
pub const INPUT_QUEUE_MAX: usize = 1_024;

// ---- contents ----

/// Smallest, mean and largest chunk, in bytes, within the first [`CHUNK_FINE_BYTES`] of a content.
pub const CHUNK_FINE: (usize, usize, usize) = (16 << 10, 64 << 10, 256 << 10);
/// How much of a content's start is cut finely, so that small files change in small pieces.
pub const CHUNK_FINE_BYTES: u64 = 4 << 20;
/// Smallest, mean and largest chunk, in bytes, after that.
pub const CHUNK_COARSE: (usize, usize, usize) = (256 << 10, 1 << 20, 4 << 20);
/// Largest chunk, in bytes.
pub const CHUNK_BYTES_MAX: usize = 4 << 20;
/// Chunks in one manifest page: 36 bytes each, so a page is 36 KiB.
pub const MANIFEST_PAGE_CHUNKS: usize = 1_024;
/// Most manifest pages: 512 KiB of page hashes, some 16 TiB of content.
pub const MANIFEST_PAGES_MAX: usize = 16_384;
/// Contents up to this size are kept inside the database, in bytes.
pub const INLINE_BYTES_MAX: u64 = 32 << 10;
/// Bytes offered ahead of need in one transfer: bounds memory, hides the round trip.
pub const OFFER_WINDOW_BYTES: usize = 8 << 20;
/// Chunks offered ahead of need in one transfer.
pub const OFFER_WINDOW_CHUNKS: usize = 2_048;
/// Bytes asked for ahead from one holder in a get.
pub const FETCH_WINDOW_BYTES: u64 = 4 << 20;
/// Requests outstanding at one holder in a get.
pub const FETCH_WINDOW_REQUESTS: usize = 64;
/// Files in one placement: one round trip to the proxy pays for this many small files.
pub const PUT_BATCH_FILES: usize = 512;
/// A batch is closed once it holds this many bytes, so that placement stays balanced.
pub const PUT_BATCH_BYTES: u64 = 64 << 20;
/// A half-received content is kept this long for its sender to continue.
pub const PARTIAL_KEEP: Duration = Duration::from_secs(24 * 3600);
/// A content that no entry names is kept this long: its put may still be under way.
pub const ORPHAN_GRACE_MS: u64 = 24 * 3_600_000;
/// Room that is never filled with contents: the greater of this and [`HEADROOM_PERCENT`].
pub const HEADROOM_BYTES: u64 = 1 << 30;
/// Room that is never filled with contents, in percent of the disk.
pub const HEADROOM_PERCENT: u64 = 5;
/// Cache of the embedded database, in bytes.
pub const DATABASE_CACHE_BYTES: usize = 8 << 20;
/// Writes waiting for the database's group commit.
pub const DATABASE_QUEUE_MAX: usize = 1_024;

// ---- replication ----

/// Pulls under way at one node, so that repair leaves room for reads.
pub const PULLS_PER_NODE_MAX: usize = 2;
/// A pull that has not been heard of for this long is ordered anew, elsewhere.
pub const PULL_SILENCE_MS: u64 = 15_000;
/// How long a keep-promise holds.
pub const KEEP_LEASE_MS: u64 = 60_000;
/// The dropper counts on a promise only this long, from when it asked: clocks may drift 10 %.
pub const KEEP_TRUST_MS: u64 = 50_000;
/// How long a dropper waits for promises before it gives up (the proxy orders again).
pub const KEEP_ASK_MS: u64 = 5_000;
/// Contents looked at by the planner in one step, so that one step stays short.
pub const PLAN_STEP_MAX: usize = 512;
/// Wait for a holder's word that an entry is durable before the put goes on without it.
pub const COMMIT_WAIT_MS: u64 = 3_000;
/// How often a node whose catalog differs asks for the difference.
pub const SYNC_INTERVAL_MS: u64 = 2_000;
/// Buckets in which two catalogs are compared: 8 bytes each fit one frame.
pub const SYNC_BUCKETS: usize = 1_024;
/// Dots beyond the prefixes in a causal context that is sent, stored, or accepted from a peer.
pub const CONTEXT_DOTS_MAX: usize = 20_000;

// ---- commands ----

/// How long a command looks for a proxy.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// A node leaves within this long after the first signal.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);

// ---- identity and sockets ----

/// Longest cluster key, in bytes: a pass phrase of any length, not a file given by mistake.
pub const CLUSTER_KEY_BYTES_MAX: usize = 4 << 10;
/// Most addresses of this machine that beacons are sent from: more is no LAN machine.
pub const INTERFACES_MAX: usize = 64;
/// Room asked of the system for datagrams that wait, in bytes: a beacon from each of
/// [`NODES_MAX`] nodes, nearly; the system may give less.
pub const RECEIVE_BUFFER_BYTES: usize = 1 << 20;
/// Pause after a socket fails to receive, so that a lasting failure does not become a busy loop.
pub const RECEIVE_RETRY_INTERVAL: Duration = Duration::from_millis(100);
// ---- store ----

/// Bytes written to a large incoming content between two early syncs, so that the last is short.
pub const WRITE_BACK_BYTES: u64 = 64 << 20;
/// Early syncs waiting for the thread that does them; one that finds no room is left out.
pub const WRITE_BACK_QUEUE_MAX: usize = 16;
/// A broken-off content is kept for its sender to continue from this many received bytes on.
pub const PARTIAL_BYTES_MIN: u64 = 1 << 20;
/// Chunks of broken-off contents that are known in memory, some 100 bytes each.
pub const PARTIAL_CHUNKS_MAX: usize = 200_000;
/// Content files kept open for reading: a few transfers at once, far below any limit of the system.
pub const OPEN_CONTENTS_MAX: usize = 16;
/// Chunks of one incoming content that its own later chunks are compared with, some 100 bytes each.
pub const DUPLICATES_MAX: usize = 32_768;
/// Chunks offered of one incoming content and not yet there, or behind one that is not: 48 bytes
/// each. The sender's window is far smaller; whoever goes beyond is refused.
pub const INCOMING_CHUNKS_MAX: usize = 65_536;
/// Disks below this size keep only [`HEADROOM_PERCENT`] free: [`HEADROOM_BYTES`] is most of a card.
pub const SMALL_DISK_BYTES: u64 = 20 << 30;

/// Bytes of a disk of `disk_bytes` that are never filled.
#[must_use]
pub const fn headroom_bytes(disk_bytes: u64) -> u64 {
    let share = disk_bytes / 100 * HEADROOM_PERCENT;
    if disk_bytes < SMALL_DISK_BYTES || share > HEADROOM_BYTES { share } else { HEADROOM_BYTES }
}
/// Room that is taken so that the catalog can still be written on a disk that others filled. A
/// commit rewrites the pages it touches and frees the old ones after the next: some MiB.
pub const RESERVE_BYTES: u64 = 64 << 20;
/// The reserve takes at most this part of a disk: below 4 GiB it is smaller.
pub const RESERVE_SHARE: u64 = 64;
/// A disk on which fewer files can still be made is full: a content needs two, the catalog none.
pub const INODES_FREE_MIN: u64 = 64;
/// How often the writer looks whether a disk without any room has some again.
pub const ROOM_LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Changes of the catalog that wait for a disk without any room, some 100 bytes each; one more
/// makes the node give up until it is started again.
pub const SAVES_WAITING_MAX: usize = 65_536;
/// Damaged contents are kept this long for a person to look at once a good copy is held again.
pub const QUARANTINE_HELD_KEEP_MS: u64 = 24 * 3_600_000;
/// As [`QUARANTINE_HELD_KEEP_MS`], where there is no good copy on that disk: it may be the last one.
pub const QUARANTINE_KEEP_MS: u64 = 30 * 24 * 3_600_000;
/// How often those that were kept for long enough are looked for.
pub const QUARANTINE_INTERVAL_MS: u64 = 3_600_000;
/// A group commit takes no further writes once it has this many bytes, so that it stays short.
pub const COMMIT_BYTES_TARGET: usize = 8 << 20;
/// Catalogs up to this size are checked whole at each open; larger ones where they are read.
pub const CATALOG_CHECK_BYTES_MAX: u64 = 64 << 20;
/// Manifest pages of an incoming content kept in memory, 36 KiB each; the rest go to a file. A
/// content that is kept inside the database never has more, even in chunks of one byte.
pub const INCOMING_PAGES_IN_MEMORY: usize = 32;
/// Every copy is hashed anew this often, unless `--scrub-every` says otherwise.
pub const SCRUB_EVERY_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Shortest interval of the scrub: below, it would do nothing else.
pub const SCRUB_EVERY_MIN: Duration = Duration::from_secs(1);
/// Fastest that a scrub reads, in bytes a second: a third of what a hard disk gives, enough for 30
/// TB a week.
pub const SCRUB_BYTES_PER_SECOND_MAX: u64 = 64 << 20;
/// What a content costs a scrub beyond its bytes, in bytes: a disk's head moves in the time of this.
pub const SCRUB_CONTENT_COST: u64 = 64 << 10;
/// How often a scrub plans anew, at least.
pub const SCRUB_LOOK_MS: u64 = 60_000;
/// How often it is written down what was verified.
pub const SCRUB_SAVE_MS: u64 = 600_000;
/// Wait after the start before doubtful contents are verified: the others join first.
pub const SCRUB_START_MS: u64 = 3_000;
/// Contents that a holder is asked to verify in one frame.
pub const VERIFY_CONTENTS_MAX: usize = 512;
/// Contents verified at once for commands, so that reads go on.
pub const VERIFIES_AT_ONCE: usize = 2;
/// Bytes hashed between two looks at whether whoever asked for it is still there.
pub const VERIFY_STEP_BYTES: u64 = 16 << 20;
/// Contents whose copy readers doubt, waiting for a look.
pub const DOUBTS_MAX: usize = 64;
/// Looks that readers at one address can cause, within [`DOUBTS_WINDOW_MS`]: an honest one finds
/// that much only where a whole disk is bad, which the others and the scrub find as well.
pub const DOUBTS_PER_ADDRESS_MAX: u32 = 32;
/// See [`DOUBTS_PER_ADDRESS_MAX`].
pub const DOUBTS_WINDOW_MS: u64 = 60_000;
/// A copy that a look found whole is not looked at again within this time because of a doubt.
pub const DOUBT_AGAIN_MS: u64 = 60_000;
/// How long a reader waits until a holder has noted its doubt.
pub const DOUBT_WAIT: Duration = Duration::from_secs(1);
/// Contents whose verification is written down in one commit: some 100 KiB.
pub const VERIFIED_BATCH_MAX: usize = 1_024;
/// After a run that ended unexpectedly, what was written this long before its last write is verified
/// first: disks keep back writes for seconds, and lie for minutes.
pub const DOUBTFUL_MS: u64 = 600_000;
// ---- connections and transfers in detail ----

/// Largest hello, in bytes: a stranger who has not said who it is gets no more room than this.
pub const HELLO_BYTES_MAX: usize = 4 << 10;
/// Plaintext collected before it is given to TLS, in bytes: four records, one system call.
pub const WRITE_BUFFER_BYTES: usize = 64 << 10;
/// Ciphertext read from a socket at once, in bytes: rustls alone asks for 4 KiB each time.
pub const READ_BUFFER_BYTES: usize = 64 << 10;
/// A peer that acknowledges nothing at TCP level for this long is gone.
pub const PEER_GONE_TIMEOUT: Duration = Duration::from_secs(10);
/// A disk that has not finished one operation in this time no longer counts as working.
pub const DISK_PATIENCE_MS: u64 = 30_000;
/// Contents sent to a chain and not yet reported stored; one of more than [`INLINE_BYTES_MAX`]
/// counts [`PUT_OUTSTANDING_FILE_COST`] fold, because it keeps a file open at each holder.
pub const PUT_OUTSTANDING_MAX: usize = 512;
/// See [`PUT_OUTSTANDING_MAX`].
pub const PUT_OUTSTANDING_FILE_COST: u32 = 4;
/// Chunks between the reading thread of a put and the network.
pub const PUT_PIECES_QUEUE: usize = 64;
/// Contents up to this size are fetched whole and checked by computing their id, in bytes: one
/// request instead of three.
pub const FETCH_WHOLE_BYTES: u64 = 256 << 10;
/// Contents fetched whole at the same time.
pub const FETCH_WHOLE_AT_ONCE: usize = 128;
/// Most bytes of parts that a holder reads from its disk in one go for one reader.
pub const SERVE_BATCH_BYTES: usize = 4 << 20;
/// How far a get to a pipe may run ahead of what it has written, in bytes.
pub const STREAM_AHEAD_BYTES: u64 = 16 << 20;
// ---- command line ----

/// Largest `config.toml`, in bytes: a hand-written file is a few KiB.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Longest duration that a user may ask for: ten years, far from any overflow of a deadline.
pub const DURATION_MAX: Duration = Duration::from_secs(3_650 * 24 * 3_600);
// ---- what peers may make a node keep or do ----

/// Runs of proxies that a causal context tells of: each start of each proxy there ever was.
pub const CONTEXT_INSTANCES_MAX: usize = 20_000;
/// Concurrent versions of one name: far more than sides that a LAN can fall into, and with links
/// of any length still one record and one frame.
pub const VERSIONS_PER_NAME_MAX: usize = 96;
/// Removed and replaced versions of one name that the trash keeps: enough to undo a bad hour, and a
/// file that is written every second does not fill it.
pub const REMOVED_PER_NAME_MAX: usize = 8;
/// Versions in the trash in all, the oldest go first: each is an entry of the catalog in memory.
pub const TRASH_VERSIONS_MAX: usize = 100_000;
/// How long removed versions are kept, unless told otherwise: as long as a week's holiday.
pub const KEEP_REMOVED_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3_600);
/// A proxy whose clock differs more than this from its peers' median lets nothing expire.
pub const CLOCK_DIFFERENCE_MS_MAX: u64 = 3_600_000;
/// Concurrent settings of one version's wanted count.
pub const SETTINGS_PER_VERSION_MAX: usize = 64;
/// No honest node is this many dots, or terms, ahead of what it can know.
pub const COUNTER_LEAP_MAX: u64 = 1 << 32;
/// Terms up to here are believed however far they leap, so that a machine that was off for long
/// follows; beyond, only leaps of [`COUNTER_LEAP_MAX`] are, so that the last term is never reached.
pub const TERM_LEAP_FREE: u64 = 1 << 62;
/// Frames heard from peers and commands that wait for the engine, of up to
/// [`FRAME_HEAD_BYTES_MAX`] each. Apart from [`INPUT_QUEUE_MAX`], so that others' messages never
/// take the room of what the node tells itself.
pub const HEARD_QUEUE_MAX: usize = 16;
/// Datagrams that wait for the engine: a beacon a node of a LAN at its largest.
pub const DATAGRAM_QUEUE_MAX: usize = 1_024;
/// Links that are being dialled at once.
pub const LINK_DIALS_MAX: usize = 64;
/// Addresses that others spoke of and that are being dialled at once.
pub const CONTACT_DIALS_MAX: usize = 32;
/// Keep-promises given and not over: dozens of drops a second for as long as a promise holds.
pub const PROMISES_MAX: usize = 16_384;
/// Copies being checked before a promise at once.
pub const CHECKS_MAX: usize = 256;
/// Pulls that were ordered and are under way: more than a proxy orders, see
/// [`PULLS_PER_NODE_MAX`].
pub const PULLS_ORDERED_MAX: usize = 128;
/// Other clusters in sight that `status` can name.
pub const FOREIGN_MAX: usize = 64;
/// How often an empty node joins another cluster, within [`ADOPTIONS_WINDOW_MS`].
pub const ADOPTIONS_MAX: u32 = 8;
/// See [`ADOPTIONS_MAX`].
pub const ADOPTIONS_WINDOW_MS: u64 = 10_000;
/// Chunks offered in one session that are not there yet, over all its contents, some 50 bytes each.
pub const SESSION_CHUNKS_MAX: usize = 8 * OFFER_WINDOW_CHUNKS;
/// Bytes of parts that wait to be written to readers, shared by all transfers: what finds no room
/// goes in pieces of [`SERVE_PIECE_BYTES`].
pub const SERVE_BYTES_MAX: usize = 16 << 20;
/// What each reader may have waiting whatever the others do: those that take nothing must not keep
/// it from the rest. Three of it for each of [`CONNECTIONS_MAX`] are 19 MiB.
pub const SERVE_PIECE_BYTES: usize = 16 << 10;
/// Pages of catalogs and inventories that wait for one link before no more are made for it, of some
/// [`PAGE_BYTES_TARGET`] each.
pub const LINK_PAGES_MAX: usize = 8;
/// The same for all links together.
pub const LINKS_PAGES_MAX: usize = 64;
/// Lines that others can cause in the log, within [`LOG_WINDOW_MS`], for each kind.
pub const LOG_LINES_MAX: u32 = 30;
/// See [`LOG_LINES_MAX`].
pub const LOG_WINDOW_MS: u64 = 10_000;
// ---- demo ----

/// Fewest nodes in a demo: three copies, and a place to mend them when one dies.
pub const DEMO_NODES_MIN: u8 = 4;
/// Most nodes in a demo: they are processes of one machine.
pub const DEMO_NODES_MAX: u8 = 32;

// ---- letters (messages between machines) ----

/// Longest type of a letter, in bytes: it is the file name of a hook.
pub const LETTER_TYPE_BYTES_MAX: usize = 64;
/// Largest payload of a letter, in bytes; what is larger is put as a file and named.
pub const LETTER_PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// Most files named by one letter: each name may take a kilobyte.
pub const LETTER_ATTACHMENTS_MAX: usize = 16;
/// Most letters that wait in a cluster for somebody: a day of one every five seconds to a machine that is off.
pub const LETTERS_MAX: usize = 20_000;
/// Most bytes of them: every node has them in memory.
pub const LETTERS_BYTES_MAX: usize = 32 << 20;
/// How long a letter is of use unless its sender says otherwise: over a week's holiday of a machine.
pub const LETTER_LIVES_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Longest time a letter can be of use: beyond it, a file is the better place.
pub const LETTER_LIVES_MAX: Duration = Duration::from_secs(31 * 24 * 3_600);
/// Letters in one request or message: with their payloads they must fit a frame.
pub const LETTERS_AT_ONCE_MAX: usize = 64;
/// Streams of letters that are remembered: three priorities of each run in a month of restarts.
pub const STREAMS_MAX: usize = 4_096;
/// Machines that get letters, whether they are heard now or not: a letter to all of a cluster must have room for all.
pub const ROSTER_MAX: usize = NODES_MAX;
/// Letters that are remembered as delivered here, so that one that was posted twice is delivered once.
pub const LETTERS_SEEN_MAX: usize = 100_000;
/// Spans in what is done with of one stream: each letter that waits can part two.
pub const STREAM_SPANS_MAX: usize = LETTERS_MAX + 4_000;
/// The same of all streams: twice what letters and streams can bring about.
pub const SPANS_MAX: usize = 2 * (LETTERS_MAX + STREAMS_MAX);

// ---- folders of letters and hooks ----

/// Largest file in the outbox, in bytes: a payload at its limit with every character escaped, and
/// the rest of the document.
pub const LETTER_FILE_BYTES_MAX: u64 = 1 << 20;
/// Files of letters that are synced at once: beyond that the disk of a measurement took no more.
pub const SYNCS_AT_ONCE: usize = 8;
/// How often the outbox is listed although nobody told of a change.
pub const OUTBOX_RESCAN: Duration = Duration::from_secs(5);
/// The same where the system tells of no changes.
pub const OUTBOX_RESCAN_UNWATCHED: Duration = Duration::from_secs(1);
/// A file that is no letter counts as finished once nobody has changed it for this long.
pub const OUTBOX_SETTLE_MS: u64 = 2_000;
/// Letters of the outbox that are being sent at once.
pub const OUTBOX_POSTS_MAX: usize = 64;
/// Files of the outbox that are read and named in one go, with one sync.
pub const OUTBOX_BATCH_MAX: usize = 256;
/// First wait before what cannot be sent now is tried again, in milliseconds; doubles.
pub const OUTBOX_RETRY_FIRST_MS: u64 = 200;
/// Longest wait of it, in milliseconds.
pub const OUTBOX_RETRY_MS_MAX: u64 = 30_000;
/// How long letters that were sent are kept, unless told otherwise.
pub const SENT_TTL_DEFAULT: Duration = Duration::from_secs(24 * 3_600);
/// How often letters whose time is over are looked for.
pub const LETTERS_CLEAN_INTERVAL: Duration = Duration::from_secs(60);
/// How long a hook may run, unless told otherwise.
pub const HOOK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// Between the request to end and the end, for a hook whose time is up.
pub const HOOK_TERM_GRACE: Duration = Duration::from_secs(5);
/// The same when the node itself ends, which has [`STOP_TIMEOUT`] in all.
pub const HOOK_STOP_GRACE: Duration = Duration::from_secs(2);
/// How long what a hook wrote is read after its end, should others still hold the pipe.
pub const HOOK_PIPE_WAIT: Duration = Duration::from_secs(1);
/// How much of the end of a hook's output is kept, in bytes.
pub const HOOK_OUTPUT_BYTES: usize = 4 << 10;
/// How often a hook is tried, unless told otherwise.
pub const HOOK_TRIES_DEFAULT: u32 = 3;
/// Most tries that may be asked for: with the waits between them, hours.
pub const HOOK_TRIES_MAX: u32 = 50;
/// First wait before a hook is tried again; five times as long each time.
pub const HOOK_RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait of it.
pub const HOOK_RETRY_MAX: Duration = Duration::from_secs(300);
/// Hooks that run at once, unless told otherwise.
pub const HOOKS_AT_ONCE_DEFAULT: u32 = 4;
/// Most that may be asked for: each is at least one process.
pub const HOOKS_AT_ONCE_MAX: u32 = 256;
/// Letters that were told to the hooks and not looked at yet; what is more is found by listing.
pub const HOOKS_TOLD_MAX: usize = 1_024;
/// Events of thorp's own that wait for their hooks; what is more is dropped.
pub const HOOK_EVENTS_MAX: usize = 256;
/// How often letters that wait for their hook are listed: `thorp retry` tells nobody.
pub const HOOKS_RESCAN: Duration = Duration::from_secs(1);

// ---- channels (live state) ----

/// Longest key of a channel, in bytes.
pub const CHANNEL_KEY_BYTES_MAX: usize = 128;
/// Longest id of a client, in bytes: three times a UUID.
pub const CLIENT_ID_BYTES_MAX: usize = 128;
/// Largest body that a client posts, in bytes.
pub const CHANNEL_BODY_BYTES_MAX: usize = 64 << 10;
/// Deepest nesting of a body: with the list around it, half of what usual JSON readers take.
pub const CHANNEL_BODY_DEPTH_MAX: usize = 62;
/// Channels at once.
pub const CHANNELS_MAX: usize = 1_024;
/// Clients of one channel.
pub const CHANNEL_CLIENTS_MAX: usize = 1_024;
/// Bodies of one channel together, in bytes: a reader gets them all at once.
pub const CHANNEL_BYTES_MAX: usize = 1 << 20;
/// All channels together, in bytes with [`CHANNEL_CLIENT_COST`]: below 16 MiB of memory.
pub const CHANNELS_BYTES_MAX: usize = 12 << 20;
/// What a client, and a channel, costs beyond the bytes of its texts.
pub const CHANNEL_CLIENT_COST: usize = 512;
/// A client is gone this long after its last post, unless the first of its channel says otherwise.
pub const CHANNEL_EXPIRY_DEFAULT: Duration = Duration::from_secs(1);
/// Shortest time that may be asked for: some posts at the rate of a game.
pub const CHANNEL_EXPIRY_MIN: Duration = Duration::from_millis(100);
/// Longest time that may be asked for.
pub const CHANNEL_EXPIRY_MAX: Duration = Duration::from_secs(3_600);
/// A new proxy gives no channel out for one expiry, so that clients can post again; never longer
/// than this, or one client's long expiry would silence all channels.
pub const CHANNEL_GRACE_MS_MAX: u64 = 60_000;
/// Posts of one client a second, and at once.
pub const CHANNEL_POSTS_PER_SECOND: u64 = 1_000;
/// Server times beyond this, in ms, are not believed: 35,000 years, exact as a float.
pub const CHANNEL_SERVER_TIME_MAX: u64 = 1 << 50;
/// Read buffer of a WebSocket, in bytes.
pub const SOCKET_BUFFER_BYTES: usize = 4 << 10;
/// A WebSocket that sends nothing for so long, in milliseconds, not even answers to pings, is gone.
pub const SOCKET_SILENCE_MS: u64 = 30_000;
/// How often the proxy tells the others what a successor needs.
pub const CHANNELS_HEARD_INTERVAL_MS: u64 = 1_000;
/// The same while there is no channel.
pub const CHANNELS_IDLE_INTERVAL_MS: u64 = 10_000;
/// Lists of bodies that are being sent at once, in bytes: what finds no room is refused. As much again
/// is for followers, who wait for room: whoever takes nothing must not cost more than this.
pub const CHANNEL_LISTS_BYTES_MAX: usize = 24 << 20;
/// How long a follower for whom there is no room waits.
pub const CHANNEL_ROOM_RETRY: Duration = Duration::from_millis(50);
/// Connections of a node to the proxy for requests about channels.
pub const CHANNEL_LINKS: usize = 2;
/// Requests that wait on one of them.
pub const CHANNEL_LINK_QUEUE_MAX: usize = 256;
/// How long the proxy may take to answer a request about a channel before there is "no update".
pub const CHANNEL_FORWARD_TIMEOUT: Duration = Duration::from_secs(2);
/// Channels that the clients of one node follow, at once: each is a connection to the proxy. Other nodes
/// that follow at the proxy are not counted there: each has a connection, of which there are few enough.
pub const CHANNELS_FOLLOWED_MAX: usize = 128;
/// Wait before a follower's node dials the proxy anew, at first; it doubles each time that nothing came.
pub const CHANNEL_FOLLOW_RETRY: Duration = Duration::from_millis(100);
/// The longest such wait.
pub const CHANNEL_FOLLOW_RETRY_MAX: Duration = Duration::from_secs(5);
/// How long a new follower waits for the proxy before it is told that there is none.
pub const CHANNEL_FOLLOW_PATIENCE: Duration = Duration::from_secs(1);
/// Least time between two batches of changes for one follower: what changes meanwhile is told once.
pub const CHANNEL_FOLLOW_PACE: Duration = Duration::from_millis(10);
// ---- HTTP ----

/// Where HTTP is served unless the port is taken.
pub const HTTP_PORT_DEFAULT: u16 = 7668;
/// Connections of browsers and programs at once; one more takes the place of the oldest of the
/// address that has most.
pub const HTTP_CONNECTIONS_MAX: usize = 512;
/// Bytes of a request's line and headers together.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 << 10;
/// Headers of a request: browsers send some 20.
pub const HTTP_HEADERS_MAX: usize = 64;
/// A request's head has come within this time, counted from the end of the last one: also how long
/// an idle connection is kept.
pub const HTTP_HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// A body that brings nothing, or an answer of which nothing is taken, for this long ends the connection.
pub const HTTP_STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a body that is a JSON document.
pub const HTTP_JSON_BYTES_MAX: usize = 64 << 10;
/// How long a request looks for a proxy before it is told that there is none.
pub const HTTP_PROXY_TIMEOUT: Duration = Duration::from_secs(5);
/// Rows that a watcher is told of at once; if more changed, it looks at everything again.
pub const WATCH_ROWS_MAX: usize = 200;
/// How long a watcher's question waits for a change, in milliseconds.
pub const WATCH_MS_MAX: u64 = 25_000;
/// Watchers at once: one a node that has a page open, and some.
pub const WATCHES_MAX: usize = 256;
/// Requests that ask the proxy at the same time; more wait.
pub const HTTP_ASKS_AT_ONCE: usize = 16;
/// Files in one answer of a list, unless told otherwise.
pub const HTTP_LIST_DEFAULT: usize = 200;
/// Files before those of an answer of a list: all of them are kept while they are sorted.
pub const HTTP_LIST_OFFSET_MAX: usize = 20_000;
/// Most files in one answer of a list.
pub const HTTP_LIST_MAX: usize = 1_000;
/// Large files that are read over HTTP at once: each keeps a thread and [`HTTP_AHEAD_BYTES`].
pub const HTTP_DOWNLOADS_AT_ONCE: usize = 16;
/// How far a download may run ahead of what its client has taken, in bytes.
pub const HTTP_AHEAD_BYTES: u64 = 8 << 20;
/// How long a request waits for its turn where only so many are served at once.
pub const HTTP_TURN_TIMEOUT: Duration = Duration::from_secs(20);
/// Uploads under way at once, those included whose clients are gone; one more is told 429.
pub const HTTP_UPLOADS_AT_ONCE: usize = 256;
/// Uploads that go to their holders at once; more wait in their files.
pub const HTTP_PUTS_AT_ONCE: usize = 4;
/// Idle connections for such puts that are kept for the next ones.
pub const HTTP_PUTTERS_KEPT: usize = 4;
/// Uploads that go to their holders while they come, at once; others come first and go then.
pub const HTTP_PUTS_WHILE_COMING: usize = 4;
/// Least size of those, in bytes.
pub const HTTP_COMING_LEAST_BYTES: u64 = 4 << 20;
/// Bytes of an upload collected before they are written to its file.
pub const UPLOAD_WRITE_BYTES: usize = 256 << 10;
/// Bytes of an upload that is refused which are read all the same, so that its client comes to read the answer.
pub const UPLOAD_DRAIN_BYTES: usize = 64 << 20;
/// Longest time for that.
pub const UPLOAD_DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a resumable upload after which it is noted how far it came: what a power cut costs.
pub const UPLOAD_NOTE_BYTES: u64 = 64 << 20;
/// Resumable uploads that are not whole yet.
pub const UPLOADS_MAX: usize = 64;
/// A resumable upload to which nothing was added for this long is thrown away.
pub const UPLOAD_KEEP_MS: u64 = 24 * 3_600_000;
/// How often such uploads are looked for.
pub const UPLOADS_CLEAN_INTERVAL: Duration = Duration::from_secs(3_600);
/// Shortest id of a resumable upload, in bytes: nobody guesses one.
pub const UPLOAD_ID_BYTES_MIN: usize = 16;
/// Longest one.
pub const UPLOAD_ID_BYTES_MAX: usize = 64;
/// How long a link to a file works, unless told otherwise.
pub const LINK_LIVES_DEFAULT: Duration = Duration::from_secs(24 * 3_600);
/// Longest time that a link works: it cannot be taken back without removing the file.
pub const LINK_LIVES_MAX: Duration = Duration::from_secs(31 * 24 * 3_600);

// ---- folders kept equal on another machine ----

/// Longest path of something in a synced folder, in bytes: `PATH_MAX` on Linux.
pub const TREE_PATH_BYTES_MAX: usize = 4096;
/// Most parts of such a path: deeper than people and package managers nest, small enough for every stack.
pub const TREE_DEPTH_MAX: usize = 128;
/// Most files, folders and links of a synced folder: some 200 MB of memory on both sides.
pub const SYNC_ENTRIES_MAX: usize = 1 << 20;
/// Most bytes of all their paths and link targets together.
pub const SYNC_PATHS_BYTES_MAX: usize = 128 << 20;
/// Most chunks of a workspace that its index knows: more are not found again, and travel.
pub const SYNC_CHUNKS_MAX: usize = 1 << 20;
/// Syncs under way at one node.
pub const SYNC_SESSIONS_MAX: usize = 8;
/// A second sync of one workspace waits this long for the first, then says so.
pub const SYNC_LOCK_WAIT: Duration = Duration::from_secs(5);
/// A file that was changed less than this before it was looked at may change again without a new time.
pub const SYNC_YOUNG_NS: i64 = 2_000_000_000;
/// `--watch` syncs once nothing has changed for this long.
pub const SYNC_SETTLE: Duration = Duration::from_millis(300);
/// `--watch` syncs at the latest this long after a change, however many follow.
pub const SYNC_SETTLE_MAX: Duration = Duration::from_secs(3);
/// `--watch` looks at everything this often: the system may lose what it should tell.
pub const SYNC_WATCH_LOOK: Duration = Duration::from_secs(600);
/// Longest pause of `--watch` before it tries a machine again that does not answer.
pub const SYNC_AGAIN_MAX: Duration = Duration::from_secs(10);
/// Room on the disk that a sync leaves free, in bytes.
pub const SYNC_HEADROOM_BYTES: u64 = 64 << 20;
/// Bytes received after which that room is looked at again.
pub const SYNC_ROOM_LOOK_BYTES: u64 = 8 << 20;
/// How often a file that changes while it is read is read again.
pub const SYNC_READS_MAX: u32 = 3;
/// Chunks that were offered to a workspace and are not there yet.
pub const SYNC_PENDING_CHUNKS_MAX: usize = 1 << 16;
/// Files that could not be put in place, of which a command is told why.
pub const SYNC_PROBLEMS_MAX: usize = 1_000;
/// Frames from the network that wait for the disk of a workspace.
pub const SYNC_QUEUE_MAX: usize = 64;
// ---- programs run for others ----

/// Programs that run for others at a time: each has three threads and a process that watches over it.
pub const JOBS_AT_ONCE_MAX: usize = 64;
/// Jobs that are remembered after their end, with their output; the oldest go first.
pub const JOBS_KEPT_MAX: usize = 64;
/// Sessions of one job at a time.
pub const JOB_SESSIONS_MAX: usize = 16;
/// Output of a job that is kept on disk, in bytes. A program that writes more than that ahead of the
/// slowest of its sessions waits, as it would for a slow terminal.
pub const JOB_OUTPUT_BYTES_MAX: u64 = 64 << 20;
/// Bytes of output in one file of it: so much goes at a time when the oldest goes.
pub const JOB_SEGMENT_BYTES: u64 = 4 << 20;
/// Bytes of output in one frame.
pub const JOB_OUTPUT_FRAME_BYTES: usize = 64 << 10;
/// Input on its way that the program has not taken, in bytes: the command keeps as much, to send
/// it again after a break.
pub const JOB_INPUT_BYTES_MAX: usize = 1 << 20;
/// How long a job goes on after its last session was lost, and between the request to end and the end.
pub const JOB_LINGER_DEFAULT: Duration = Duration::from_secs(10);
/// Longest such time.
pub const JOB_LINGER_MAX: Duration = Duration::from_secs(24 * 3_600);
/// What is left of a program's processes when it has ended itself has so long between the request to
/// end and the end.
pub const JOB_REST_GRACE: Duration = Duration::from_secs(2);
/// So long programs have when their node ends, which has [`STOP_TIMEOUT`] in all.
pub const JOBS_STOP_GRACE: Duration = Duration::from_secs(3);
/// Either side of a session says something this often.
pub const RUN_WORKING_INTERVAL: Duration = Duration::from_secs(1);
/// A node that hears nothing for so long takes a session for lost. With [`JOB_LINGER_DEFAULT`] a cable may be
/// out for 20 s and more.
pub const RUN_SESSION_SILENCE: Duration = Duration::from_secs(15);
/// A command that hears nothing for so long tries another connection.
pub const RUN_NODE_SILENCE: Duration = Duration::from_secs(4);
/// So long it tries.
pub const RUN_REATTACH_MAX: Duration = Duration::from_secs(90);

const _: () = assert!(FRAME_PAYLOAD_BYTES_MAX >= CHUNK_BYTES_MAX);
const _: () = assert!(VERIFY_CONTENTS_MAX * 32 + 16 < FRAME_HEAD_BYTES_MAX);
const _: () = assert!(VERIFY_STEP_BYTES >= CHUNK_BYTES_MAX as u64);
const _: () = assert!(PAGE_BYTES_TARGET + NAME_BYTES_MAX + SYMLINK_BYTES_MAX < FRAME_HEAD_BYTES_MAX);
const _: () = assert!(KEEP_TRUST_MS + KEEP_TRUST_MS / 10 < KEEP_LEASE_MS);
const _: () = assert!(BEACON_INTERVAL_MS * 2 < SUSPECT_AFTER_MS);
const _: () = assert!(OFFER_WINDOW_BYTES >= 2 * CHUNK_BYTES_MAX);
const _: () = assert!(OFFER_WINDOW_CHUNKS * 64 < FRAME_HEAD_BYTES_MAX);
const _: () = assert!(SYNC_BUCKETS * 16 < FRAME_HEAD_BYTES_MAX);
const _: () =
    assert!((CONTEXT_DOTS_MAX + CONTEXT_INSTANCES_MAX) * 18 + SYNC_BUCKETS * 10 < FRAME_HEAD_BYTES_MAX);
const _: () = assert!(
    VERSIONS_PER_NAME_MAX * (SYMLINK_BYTES_MAX + 64 + SETTINGS_PER_VERSION_MAX * 19) + NAME_BYTES_MAX
        < FRAME_HEAD_BYTES_MAX
);
const _: () = assert!(REMOVED_PER_NAME_MAX * 4 < VERSIONS_PER_NAME_MAX);
const _: () = assert!(PULLS_ORDERED_MAX > PULLS_PER_NODE_MAX);
const _: () = assert!(MANIFEST_PAGES_MAX * 32 <= FRAME_PAYLOAD_BYTES_MAX);
const _: () = assert!(MANIFEST_PAGE_CHUNKS * 36 <= FRAME_PAYLOAD_BYTES_MAX);
const _: () = assert!(ELECTION_FIRST_WAIT_MS <= ELECTION_WAIT_MS);
const _: () = assert!(INCOMING_PAGES_IN_MEMORY * MANIFEST_PAGE_CHUNKS >= INLINE_BYTES_MAX as usize);
const _: () = assert!(INCOMING_CHUNKS_MAX >= 4 * OFFER_WINDOW_CHUNKS);
const _: () = assert!(HELLO_BYTES_MAX < FRAME_HEAD_BYTES_MAX);
const _: () = assert!(FETCH_WHOLE_BYTES <= FRAME_PAYLOAD_BYTES_MAX as u64);
const _: () = assert!((STREAM_SPANS_MAX + LETTERS_MAX) * 18 + ROSTER_MAX * 112 < FRAME_HEAD_BYTES_MAX);
const _: () = assert!(STREAM_AHEAD_BYTES >= 2 * CHUNK_BYTES_MAX as u64);
const _: () = assert!(HTTP_AHEAD_BYTES >= 2 * CHUNK_BYTES_MAX as u64);
const _: () = assert!(FETCH_WINDOW_BYTES >= CHUNK_BYTES_MAX as u64);
const _: () = assert!(
    LETTER_PAYLOAD_BYTES_MAX + LETTER_ATTACHMENTS_MAX * NAME_BYTES_MAX + ROSTER_MAX * 17 < PAGE_BYTES_TARGET
);
const _: () = assert!(
    LETTER_FILE_BYTES_MAX > (6 * (LETTER_PAYLOAD_BYTES_MAX + LETTER_ATTACHMENTS_MAX * NAME_BYTES_MAX)) as u64
);
const _: () = assert!(HOOK_STOP_GRACE.as_millis() * 2 < STOP_TIMEOUT.as_millis());
const _: () = assert!(WORKING_INTERVAL.as_millis() * 3 < STALL_TIMEOUT.as_millis());
const _: () = assert!(CHANNEL_BYTES_MAX + CHANNEL_CLIENTS_MAX + 2 <= FRAME_PAYLOAD_BYTES_MAX);
const _: () = assert!(CHANNEL_BODY_BYTES_MAX + 1_024 < FRAME_HEAD_BYTES_MAX);
const _: () = assert!(CHANNELS_MAX * (CHANNEL_KEY_BYTES_MAX + 3) + 64 < FRAME_HEAD_BYTES_MAX);
const _: () = assert!(CHANNELS_BYTES_MAX > CHANNEL_BYTES_MAX + CHANNEL_CLIENTS_MAX * CHANNEL_CLIENT_COST);
const _: () = assert!(CHANNEL_EXPIRY_DEFAULT.as_millis() <= CHANNEL_GRACE_MS_MAX as u128);
const _: () = assert!(JOB_SEGMENT_BYTES * 4 <= JOB_OUTPUT_BYTES_MAX);
const _: () = assert!(JOB_OUTPUT_FRAME_BYTES <= FRAME_PAYLOAD_BYTES_MAX);
const _: () = assert!(RUN_WORKING_INTERVAL.as_millis() * 3 < RUN_NODE_SILENCE.as_millis());
const _: () = assert!(RUN_SESSION_SILENCE.as_millis() + JOB_LINGER_DEFAULT.as_millis() > 20_000);
const _: () = assert!(JOBS_STOP_GRACE.as_millis() + 1_500 < STOP_TIMEOUT.as_millis());
