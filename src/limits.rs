//! Every cap in one place, and why it has its size.
//!
//! A cap stands here when bytes from outside could otherwise decide how much we allocate, hash or wait.

use std::time::Duration;

/// Largest frame on a server link after login, bytes. A commit of a 1,000-member room with its tree is
/// about 300 KB; the rest is room for growth.
pub const FRAME_MAX: usize = 1 << 20;
/// Largest frame before login, bytes: a hello or a login is a few hundred.
pub const FRAME_MAX_BEFORE_LOGIN: usize = 4096;
/// Largest frame on a server link with what goes around a frame for, or of, another server of the mesh, bytes: its name and some
/// numbers.
pub const LINK_FRAME_MAX: usize = FRAME_MAX + 128;
/// Other servers of the mesh at which one client may have sessions.
pub const AWAY_SERVERS: usize = 64;
/// Longest chat text, bytes of UTF-8.
pub const TEXT_MAX: usize = 16 * 1024;
/// Largest application payload that is sealed into one MLS message, bytes.
pub const PAYLOAD_MAX: usize = 64 * 1024;
/// Longest user, server or room name, bytes of UTF-8 after normalisation.
pub const NAME_MAX: usize = 48;
/// Longest file name, bytes of UTF-8: what common file systems take.
pub const FILE_NAME_MAX: usize = 255;
/// Rooms a client may be in at once.
pub const ROOMS_PER_CLIENT: usize = 32;
/// Members of one room; MLS costs grow with it (52 ms a join at 1,000).
pub const ROOM_MEMBERS_MAX: usize = 1000;
/// Single-use key packages that a client publishes at login.
pub const KEY_PACKAGES: usize = 32;
/// Largest MLS message around one payload of [`PAYLOAD_MAX`], bytes.
pub const SEALED_MAX: usize = PAYLOAD_MAX + 1024;
/// Largest stand-alone MLS proposal, bytes: a SelfRemove has 180. One for each member may stand at a time.
pub const PROPOSAL_MAX: usize = 1024;
/// Largest GroupInfo without its tree, bytes: a policy with all its moderators, and room to grow.
pub const GROUP_INFO_MAX: usize = 16 * 1024;
/// Largest leaf of a ratchet tree, bytes: ours have up to 450. With it the tree of a full room fits into a frame.
pub const LEAF_MAX: usize = 768;
/// Largest key package, bytes.
pub const KEY_PACKAGE_MAX: usize = 4096;
/// Bytes that may wait for one client before it is dropped as a slow reader.
pub const SESSION_QUEUE_BYTES: usize = 8 << 20;
/// Frames waiting for one receiver leave together in writes of about this size, bytes.
pub const WRITE_BATCH_BYTES: usize = 64 * 1024;
/// Bytes of frames that all sessions together may have waiting for the server's core.
pub const CORE_QUEUE_BYTES: usize = 32 << 20;
/// Frames of one session that may wait for the server's core: each may cost it milliseconds, which others wait.
pub const FRAMES_PER_SESSION: usize = 128;
/// Posts of one key: so many at once, then so many a second. A script may send 10,000 lines, a flood reaches a room at its members' pace.
pub const POST_BURST: usize = 200;
/// See [`POST_BURST`].
pub const POSTS_PER_SECOND: usize = 1000;
/// Bytes of posts of one key: so many at once, then so many a second.
pub const POST_BURST_BYTES: usize = 512 * 1024;
/// See [`POST_BURST_BYTES`]. A thousand short lines are less, sealed.
pub const POST_BYTES_PER_SECOND: usize = 384 * 1024;
/// Connections in all, and from one address (an IPv6 /64 counts as one), which may hide many people.
pub const CONNECTIONS_MAX: usize = 10_000;
/// See [`CONNECTIONS_MAX`].
pub const CONNECTIONS_PER_ADDRESS: usize = 2_500;
/// Connections from one address that have not logged in yet.
pub const PENDING_PER_ADDRESS: usize = 64;
/// Connections in all that have not logged in yet; the oldest makes room for a new one.
pub const PENDING_MAX: usize = 1024;
/// A server's address must answer a connection attempt by then; after that the next address is tried.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// A TLS handshake must be over by then.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Login must follow the handshake by then.
pub const LOGIN_DEADLINE: Duration = Duration::from_secs(10);
/// A peer must take at least one byte of what waits for it in this time.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(30);
/// A silent client is asked after this time, and lost after three of them.
pub const KEEPALIVE: Duration = Duration::from_secs(15);
/// A request that the server has not answered by then has failed.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(20);
/// To find out how far a server is.
pub const MEASURE_DEADLINE: Duration = Duration::from_secs(1);
/// For a whole link where there are other servers to try, apart from the first link.
pub const ROAM_DEADLINE: Duration = Duration::from_secs(3);
/// Servers that were asked all at once have answered by then.
pub const SURVEY_DEADLINE: Duration = Duration::from_secs(2);
/// A lost client's leaf is removed after this time, counted from the loss or the server's start.
pub const LOST_GRACE: Duration = Duration::from_secs(600);
/// How long a joiner may hold the join lease of a room.
pub const JOIN_LEASE: Duration = Duration::from_secs(5);
/// Joiners that may wait for a room's lease.
pub const JOIN_QUEUE: usize = 256;
/// A named committer has this long to commit standing proposals.
pub const COMMITTER_DEADLINE: Duration = Duration::from_secs(2);
/// Argon2 hashes that run at once, and that wait, in the whole server.
pub const HASHES_RUNNING: usize = 2;
/// See [`HASHES_RUNNING`].
pub const HASHES_WAITING: usize = 64;
/// Door attempts of one address or one key in [`DOOR_WINDOW`].
pub const DOOR_ATTEMPTS: u32 = 20;
/// See [`DOOR_ATTEMPTS`].
pub const DOOR_WINDOW: Duration = Duration::from_secs(60);
/// Log rows in one reply to a catch-up request, and their bytes.
pub const LOG_PAGE_ROWS: usize = 256;
/// See [`LOG_PAGE_ROWS`].
pub const LOG_PAGE_BYTES: usize = 512 * 1024;
/// Rows of one answer to a search, and holders that may answer.
pub const SEARCH_ROWS: usize = 50;
/// See [`SEARCH_ROWS`].
pub const SEARCH_HOLDERS: usize = 32;
/// Searches of one person: so many at once, then one each time this has passed. Its own client holds to it; holders answer no more
/// than [`SEARCHES_ANSWERED`] of one person in a minute, for a modified client may not.
pub const SEARCH_BURST: u32 = 10;
/// See [`SEARCH_BURST`].
pub const SEARCH_EVERY: Duration = Duration::from_secs(1);
/// See [`SEARCH_BURST`]: a burst, a minute's worth, and some that a slow link has held up.
pub const SEARCHES_ANSWERED: usize = 90;
/// Candidates (addresses) in one file request or answer.
pub const CANDIDATES_MAX: usize = 16;
/// Rooms in one answer to `get_rooms`.
pub const ROOM_LIST_MAX: usize = 1000;
/// Rows of each room whose bytes the server knows again when they are repeated.
pub const REPEATS_KNOWN: usize = 1024;
/// Names that one key may own.
pub const NAMES_PER_KEY: usize = 8;
/// Names in all: they are kept for good, in memory too.
pub const NAMES_MAX: usize = 1 << 17;
/// Public and private rooms in all. A busy one takes some 100 KB of memory, a full one ten times that on the disk.
pub const ROOMS_MAX: usize = 4096;
/// Direct conversations in all; of more the quietest goes, and begins anew when one of its two speaks.
pub const DIRECTS_MAX: usize = 1 << 14;
/// Bytes of messages that the logs of all rooms keep together; the largest give way.
pub const LOGS_BYTES: u64 = 8 << 30;
/// New names and new rooms from one address in [`DOOR_WINDOW`].
pub const NEW_THINGS: u32 = 120;
/// New names from one address in [`NAMES_WINDOW`], or it could soon take all there are.
pub const NEW_NAMES: u32 = 2_500;
/// See [`NEW_NAMES`].
pub const NAMES_WINDOW: Duration = Duration::from_secs(24 * 3600);
/// Direct conversations that one key may begin in [`DOOR_WINDOW`], and that it may be in at once.
pub const NEW_DIRECTS: u32 = 60;
/// See [`NEW_DIRECTS`].
pub const DIRECTS_PER_CLIENT: usize = 512;
/// Lines to the operator from one key in [`DOOR_WINDOW`].
pub const OPERATOR_LINES: u32 = 30;
/// Commits and departures of one key in [`DOOR_WINDOW`]; each costs the server a millisecond or two, and 50 more with 1,000 members.
pub const COMMITS: u32 = 240;
/// So many members of its room make a commit count once more.
pub const COMMIT_MEMBERS: usize = 100;
/// Key packages of others that one key may take in [`DOOR_WINDOW`]: two for each conversation that it may begin.
pub const PACKAGES_TAKEN: u32 = 120;
/// Lists of rooms for one key in [`DOOR_WINDOW`]; with many large rooms each costs milliseconds.
pub const ROOM_LISTS: u32 = 30;
/// One address may hide many people, but not do more than this many keys may of what [`COMMITS`], [`PACKAGES_TAKEN`] and
/// [`ROOM_LISTS`] bound.
pub const BY_ADDRESS: u32 = 10;
/// Logins of one key in [`DOOR_WINDOW`], refused ones too: a link that breaks every second is still let in.
pub const LOGINS: u32 = 120;
/// Joins that one key asks for in [`DOOR_WINDOW`]: all its rooms, some times over.
pub const JOINS: u32 = 120;
/// The same as [`BY_ADDRESS`] for [`LOGINS`], [`JOINS`], [`NEW_DIRECTS`] and [`OPERATOR_LINES`]: as many people as one address may hide come back at once after a restart.
pub const MANY_BY_ADDRESS: u32 = 50;
/// Whoever is slowed down without a pause for so long is cut.
pub const FLOOD_MAX: Duration = Duration::from_secs(30);
/// ... and is told so much before that.
pub const FLOOD_NOTICE: Duration = Duration::from_secs(6);
/// Key packages left at which a client is asked for new ones.
pub const KEY_PACKAGES_LOW: usize = 8;
/// Hashes of one key that may wait or run.
pub const HASHES_PER_KEY: usize = 4;
/// Committers that are tried before newcomers are let in although a removal stands.
pub const COMMITTERS_TRIED: usize = 4;
/// The same where somebody was kicked or banned, who is to be out before anybody comes in.
pub const KICK_COMMITTERS_TRIED: usize = 16;
/// Wishes of operators that wait for owners of rooms to come back; in memory.
pub const WISHES_WAITING: usize = 256;
/// Catch-up requests of one client that may be under way.
pub const LOG_READS: usize = 64;
/// Jobs of other processes that a client does at once; each may be a transfer.
pub const CONTROL_JOBS: usize = 8;
/// Lines that may wait for one such process: some ten seconds of progress.
pub const CONTROL_LINES: usize = 128;
/// The line with which such a process asks, bytes: a room, a file name and a path, or an operator's question, in JSON.
pub const CONTROL_REQUEST_MAX: usize = ADMIN_ASK_MAX + 4096;
/// A line that it is told, bytes: names, and a path, in JSON escapes at the worst.
pub const CONTROL_LINE_MAX: u64 = 65_536;
/// Largest file or folder that is transferred, bytes (1 PiB): what its tree's numbering certainly carries.
pub const FILE_SIZE_MAX: u64 = 1 << 50;
/// One ask of an asker's stream, bytes of CBOR: four numbers.
pub const ASK_MAX: usize = 64;
/// Items that one ask may name.
pub const ITEMS_PER_ASK: u32 = 4096;
/// Asks that may wait for their answer at a holder.
pub const ASKS_WAITING: usize = 1024;
/// Answers that an asker awaits from one holder: some 100 bytes each.
pub const WANTS_MAX: usize = 16_384;
/// Pieces of a holder's stream that are laid out and not acknowledged: some 50 bytes each.
pub const PIECES_MAX: usize = 65_536;
/// Ranges in one word of a holder of a part about what it has, and such words in one transfer.
pub const HAVE_RANGES_MAX: usize = 1024;
/// See [`HAVE_RANGES_MAX`].
pub const HAVES_MAX: u32 = 4096;
/// Files of a folder that is sent as one.
pub const MANIFEST_FILES: usize = 100_000;
/// Folders in it, at every depth.
pub const MANIFEST_FOLDERS: usize = 100_000;
/// Bytes of all their paths together.
pub const MANIFEST_NAMES: usize = 8 << 20;
/// Folders within folders, the file itself counted.
pub const MANIFEST_DEPTH: usize = 32;
/// One file's path, bytes: what common systems take.
pub const MANIFEST_PATH: usize = 4000;
/// A folder's list of files, bytes of CBOR: paths, and at most 50 bytes beside each.
pub const MANIFEST_MAX: usize = 14 << 20;
/// Ranges of verified groups that are kept beside an unfinished file, and that state's bytes: some 20 for each range, and
/// the name.
pub const PARTIAL_RANGES: usize = 65_536;
/// See [`PARTIAL_RANGES`].
pub const PARTIAL_MAX: usize = 2 << 20;
/// Control that may wait for one neighbour before it is cut, bytes: the records of hundreds of servers, many times.
pub const MESH_CONTROL_BYTES: usize = 4 << 20;
/// Bulk that may wait for one neighbour, bytes; what finds no room is dropped, and repeated by its sender.
pub const MESH_BULK_BYTES: usize = 8 << 20;
/// Parcels that may wait for one neighbour, bytes; what finds no room is lost.
pub const MESH_PARCEL_BYTES: usize = 512 * 1024;
/// Bytes in one parcel: a relayed batch, and what it says of whose it is.
pub const MESH_PARCEL_MAX: usize = RELAY_LINK_BATCH + 1024;
/// Parcels that may wait between the server and its mesh, in each direction.
pub const MESH_PARCELS_WAITING: usize = 32;
/// Frames for a neighbour leave together in writes of about this size, bytes.
pub const MESH_WRITE_BYTES: usize = 64 * 1024;
/// So much is read from a neighbour before the node works on it, bytes.
pub const MESH_READ_BYTES: usize = 128 * 1024;
/// Such pieces of all neighbours together that may wait for the node; the neighbours wait meanwhile.
pub const MESH_PIECES_WAITING: usize = 64;
/// What the server may have waiting for the node, bytes.
pub const MESH_SEND_BYTES: usize = 16 << 20;
/// What may wait for the server, bytes; beyond it nothing is acknowledged until the server has caught up.
pub const MESH_EVENT_BYTES: usize = 32 << 20;
/// A neighbour that answers no ping, or takes nothing, for so long is cut.
pub const MESH_SILENCE: Duration = Duration::from_secs(2);
/// How often a neighbour is asked.
pub const MESH_PING: Duration = Duration::from_millis(500);
/// TLS and both hellos must be over by then.
pub const MESH_HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// Connections at the mesh port, in all and from one address.
pub const MESH_CONNECTIONS_MAX: usize = 1024;
/// Of them those that have not said who they are, in all and from one address; the oldest makes room for a new one.
pub const MESH_PENDING_MAX: usize = 768;
/// See [`MESH_PENDING_MAX`].
pub const MESH_PENDING_PER_ADDRESS: usize = 256;
/// Lines in the log about refused connections of one address and one kind are at least so far apart.
pub const MESH_LOG_PAUSE: Duration = Duration::from_secs(10);
/// A neighbour that is away is dialled again after so long at first.
pub const MESH_BACKOFF_MIN: Duration = Duration::from_millis(250);
/// While it is not long gone, it is never longer than this until the next attempt.
pub const MESH_BACKOFF_SOON: Duration = Duration::from_millis(1500);
/// So long after its loss it is long gone.
pub const MESH_LONG_GONE: Duration = Duration::from_secs(300);
/// The longest between two attempts.
pub const MESH_BACKOFF_MAX: Duration = Duration::from_secs(10);
/// What may wait or be under way for one other server, bytes; more voids what there is.
pub const MESH_QUEUE_BYTES: usize = 64 << 20;
/// With so much of it the server lets wait what can.
pub const MESH_FULL_BYTES: usize = 16 << 20;
/// A question of an operator, bytes of JSON: a restriction with its lists.
pub const ADMIN_ASK_MAX: usize = 32 * 1024;
/// Rows in one part of a list that an operator asks for: with long names some 200 KB.
pub const ADMIN_PAGE: usize = 250;
/// Questions of operators that wait for something beside the core.
pub const ADMIN_WAITING: usize = 64;
/// Acts that are kept; the oldest go.
pub const ACTS_MAX: u64 = 1 << 20;
/// Reasons that moderators give, bytes.
pub const REASON_MAX: usize = 512;
/// Why a file is refused, in words for people, bytes.
pub const REFUSAL_DETAIL_MAX: usize = 512;
/// Entries of each list in the register: bans, mutes, roles, rules.
pub const REGISTER_MAX: usize = 10_000;
/// An invitation as somebody wrote it down, bytes.
pub const TOKEN_TEXT_MAX: usize = 64;
/// The longest time for which something is muted, banned or open, seconds: a hundred years. What is to last longer is for good.
pub const TERM_MAX_S: u64 = 100 * 366 * 24 * 3600;
/// Rows of a list that has no pages, bytes of JSON: with all escapes they fit into a frame.
pub const ADMIN_LIST_BYTES: usize = 512 * 1024;
/// Bans of all servers together: each takes up to some 1.2 KB, and the most of one server is [`REGISTER_MAX`].
pub const BANS_MAX: usize = 50_000;
/// Bans of one other server that are taken in [`DOOR_WINDOW`]: each costs a verification and a write.
pub const BANS_TAKEN: u32 = 10_000;
/// Messages with bans that are taken of one other server in [`BANS_WINDOW`].
pub const BAN_PAGES: u32 = 256;
/// See [`BAN_PAGES`].
pub const BANS_WINDOW: Duration = Duration::from_secs(10);
/// Other servers' questions for bans that are answered in [`DOOR_WINDOW`], each.
pub const BAN_ANSWERS: u32 = 6;
/// Entries of each list in one rule on sharing.
pub const RULE_LIST_MAX: usize = 64;
/// A rule on sharing as the register keeps it, bytes: full lists would have more, which nobody needs.
pub const RULE_MAX: usize = 16 * 1024;
/// All rules of one server, signed, bytes: everybody gets them after each login.
pub const SHARING_MAX: usize = 128 * 1024;
/// What the patterns of one server's rules, or one room's, are read into: 32 bytes for each. Braces multiply a pattern.
pub const RULE_TOKENS_MAX: usize = 1 << 17;
/// Transfers that are remembered for quotas; beyond that the oldest of a person become one.
pub const LEDGER_ROWS: usize = 4096;
/// Questions of one person with a role in [`DOOR_WINDOW`]: each act is written down, and the oldest acts give way.
pub const QUESTIONS: u32 = 240;
/// Free on the server's disk; below that people's messages are refused, so that it does not end by a write that fails. Some seconds of
/// all that many busy clients may post.
pub const DISK_RESERVE: u64 = 64 << 20;
/// Below that moderators' acts are refused too.
pub const DISK_LAST: u64 = 2 << 20;
/// Legs of relayed transfers in all: some 300 bytes each.
pub const RELAY_LEGS: usize = 8192;
/// Of them, those of one user: as many transfers as it may run, and some that are being tried again.
pub const RELAY_LEGS_PER_USER: usize = 64;
/// A leg without a valid bind or a datagram for so long ends; a NAT has forgotten it by then too.
pub const RELAY_IDLE: Duration = Duration::from_secs(30);
/// A leg whose other side has not registered by then ends.
pub const RELAY_UNPAIRED: Duration = Duration::from_secs(120);
/// The legs of who has had no session at the server for so long end: longer than it takes to find back to one.
pub const RELAY_AWAY: Duration = Duration::from_secs(300);
/// Bytes are counted against the daily limits in windows of this length.
pub const RELAY_DAY: Duration = Duration::from_secs(24 * 3600);
/// Legs that one key may register in [`DOOR_WINDOW`].
pub const RELAY_REGISTRATIONS: u32 = 120;
/// Relayed bytes a second of one user where the operator sets nothing: more than most lines carry, less than a whole fast one.
pub const RELAY_USER_RATE: u64 = 512 << 20;
/// ... of all users together.
pub const RELAY_RATE: u64 = 1 << 30;
/// Relayed bytes of one user in [`RELAY_DAY`] where the operator sets nothing: large files, and not a line's worth around the clock.
pub const RELAY_USER_BYTES: u64 = 1 << 40;
/// ... of all users together.
pub const RELAY_BYTES: u64 = 16 << 40;
/// A direct path that has not answered so long after the channel began is not waited for: a relay is asked for. A leg takes some round
/// trips, so that the file goes over it when 3 s have passed.
pub const RELAY_AFTER: Duration = Duration::from_millis(2_500);
/// A leg is kept for so long after a direct path has taken over, and then let go.
pub const RELAY_SPARED: Duration = Duration::from_secs(30);
/// A server is not asked for another leg of a session that has fallen silent before so long has passed: the one that it gave may yet work.
pub const RELAY_ANEW: Duration = Duration::from_secs(4);
/// A leg is bound anew so often: within [`RELAY_IDLE`] several times, and soon after an address has changed.
pub const RELAY_BIND_EVERY: Duration = Duration::from_secs(5);
/// So many binds without an answer mean that UDP does not get through: the leg goes over the link.
pub const RELAY_BINDS_IN_VAIN: u32 = 6;
/// Bytes that may wait for a link while relayed datagrams are put behind them; beyond that these are dropped, so that no line of the
/// chat waits for more of them.
pub const RELAY_LINK_BYTES: usize = 256 * 1024;
/// Batches of relayed datagrams, each some 64 KiB at most, that may wait between two threads of a client.
pub const RELAY_BATCHES: usize = 16;
/// A bind that is not answered is sent again after this time.
pub const RELAY_BIND_AGAIN: Duration = Duration::from_millis(250);
/// Datagrams in one relayed batch on a link; what is more in it is lost. A client's batch has some 50, or a few hundred acknowledgements.
pub const RELAY_LINK_DATAGRAMS: usize = 1024;
/// Bytes of such a batch: 64 KiB of datagrams, and the length of each.
pub const RELAY_LINK_BATCH: usize = 96 * 1024;
/// Users whose relayed bytes of the day are remembered, some 150 bytes each; beyond that only these get a leg.
pub const RELAY_USERS: usize = 1 << 16;
