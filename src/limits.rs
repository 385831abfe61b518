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
pub const OFFER_WINDOW_BYTES: usize = 12 << 20;
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
/// Extra dots in a causal context that is accepted from a peer.
pub const CONTEXT_DOTS_MAX: usize = 100_000;

// ---- commands ----

/// How long a command looks for a proxy.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// A node leaves within this long after the first signal.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);

const _: () = assert!(FRAME_PAYLOAD_BYTES_MAX >= CHUNK_BYTES_MAX);
const _: () = assert!(PAGE_BYTES_TARGET + NAME_BYTES_MAX + SYMLINK_BYTES_MAX < FRAME_HEAD_BYTES_MAX);
const _: () = assert!(KEEP_TRUST_MS + KEEP_TRUST_MS / 10 < KEEP_LEASE_MS);
const _: () = assert!(BEACON_INTERVAL_MS * 2 < SUSPECT_AFTER_MS);
const _: () = assert!(OFFER_WINDOW_BYTES >= 2 * CHUNK_BYTES_MAX);
const _: () = assert!(OFFER_WINDOW_CHUNKS * 64 < FRAME_HEAD_BYTES_MAX);
const _: () = assert!(SYNC_BUCKETS * 16 < FRAME_HEAD_BYTES_MAX);
const _: () = assert!(MANIFEST_PAGES_MAX * 32 <= FRAME_PAYLOAD_BYTES_MAX);
const _: () = assert!(MANIFEST_PAGE_CHUNKS * 36 <= FRAME_PAYLOAD_BYTES_MAX);
const _: () = assert!(ELECTION_FIRST_WAIT_MS <= ELECTION_WAIT_MS);
